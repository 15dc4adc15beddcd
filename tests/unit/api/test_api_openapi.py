from __future__ import annotations

from mergescale import __version__
from mergescale.api.openapi import ERRORS
from support.aio import aio
from support.rest import served
from support.worlds import world

#: It gives tokens and takes none; its errors are those of RFC 6749.
TOKEN = "/api/v2/oauth/token"


@aio
async def test_the_description_tells_the_shapes_that_are_served() -> None:
    """Every operation below v2 has a description, both ways in, and Tailscale's error shape."""
    async with served(world("alice@example.com: ")) as site:
        answer = await site.anybody.get("/api/openapi.json")
        assert answer.status_code == 200
        described = answer.json()
    assert described["info"]["version"] == __version__
    assert set(described["components"]["securitySchemes"]) == {"bearer", "basic"}
    message = {"$ref": "#/components/schemas/Message"}
    operations = [
        (path, operation)
        for path, item in described["paths"].items()
        for operation in item.values()
        if path.startswith("/api/v2/") and path != TOKEN
    ]
    assert len(operations) == 68
    for path, operation in operations:
        assert operation["description"], path
        assert operation["security"] == [{"bearer": []}, {"basic": []}], path
        assert set(operation["responses"]) - {"412"} == {"200", *map(str, ERRORS)}, path
        for status in ERRORS:
            content = operation["responses"][str(status)]["content"]
            assert content == {"application/json": {"schema": message}}, path
    assert described["paths"][TOKEN]["post"]["security"] == []
    outside = {path for path in described["paths"] if not path.startswith("/api/v2/")}
    assert outside == {"/health", "/version"}
    device = described["components"]["schemas"]["Device"]
    assert device["properties"]["lastSeen"] == {
        "oneOf": [{"type": "string", "format": "date-time"}]
    }
    assert "lastSeen" not in device["required"]
    assert "nodeId" in device["required"]


@aio
async def test_no_viewer_is_served() -> None:
    """Ready-made viewers load themselves from elsewhere; only the document is here."""
    async with served(world("alice@example.com: ")) as site:
        for path in ("/api", "/api/swagger", "/api/redoc", "/schema", "/docs"):
            assert (await site.anybody.get(path)).status_code == 404

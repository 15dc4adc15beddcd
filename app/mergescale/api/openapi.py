"""What ``/api/openapi.json`` says beside the handlers' own signatures and docstrings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, License, SecurityScheme

from mergescale import __version__
from mergescale.api.problems import Message

#: Either is enough; requests by the server's unix socket need none.
SECURITY: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"basic": []}]
#: Where the document is served.
PATH: Final = "/api/openapi.json"


class Nothing(msgspec.Struct, frozen=True):
    """The answer to an action that has nothing to tell: ``{}``."""


def _error(description: str) -> ResponseSpec:
    return ResponseSpec(Message, description=description, generate_examples=False)


#: Answers that every endpoint below ``/api/v2`` may give.
ERRORS: Final[Mapping[int, ResponseSpec]] = {
    400: _error("The request cannot be understood, or asks for something that cannot be"),
    401: _error("No usable API token"),
    403: _error("The caller may not do this"),
    404: _error("No such thing in the caller's tailnet"),
    409: _error("It clashes with what there is"),
    413: _error("The body is too large"),
    503: _error("The server cannot write at the moment; nothing was changed"),
}


def openapi_config() -> OpenAPIConfig:
    """Return the configuration; only JSON, as every ready-made viewer loads itself from elsewhere."""
    schemes = {
        "bearer": SecurityScheme(
            type="http",
            scheme="bearer",
            description="An API token, `mskey-api-…`, or an access token of `/api/v2/oauth/token`",
        ),
        "basic": SecurityScheme(
            type="http", scheme="basic", description="An API token as user name, no password"
        ),
    }
    return OpenAPIConfig(
        title="Mergescale",
        version=__version__,
        description=(
            "Tailscale's API v2, as far as Mergescale has the things it is about, and extensions "
            "in the same style. `{tailnet}` is `-` or the name of the token's own tailnet. "
            "Requests by the server's unix socket need no token; `?tailnet=` says which one they "
            "mean where the path does not."
        ),
        license=License(name="BSD-3-Clause"),
        path=PATH,
        # The plugin's own path lies below PATH; with "/" the router answers there and nowhere else.
        render_plugins=[JsonRenderPlugin(path="/")],
        components=Components(security_schemes=dict(schemes)),
        use_handler_docstrings=True,
    )

"""Requests that the API's own description allows, and some that it forbids: never a 500.

Schemathesis makes them out of the served OpenAPI. They go straight into the application, which is
the real one on engines in memory; no socket is opened.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import cache
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode, openapi
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from support.in_process import LoopThread
from support.rest import Site, served
from support.worlds import world

PEOPLE = "alice@example.com: laptop, phone; bob@example.com: server; tag:web: web1"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
#: LIMIT: requests for each operation and mode; all of them together take some 40 s.
EXAMPLES = 12


class Api:
    """The application on a loop of its own, and a request at a time."""

    def __init__(self, thread: LoopThread, site: Site) -> None:
        self._thread = thread
        self.site = site

    def send(self, method: str, url: str, **more: Any) -> httpx.Response:
        return self._thread.run(self.site.operator.request(method, url, **more))

    def ids(self) -> dict[str, list[str]]:
        """Return what exists by the name of its path parameter, so that requests get deep."""
        snapshot = self.site.snapshot
        return {
            "tailnet": ["-"],
            "device_id": [node.stable_id for node in snapshot.nodes.values()],
            "user_id": [str(user) for user in snapshot.users],
            "key_id": [str(key) for key in snapshot.auth_keys],
        }

    def check(self, case: Case[Any], known: bool) -> None:
        """Send the request, with ids of what exists if `known`; what is answered conforms."""
        if known:
            found = self.ids()
            for name in case.path_parameters:
                if found.get(name):
                    case.path_parameters[name] = found[name][0]
        how = case.as_transport_kwargs(base_url=str(self.site.operator.base_url))
        data = how.pop("data", None)
        more = {name: how[name] for name in ("params", "json", "cookies") if how.get(name)}
        headers = {**(how.get("headers") or {}), **self.site.operator.headers}
        response = self.send(
            how["method"], how["url"], headers=headers, content=_bytes(data), **more
        )
        case.validate_response(response, checks=CHECKS)


def _bytes(data: Any) -> bytes | None:
    match data:
        case None | bytes():
            return data
        case str():
            return data.encode()
        case _:
            return repr(data).encode()


@cache
def document() -> dict[str, Any]:
    """Return the description; to render it takes as long as all requests of one operation."""
    with LoopThread() as thread:
        return thread.run(_document())


def operations() -> list[tuple[str, str, GenerationMode]]:
    """Return path, method and mode of all that is described; some have nothing to get wrong."""
    return [
        (path, method, mode)
        for path, methods in document()["paths"].items()
        for method, told in methods.items()
        for mode in GenerationMode
        if mode is GenerationMode.POSITIVE or told.get("parameters") or "requestBody" in told
    ]


async def _document() -> dict[str, Any]:
    async with served(world(PEOPLE)) as site:
        told: dict[str, Any] = (await site.operator.get("/api/openapi.json")).json()
        return told


@pytest.mark.parametrize(("path", "method", "mode"), operations())
def test_no_request_is_a_500(path: str, method: str, mode: GenerationMode) -> None:
    """Status, type and shape of each answer are as the description says."""
    resources = AsyncExitStack()
    with LoopThread() as thread:
        site = thread.run(resources.enter_async_context(served(world(PEOPLE), by_api=True)))
        api = Api(thread, site)
        operation = openapi.from_dict(document())[path][method]

        @seed(1)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(mode), known=st.booleans())
        def asking(case: Case[Any], known: bool) -> None:
            api.check(case, known)

        try:
            asking()
        finally:
            thread.run(resources.aclose())

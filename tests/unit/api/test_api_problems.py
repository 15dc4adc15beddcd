from __future__ import annotations

from litestar import Request, get
from litestar.datastructures import State
from structlog.testing import capture_logs

from mergescale.api.health import Checked, Health
from mergescale.api.problems import lowered
from mergescale.kernel.errors import (
    Conflict,
    Forbidden,
    Invalid,
    LocalProtocolError,
    MergescaleError,
    NotFound,
    Refusal,
    Unauthorized,
)
from mergescale.server.http import Parts, application
from mergescale.state.engine import EngineStopped
from mergescale.state.ports import StoreUnavailable
from support.aio import aio
from support.rest import client, served
from support.worlds import world

BUSY = "the server cannot write at the moment, nothing was changed"


@aio
async def test_each_family_of_errors_has_one_status() -> None:
    """A problem document says what was wrong, what to do, and under which code."""
    table: dict[MergescaleError, tuple[int, str, str]] = {
        NotFound("no such thing"): (404, "no such thing", "not-found"),
        Conflict("taken"): (409, "taken", "conflict"),
        Invalid("odd"): (400, "odd", "invalid"),
        Forbidden("no"): (403, "no", "forbidden"),
        Unauthorized("who?"): (401, "who?", "unauthorized"),
        Refusal("not now"): (400, "not now", "refused"),
        StoreUnavailable("INSERT failed"): (503, BUSY, "store.unavailable"),
        EngineStopped("stopping"): (503, BUSY, "engine.stopped"),
    }
    errors = {type(error).__name__: error for error in table}

    @get([f"/{name}" for name in errors], sync_to_thread=False)
    def refuse(request: Request[None, None, State]) -> None:
        raise errors[request.url.path.strip("/")]

    caller = client(application(Parts(api=[refuse], web=[])))
    for error, (status, detail, code) in table.items():
        answer = await caller.get(f"/{type(error).__name__}")
        body = answer.json()
        assert (answer.status_code, body["status"]) == (status, status)
        assert (body["detail"], body["code"]) == (detail, code)
        assert answer.headers["content-type"] == "application/problem+json"
        assert ("www-authenticate" in answer.headers) == (status == 401)
        assert ("retry-after" in answer.headers) == (status == 503)


@aio
async def test_help_follows_the_message() -> None:
    """Tailscale's shape has one member, so what to do about it stands behind a semicolon."""
    error = NotFound("no such key", help="list them")

    @get(["/api/v2/thing", "/thing"], sync_to_thread=False)
    def refuse() -> None:
        raise error

    caller = client(application(Parts(api=[refuse], web=[])))
    assert (await caller.get("/api/v2/thing")).json() == {"message": "no such key; list them"}
    problem = await caller.get("/thing")
    assert problem.json() == {
        "title": "Not Found",
        "status": 404,
        "detail": "no such key",
        "help": "list them",
        "code": "not-found",
        "requestId": problem.headers["x-request-id"],
    }


@aio
async def test_what_nobody_foresaw_is_in_the_log_and_nowhere_else() -> None:
    """The answer has the id under which the log tells the rest."""

    @get(["/api/v2/thing", "/thing"], sync_to_thread=False)
    def break_down() -> None:
        raise RuntimeError("secret internals")

    @get("/bug", sync_to_thread=False)
    def misuse() -> None:
        raise LocalProtocolError("secret internals")

    caller = client(application(Parts(api=[break_down, misuse], web=[])))
    for path in ("/api/v2/thing", "/thing", "/bug"):
        with capture_logs() as logs:
            answer = await caller.get(path)
        request_id = answer.headers["x-request-id"]
        assert answer.status_code == 500
        assert request_id in answer.text
        assert "secret" not in answer.text
        [entry] = logs
        error = entry.pop("exc_info")
        assert entry == {"event": "request.failed", "request": request_id, "log_level": "error"}
        assert "secret internals" in str(error)


@aio
async def test_what_the_framework_refuses_has_the_same_shape() -> None:
    """Unknown addresses, methods and sizes: Tailscale's shape below v2, a problem elsewhere."""
    async with served(world("alice@example.com: laptop")) as site:
        nothing, method = (
            "there is nothing at this address",
            "this address does not know this method",
        )
        for verb, path, status, text in (
            ("GET", "/api/v2/nothing", 404, nothing),
            ("GET", "/api/v2", 404, nothing),
            ("PUT", "/api/v2/device/1", 405, method),
            ("POST", "/api/v2/device/1/name", 413, "the body is too large"),
        ):
            answer = await site.operator.request(verb, path, content=b"x" * 70_000)
            assert (answer.status_code, answer.json()) == (status, {"message": text})
        for verb, path, status, text in (
            ("GET", "/api/v3", 404, nothing),
            ("GET", "/api/v2x", 404, nothing),
            ("POST", "/health", 405, method),
            ("GET", "/static/../../pages.py", 404, nothing),
        ):
            answer = await site.anybody.request(verb, path)
            body = answer.json()
            assert (answer.status_code, body["detail"]) == (status, text)
            assert answer.headers["content-type"] == "application/problem+json"
        wrong_method = await site.anybody.post("/health")
        assert set(wrong_method.headers["allow"].split(", ")) == {"GET", "OPTIONS"}


@aio
async def test_a_failed_write_is_told_and_changed_nothing() -> None:
    """The database's own words stay in the log."""
    async with served(world("alice@example.com: laptop")) as site:
        site.journal.fail_next = StoreUnavailable("UNIQUE constraint failed: nodes.name")
        answer = await site.local.post("/api/v2/device/1/name", json={"name": "other"})
        assert (answer.status_code, answer.json()) == (503, {"message": BUSY})
        assert answer.headers["retry-after"] == "5"
        assert set(site.snapshot.names) == {"laptop"}


@aio
async def test_every_answer_has_the_headers() -> None:
    """Pages, JSON, files, errors of handlers and of the framework: all are dressed."""

    async def fails() -> Checked:
        return Checked(Health.FAIL, "gone")

    async with served(world("alice@example.com: laptop"), checks={"part": fails}) as site:
        seen = set()
        for path in (
            "/",
            "/register/nobody",
            "/static/mergescale.css",
            "/static/nothing",
            "/health",
            "/version",
            "/robots.txt",
            "/api/openapi.json",
            "/api/v2/tailnet/-/devices",
            "/api/v2/nothing",
            "/nothing",
        ):
            headers = (await site.operator.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff", path
            assert headers["x-frame-options"] == "DENY", path
            assert headers["referrer-policy"] == "no-referrer", path
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none';"), path
            assert "frame-ancestors 'none'" in policy, path
            assert "unsafe" not in policy, path
            assert "cache-control" in headers, path
            seen.add(headers["x-request-id"])
        assert len(seen) == 11


@aio
async def test_the_id_of_a_request_is_never_the_callers() -> None:
    """Whoever chooses ids could write into the log's lines."""
    async with served(world("alice@example.com: laptop")) as site:
        answer = await site.anybody.get("/version", headers={"x-request-id": "mine\tforged"})
        assert "forged" not in answer.headers["x-request-id"]
        assert len(answer.headers["x-request-id"]) == 16


def test_words_of_a_library_become_ours() -> None:
    """Lower case at the start, names kept, and not longer than a line or two."""
    assert lowered("Expected `int`, got `str`") == "expected `int`, got `str`"
    assert lowered("JSON is malformed") == "JSON is malformed"
    assert lowered("") == ""
    assert len(lowered("Invalid enum value " + "x" * 5000)) == 200

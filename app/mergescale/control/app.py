"""The inner application: what a client asks over Noise, one handler a path (spec 2.8).

``control.bridge`` drives it with the proven machine key in ``request.state`` (``control.scope``).
Paths that are not here answer 404, which no client takes for fatal.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, cast

import structlog
from litestar import Litestar, Request, Response, get, patch, post
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response.base import ASGIResponse
from litestar.response.streaming import ASGIStreamingResponse
from litestar.status_codes import (
    HTTP_200_OK,
    HTTP_204_NO_CONTENT,
    HTTP_429_TOO_MANY_REQUESTS,
    HTTP_500_INTERNAL_SERVER_ERROR,
    HTTP_503_SERVICE_UNAVAILABLE,
)
from litestar.types import ASGIApp, HTTPResponseBodyEvent, Receive, Scope, Send

from mergescale.control.c2n import PATH as C2N_PATH
from mergescale.control.c2n import C2n
from mergescale.control.poll import Poller
from mergescale.control.register import Registrar
from mergescale.control.scope import PEER
from mergescale.control.sshcheck import SshGate
from mergescale.fanout.turns import Turns
from mergescale.kernel.errors import (
    Conflict,
    Forbidden,
    Invalid,
    MergescaleError,
    NotFound,
    RemoteProtocolError,
)
from mergescale.kernel.keys import MachineKey
from mergescale.state.engine import EngineStopped
from mergescale.state.ports import StoreUnavailable
from mergescale.state.throttle import (
    AUTH_KEY_HOST,
    AUTH_KEY_MACHINE,
    Throttle,
    TooManyAttempts,
    place,
)
from mergescale.wire.tailcfg.device_attr import decode_device_attributes
from mergescale.wire.tailcfg.encode import encode
from mergescale.wire.tailcfg.map_request import decode_map_request
from mergescale.wire.tailcfg.register import (
    RegisterRequest,
    RegisterResponse,
    decode_register_request,
    refused,
)

log = structlog.get_logger()

#: What goes wrong -> HTTP status. Clients try again with backoff whatever it is.
_STATUS: dict[type[MergescaleError], int] = {
    RemoteProtocolError: 400,
    Invalid: 400,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    StoreUnavailable: 503,
    EngineStopped: 503,
}

#: When to come back after a 503; clients of today have their own backoff, load balancers read it.
RETRY_AFTER_S = "5"

#: WIRE(capver 137): clients wait for Retry-After of a register request. To older ones a 429 is an
#: HTTP error like any other, so they get the text to show; those too come back, with growing pauses.
RETRY_AFTER_CAPVER = 137

_FRAMES = "application/octet-stream"

AnyRequest = Request[Any, Any, Any]


def machine_app(
    registrar: Registrar,
    poller: Poller,
    gate: SshGate,
    c2n: C2n,
    throttle: Throttle | None = None,
) -> Litestar:
    """Return the application behind every Noise connection.

    Args:
        registrar: answers register requests.
        poller: answers map requests.
        gate: answers whether an SSH login was approved.
        c2n: takes nodes' answers to requests of ours.
        throttle: bounds refused auth keys; None for no bound.
    """

    @post("/machine/register", status_code=HTTP_200_OK)
    async def register(request: AnyRequest) -> Response[bytes]:
        """Answer tailcfg.RegisterRequest."""
        wire = decode_register_request(await request.body())
        try:
            if throttle is None or not wire.auth_key:
                answer = await registrar.answer(_machine(request), wire, _host(request))
            else:
                answer = await _with_key(registrar, throttle, request, wire)
        except TooManyAttempts as error:
            if wire.version >= RETRY_AFTER_CAPVER:
                raise
            answer = refused(error.message)
        return Response(encode(answer), media_type="application/json")

    @post("/machine/map", status_code=HTTP_200_OK)
    async def map_(request: AnyRequest) -> ASGIApp:
        """Answer tailcfg.MapRequest."""
        wire = decode_map_request(await request.body())
        answer = await poller.answer(_machine(request), wire)
        if isinstance(answer, bytes):
            return ASGIResponse(body=answer, media_type=_FRAMES)
        return _Frames(iterator=answer, media_type=_FRAMES)

    @get("/machine/ssh/action/{source:int}/to/{target:int}")
    async def ssh_action(
        request: AnyRequest, source: FromPath[int], target: FromPath[int]
    ) -> Response[bytes]:
        """Answer with tailcfg.SSHAction."""
        asked = request.query_params
        user, check = asked.get("local_user", ""), asked.get("auth_id", "")
        action = await gate.answer(_machine(request), source, target, user, check)
        return Response(encode(action), media_type="application/json")

    @post(C2N_PATH + "{token:str}", status_code=HTTP_204_NO_CONTENT)
    async def answer_c2n(request: AnyRequest, token: FromPath[str]) -> None:
        """Take a node's answer to a request of ours; nobody reads what we say to it."""
        if not c2n.answer(_machine(request), token, await request.body()):
            raise NotFound("nobody waits for this")

    return Litestar(
        [register, map_, _attributes(poller), ssh_action, answer_c2n],
        openapi_config=None,
        logging_config=None,
        exception_handlers={Exception: _failure},
        # The bridge bounds bodies before they get here.
        request_max_body_size=None,
    )


def _attributes(poller: Poller) -> HTTPRouteHandler:
    """Return the handler of a device's own posture attributes."""

    @patch("/machine/set-device-attr", status_code=HTTP_200_OK)
    async def set_attributes(request: AnyRequest) -> Response[bytes]:
        """Answer tailcfg.SetDeviceAttributesRequest; clients read nothing but the status."""
        wire = decode_device_attributes(await request.body())
        await poller.set_attributes(_machine(request), wire)
        return Response(b"{}", media_type="application/json")

    return set_attributes


class Paced:
    """An application whose requests begin a few in each turn of the loop.

    After a restart everybody asks for a map at once, and the loop has others to serve as well.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._turns = Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry a request out when its turn has come."""
        await self._turns.mine()
        await self._app(scope, receive, send)


class _Frames(ASGIStreamingResponse):
    """A map stream, closed as soon as its client is gone (INVARIANT(streams are closed)).

    Litestar leaves a generator that was cancelled between two frames to the garbage collector.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with contextlib.aclosing(cast("AsyncGenerator[bytes, None]", self.iterator)):
            await super().__call__(scope, receive, send)

    async def send_body(self, send: Send, receive: Receive) -> None:
        """Send frames until they end or the client leaves.

        Litestar's loop would do, but it keeps the last frame while it waits for the next one, and the
        first is a whole map: half of what a client costs. And each stream that it cancels leaves a
        cycle behind, which only a collection of everything finds, and that stops the whole loop.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as life:
                watching = asyncio.create_task(_until_left(receive, life))
                try:
                    async for frame in self.iterator:
                        await send(_body(cast("bytes", frame), more=True))
                        del frame
                    await send(_body(b"", more=False))
                finally:
                    watching.cancel()


async def _until_left(receive: Receive, life: asyncio.Timeout) -> None:
    """End `life` when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    life.reschedule(asyncio.get_running_loop().time())


def _body(frame: bytes, *, more: bool) -> HTTPResponseBodyEvent:
    return {"type": "http.response.body", "body": frame, "more_body": more}


async def _with_key(
    registrar: Registrar, throttle: Throttle, request: AnyRequest, wire: RegisterRequest
) -> RegisterResponse:
    """Answer a request that shows an auth key; refused ones count, accepted ones never do."""
    machine = _machine(request)
    counted = ((AUTH_KEY_MACHINE, str(machine)), (AUTH_KEY_HOST, place(_host(request))))
    for allowance, who in counted:
        throttle.check(allowance, who)
    answer = await registrar.answer(machine, wire)
    if answer.error:
        for allowance, who in counted:
            await throttle.failed(allowance, who)
    return answer


def _machine(request: AnyRequest) -> MachineKey:
    machine: MachineKey = request.state[PEER]
    return machine


def _host(request: AnyRequest) -> str:
    return request.client.host if request.client is not None else ""


def _failure(request: AnyRequest, error: Exception) -> Response[str]:
    """Answer with a text: clients show the first 200 bytes of it.

    An empty 200 would be worse than any error: clients loop on "unexpected EOF" (spec 4.1).
    """
    match error:
        case TooManyAttempts(message=message, retry_after_s=retry_after_s):
            return _text(message, HTTP_429_TOO_MANY_REQUESTS, str(retry_after_s))
        case HTTPException(status_code=status, detail=detail):
            return _text(detail, status)
        case MergescaleError(message=message):
            status = next((s for kind, s in _STATUS.items() if isinstance(error, kind)), 500)
            if status != HTTP_500_INTERNAL_SERVER_ERROR:
                return _text(message, status)
    log.error("machine.failed", path=request.url.path, exc_info=error)
    return _text("internal error", HTTP_500_INTERNAL_SERVER_ERROR)


def _text(text: str, status: int, retry_after_s: str = "") -> Response[str]:
    if status == HTTP_503_SERVICE_UNAVAILABLE:
        retry_after_s = RETRY_AFTER_S
    headers = {"retry-after": retry_after_s} if retry_after_s else None
    return Response(text, status_code=status, media_type="text/plain", headers=headers)

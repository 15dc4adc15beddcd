"""``POST /hook/{id}``: where forges say that something was pushed.

The one address that strangers may send bodies to, so the order matters: who failed too often waits;
a body that is too long or too slow ends there; then comes the proof. Nothing of the body is ever
read as anything but bytes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol

from litestar import MediaType, Request, Response, post
from litestar.exceptions import ClientException, HTTPException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from mergescale.kernel.errors import NotFound, Unauthorized
from mergescale.state.throttle import Allowance, Throttle, TooManyAttempts, place

PATH: Final = "/hook"
#: LIMIT: how long a body may take to arrive; forges themselves give up after ten seconds.
READ_S: Final = 10.0
#: LIMIT: a forge with an old secret tries each push some times; the poll is still there.
WEBHOOK: Final = Allowance("webhook", 30, 10.0)


class Hook(Protocol):
    """The webhook of one tailnet; `gitops.webhooks.Webhook`."""

    @property
    def counts(self) -> Counter[str]:
        """Return outcome -> deliveries."""
        ...

    async def receive(self, headers: Mapping[str, str], body: bytes) -> str:
        """Take a delivery; return ``refused``, or what became of it."""
        ...

    async def pretend(self, headers: Mapping[str, str], body: bytes) -> None:
        """Do the work of `receive` and nothing of what it does."""
        ...


@dataclass(frozen=True, slots=True)
class Hooks:
    """The webhooks of this server.

    Attributes:
        known: by what stands for the tailnet in the address; not empty.
        strangers: outcomes of what was sent to addresses that there are not.
        throttle: bounds failed proofs.
        max_bytes: of a body.
    """

    known: Mapping[str, Hook]
    strangers: Counter[str]
    throttle: Throttle
    max_bytes: int


def hook_handler(hooks: Hooks) -> HTTPRouteHandler:
    """Return the handler."""

    @post(
        f"{PATH}/{{hook_id:str}}",
        status_code=HTTPStatus.ACCEPTED,
        request_max_body_size=hooks.max_bytes,
        media_type=MediaType.TEXT,
    )
    async def deliver(hook_id: FromPath[str], request: Request[Any, Any, Any]) -> Response[str]:
        """Take a delivery and answer at once; what it sets off is in the status."""
        hook = hooks.known.get(hook_id)
        counts = hooks.strangers if hook is None else hook.counts
        # By address of both ends: who fails at one tailnet, or at none, is not in the way of what a
        # forge that many share sends to another.
        sender = request.client.host if request.client is not None else ""
        who = f"{place(sender)} {hook_id if hook is not None else ''}"
        try:
            hooks.throttle.check(WEBHOOK, who)
        except TooManyAttempts:
            counts["throttled"] += 1
            raise
        body = await _body(request, counts)
        headers = _joined(request)
        if hook is not None:
            outcome = await hook.receive(headers, body)
            if outcome != "refused":
                return Response(outcome, status_code=HTTPStatus.ACCEPTED)
        else:
            # What is not there takes as long as what is.
            await next(iter(hooks.known.values())).pretend(headers, body)
            counts["unknown"] += 1
        await hooks.throttle.failed(WEBHOOK, who)
        if hook is None:
            raise NotFound("there is nothing at this address")
        raise Unauthorized("the signature does not match any secret of this webhook")

    return deliver


async def _body(request: Request[Any, Any, Any], counts: Counter[str]) -> bytes:
    """Return the body, all of it and in time."""
    try:
        async with asyncio.timeout(READ_S):
            return await request.body()
    except RequestEntityTooLarge:
        counts["too-large"] += 1
        raise
    except TimeoutError:
        counts["cut-off"] += 1
        raise HTTPException("", status_code=HTTPStatus.REQUEST_TIMEOUT) from None
    except HTTPException:
        # The framework calls it an error of the server when the sender hangs up.
        counts["cut-off"] += 1
        raise ClientException("the body did not arrive") from None


def _joined(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Return the headers by lower-case name; SPEC(RFC 9110 5.3): two of a name are one with a comma."""
    joined: dict[str, str] = {}
    for name, value in request.headers.multi_items():
        low = name.lower()
        joined[low] = f"{joined[low]}, {value}" if low in joined else value
    return joined

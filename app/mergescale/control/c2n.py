"""Requests from control to a node (c2n, spec 6.3): HTTP, the other way round.

The request travels as a PingRequest on the node's map stream; the node runs it against its own
handlers and posts the serialised HTTP response back over Noise.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from mergescale.fanout.hub import Client
from mergescale.kernel.clock import Entropy
from mergescale.kernel.errors import MergescaleError
from mergescale.kernel.keys import MachineKey
from mergescale.wire.tailcfg.encode import encode
from mergescale.wire.tailcfg.map_response import MapResponse, PingRequest

#: Where answers go; the host part is not looked at, as everything goes over Noise.
PATH: Final = "/machine/c2n/"
_TOKEN_BYTES: Final = 16


class NoAnswer(MergescaleError):
    """Raised when a node did not answer in time; busy, suspended and old clients never do."""

    code = "c2n.no-answer"


@dataclass(frozen=True, slots=True)
class _Call:
    machine: MachineKey
    answer: asyncio.Future[bytes]


@dataclass(slots=True)
class C2n:
    """Requests under way."""

    entropy: Entropy
    _calls: dict[str, _Call] = field(default_factory=dict)

    async def ask(
        self, client: Client, machine: MachineKey, request: bytes, timeout_s: float = 10
    ) -> bytes:
        """Send a request to the node at the other end of a map stream; return its response.

        Args:
            client: the node's stream.
            machine: the node's machine key; only that machine can answer.
            request: a whole HTTP/1.1 request, e.g. ``GET /echo HTTP/1.1...``.
            timeout_s: how long to wait.

        Returns:
            A whole HTTP/1.1 response, possibly without a Content-Length.

        Raises:
            NoAnswer: nothing came in time.
        """
        # WIRE(PingRequest): a client skips a URL it has seen before, so each one is new.
        token = self.entropy.bytes(_TOKEN_BYTES).hex()
        call = _Call(machine, asyncio.get_running_loop().create_future())
        self._calls[token] = call
        ping = PingRequest(
            url=f"https://unused{PATH}{token}",
            url_is_noise=True,
            types="c2n",
            payload=request,
        )
        try:
            client.interject(encode(MapResponse(ping_request=ping)))
            async with asyncio.timeout(timeout_s):
                return await call.answer
        except TimeoutError:
            raise NoAnswer("the node did not answer in time") from None
        finally:
            del self._calls[token]

    def answer(self, machine: MachineKey, token: str, response: bytes) -> bool:
        """Take a node's response; say whether somebody waits for it from this machine."""
        call = self._calls.get(token)
        if call is None or call.machine != machine or call.answer.done():
            return False
        call.answer.set_result(response)
        return True

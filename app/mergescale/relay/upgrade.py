"""``/derp`` with ``Upgrade: DERP``: the native way into the relay (spec 7.1)."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from mergescale.relay.channel import Channel
from mergescale.relay.service import DerpService
from mergescale.wire.derp.frames import PROTOCOL_VERSION
from mergescale.wire.httphead import Rejection, RequestHead, switching_protocols

PATH = "/derp"
PROTOCOL = "DERP"
FAST_START = b"derp-fast-start"


class Registry(Protocol):
    """What is open in this process, for an orderly stop; uvicorn's ``ServerState`` is one.

    Attributes:
        connections: protocols with ``shutdown`` and ``abort``.
    """

    connections: set[Any]


class Derp:
    """Takes ``/derp`` over from the edge, with any method; see ``server.edge.Takeover``."""

    def __init__(self, service: DerpService) -> None:
        self._service = service
        self._switching = switching_protocols(
            PROTOCOL,
            ("Derp-Version", str(PROTOCOL_VERSION)),
            ("Derp-Public-Key", service.public_key.raw.hex()),
        )

    def __call__(self, request: RequestHead, registry: Registry) -> asyncio.Protocol | Rejection:
        """Answer one upgrade.

        A client that learnt our key from the certificate asks for a fast start: it has sent its
        first frame already and reads frames, no HTTP response.
        """
        fast = request.header(FAST_START) == b"1"
        self._service.doors.fast += fast
        return Channel(
            self._service,
            registry.connections,
            stall_s=self._service.limits.stall_s,
            greeting=b"" if fast else self._switching,
        )

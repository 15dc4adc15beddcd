"""A real edge on loopback with a relay behind it.

::

    async with relaying(known) as at:
        async with at.client(ALICE) as alice: ...
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from litestar import Litestar

from mergescale.kernel.keys import NodeKey, PrivateKey
from mergescale.relay.http import relay_handlers
from mergescale.relay.limits import Limits
from mergescale.relay.service import Admission, DerpService
from mergescale.relay.upgrade import Derp
from mergescale.server.certificate import RelayCertificate
from mergescale.server.edge import Edge
from mergescale.server.listeners import TcpListener
from mergescale.server.takeover import Claim
from mergescale.wire.derp import node_key
from support.derp_client import DerpClient

RELAY = PrivateKey(b"\x11" * 32)
ALICE = PrivateKey(b"\x22" * 32)
BOB = PrivateKey(b"\x33" * 32)
CAROL = PrivateKey(b"\x44" * 32)


class RandomEntropy:
    """The system's randomness."""

    def bytes(self, count: int) -> bytes:
        return os.urandom(count)


class Known:
    """An admission: a set of keys that a test changes.

    Attributes:
        keys: who may connect.
        broken: raise instead of answering.
    """

    def __init__(self, *nodes: PrivateKey) -> None:
        self.keys: set[NodeKey] = {node_key(node) for node in nodes}
        self.broken = False

    def __call__(self, key: NodeKey) -> bool:
        if self.broken:
            raise LookupError("the admission is broken")
        return key in self.keys


@dataclass
class Relaying:
    """A running relay.

    Attributes:
        edge: its edge.
        service: the relay.
    """

    edge: Edge
    service: DerpService

    @property
    def port(self) -> int:
        """TCP port."""
        port: int = self.edge.addresses[0][1]
        return port

    def client(self, private: PrivateKey, **more: Any) -> AbstractAsyncContextManager[DerpClient]:
        """Return a client to connect."""
        return DerpClient.connect("127.0.0.1", self.port, private=private, **more)


@contextlib.asynccontextmanager
async def relaying(
    admission: Admission | None = None,
    *,
    limits: Limits | None = None,
    certificate: RelayCertificate | None = None,
) -> AsyncGenerator[Relaying, None]:
    """Serve until the block ends, then stop with one second of grace."""
    known = admission or Known(ALICE, BOB, CAROL)
    service = DerpService(RELAY, known, RandomEntropy(), limits)
    tls = certificate.context() if certificate else None
    edge = Edge(
        Litestar(relay_handlers(service), openapi_config=None),
        [TcpListener("127.0.0.1", 0, tls)],
        {Claim("/derp", "derp"): Derp(service)},
    )
    await edge.start()
    try:
        yield Relaying(edge, service)
    finally:
        await edge.stop(1)

"""Two clients that reach each other through the relay only."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from typing import Any, Final

from bench.machine import Machine
from bench.results import Figure
from bench.site import Site
from mergescale.kernel.keys import NodeKey
from mergescale.wire.derp import ClientSession, FrameType
from mergescale.wire.derp.client import Connected
from mergescale.wire.derp.frames import HEADER_BYTES, encode

#: A WireGuard packet of a tunnel with Tailscale's MTU of 1280.
PACKET_BYTES: Final = 1312
_BURST: Final = 32
_FOR_S: Final = 3.0
_OPEN_S: Final = 10.0
_KEY_BYTES: Final = 32


class RelayClient(asyncio.Protocol):
    """A DERP client; after its handshake it counts packets and reads nothing else of them.

    Attributes:
        opened: done when the relay has let it in.
        packets: received so far.
        writable: the socket takes more.
    """

    def __init__(self, machine: Machine) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.packets = 0
        self.writable = asyncio.Event()
        self.writable.set()
        self._session = ClientSession(machine.private, os.urandom(24))
        self._transport: Any = None
        self._head: bytes | None = b""
        self._pending = b""

    def connection_made(self, transport: Any) -> None:
        """Ask for the upgrade."""
        self._transport = transport
        transport.write(
            b"GET /derp HTTP/1.1\r\nHost: relay\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        """Shake hands, then count."""
        if self._head is not None:
            self._head += data
            head, blank, data = self._head.partition(b"\r\n\r\n")
            if not blank:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._transport.abort()
                return
            self._head = None
        if self.opened.done():
            self._count(data)
            return
        connected = any(isinstance(one, Connected) for one in self._session.receive(data))
        if out := self._session.take():
            self._transport.write(out)
        if connected:
            self.opened.set_result(None)

    def _count(self, data: bytes) -> None:
        data = self._pending + data
        at, size = 0, len(data)
        while size - at >= HEADER_BYTES:
            end = at + HEADER_BYTES + int.from_bytes(data[at + 1 : at + HEADER_BYTES], "big")
            if end > size:
                break
            self.packets += data[at] == FrameType.RECV_PACKET
            at = end
        self._pending = data[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        """Let nobody wait."""
        self.writable.set()
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionError("the relay closed the connection"))

    def pause_writing(self) -> None:
        """The relay takes no more for now."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """The relay takes more."""
        self.writable.set()

    async def flood(self, destination: NodeKey, until: float) -> int:
        """Send packets as fast as the relay takes them until a monotonic time; return how many."""
        packet = encode(FrameType.SEND_PACKET, destination.raw, os.urandom(PACKET_BYTES))
        burst, sent = packet * _BURST, 0
        while time.monotonic() < until and not self._transport.is_closing():
            self._transport.write(burst)
            sent += _BURST
            await self.writable.wait()
            await asyncio.sleep(0)
        return sent

    def close(self) -> None:
        """Close now."""
        self._transport.abort()


async def throughput(
    site: Site, one: Machine, other: Machine, clients: int, rounds: int
) -> list[Figure]:
    """Send packets of one client to another and count what arrives; the relay may drop some."""
    rates: list[float] = []
    arrived_share: list[float] = []
    for _ in range(rounds):
        sender, receiver = await _dial(site, one), await _dial(site, other)
        start, before = time.monotonic(), receiver.packets
        sent = await sender.flood(other.node, start + _FOR_S)
        arrived = receiver.packets - before
        rates.append(arrived * PACKET_BYTES * 8 / (time.monotonic() - start) / 1e6)
        arrived_share.append(arrived / max(1, sent))
        sender.close()
        receiver.close()
    note = f"{PACKET_BYTES} B packets over TLS, {100 * max(arrived_share):.0f} % arrive"
    return [
        Figure("relay, one client to another", clients, tuple(rates), "Mbit/s", 200, True, note)
    ]


async def _dial(site: Site, machine: Machine) -> RelayClient:
    loop = asyncio.get_running_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The certificate is pinned in the DERP map; here only its cost matters.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _, client = await loop.create_connection(
        lambda: RelayClient(machine), "127.0.0.1", site.replicas[0].relay_port, ssl=context
    )
    async with asyncio.timeout(_OPEN_S):
        await client.opened
    return client

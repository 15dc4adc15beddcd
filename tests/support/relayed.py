"""Relay channels in memory: no sockets, and a test decides when a client's buffer is full."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from mergescale.kernel.keys import NodeKey, PrivateKey
from mergescale.relay.channel import Channel
from mergescale.relay.service import DerpService
from mergescale.wire.derp import ClientSession, node_key
from mergescale.wire.derp.client import ClientEvent


class FixedEntropy:
    """Every byte is the same."""

    def __init__(self, byte: int = 0) -> None:
        self.byte = byte

    def bytes(self, count: int) -> bytes:
        return bytes([self.byte]) * count


@dataclass
class MemoryPipe:
    """Where a channel writes.

    Attributes:
        writes: what was written when, and not taken by the client yet.
        waiting: what the channel is told has not left.
        ended: when and how the channel ended.
    """

    writes: list[tuple[float, bytes]] = field(default_factory=list)
    waiting: int = 0
    high: int = 0
    ended: list[tuple[float, str]] = field(default_factory=list)

    def write(self, data: bytes) -> None:
        self.writes.append((asyncio.get_running_loop().time(), data))

    def close(self) -> None:
        self.ended.append((asyncio.get_running_loop().time(), "close"))

    def abort(self) -> None:
        self.ended.append((asyncio.get_running_loop().time(), "abort"))

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high


class Client:
    """A client at the other end of a channel; make it inside a running loop."""

    def __init__(self, service: DerpService, private: PrivateKey) -> None:
        self.pipe = MemoryPipe()
        self.key: NodeKey = node_key(private)
        self.session = ClientSession(private, bytes(24))
        self.open_channels: set[object] = set()
        self.channel = Channel(service, self.open_channels, stall_s=2.0)
        self.channel.connection_made(self.pipe)

    def exchange(self) -> list[ClientEvent]:
        """Carry bytes both ways until nothing moves; return what the client saw."""
        seen: list[ClientEvent] = []
        while True:
            if out := self.session.take():
                self.channel.data_received(out)
            if not self.pipe.writes:
                return seen
            arrived = b"".join(data for _, data in self.pipe.writes)
            self.pipe.writes.clear()
            seen += self.session.receive(arrived)

    def send(self, other: Client, *packets: bytes) -> None:
        """Send packets in one chunk."""
        for packet in packets:
            self.session.send(other.key, packet)
        self.channel.data_received(self.session.take())

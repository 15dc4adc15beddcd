"""STUN on UDP: tells a client the address and port that its packets come from (spec 7.7).

One socket per family. A client takes an answer only from the address that it asked (spec 9.3,
52), and a host may have many: so on Linux each answer leaves from the very address its question
was sent to (``IP_PKTINFO``, ``IPV6_PKTINFO``), also when the sockets are bound to the wildcard.
asyncio's datagram transports cannot say that, hence plain sockets with a reader on the loop.
Elsewhere the kernel chooses the source: bind a concrete address on hosts that have several.

Only what ``wire.stun`` takes for a Tailscale client's request is answered, so that the port is no
amplifier; the answer goes out at once or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import sys
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from mergescale.kernel.errors import RemoteProtocolError
from mergescale.wire import stun

#: A request has 40 bytes; whatever does not fit here is none, and is cut.
_DATAGRAM_BYTES: Final = 576
#: LIMIT: datagrams per turn of the loop and socket, about a millisecond of work.
_BATCH: Final = 32
#: linux/in.h; Python 3.11 has no name for it. Zero: not to be had on this system.
_IP_PKTINFO: Final = 8 if sys.platform == "linux" else 0
#: struct in_pktinfo: interface index, local address, destination address.
_PKTINFO: Final = struct.Struct("=i4s4s")
#: struct in6_pktinfo: address, interface index.
_PKTINFO6: Final = struct.Struct("=16sI")
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(_PKTINFO6.size)
_WILDCARDS: Final = ("", "::", "0.0.0.0")  # noqa: S104 - to recognise it

Ancillary = list[tuple[int, int, bytes]]


@dataclass(slots=True)
class StunCounters:
    """What came since the start.

    Attributes:
        answered: requests that were answered.
        ignored: datagrams that are no request of a client.
        failed: answers that the kernel did not take.
    """

    answered: int = 0
    ignored: int = 0
    failed: int = 0


class StunServer:
    """Answers binding requests on the running loop between `start` and `stop`.

    Attributes:
        counters: for metrics.
    """

    def __init__(self, host: str, port: int = stun.DEFAULT_PORT) -> None:
        """Prepare; nothing is opened before `start`.

        Args:
            host: an address, or a name, all of whose addresses are bound; ``::`` or empty for
                every address of both families, ``0.0.0.0`` for every one of IPv4.
            port: 0 picks a free one, the same for all sockets.
        """
        self.counters = StunCounters()
        self._host = host
        self._port = port
        self._sockets: list[socket.socket] = []

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Return host and port of each socket."""
        return [sock.getsockname()[:2] for sock in self._sockets]

    async def start(self) -> None:
        """Bind and answer.

        Raises:
            OSError: an address cannot be had; of the wildcards, one family may be missing.
        """
        loop = asyncio.get_running_loop()
        port = self._port
        try:
            for family, host in await _addresses(self._host):
                sock = _bind(family, host, port, may_miss=self._host in _WILDCARDS)
                if sock is not None:
                    self._sockets.append(sock)
                    port = sock.getsockname()[1]
        except OSError:
            self.stop()
            raise
        if not self._sockets:
            raise OSError(errno.EADDRNOTAVAIL, "no address to answer stun at")
        for sock in self._sockets:
            loop.add_reader(sock.fileno(), self._answer_batch, sock)

    def stop(self) -> None:
        """Close; idempotent."""
        for sock in self._sockets:
            with contextlib.suppress(RuntimeError):  # never started, or its loop is gone
                asyncio.get_running_loop().remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()

    def _answer_batch(self, sock: socket.socket) -> None:
        for _ in range(_BATCH):
            try:
                data, ancillary, _, source = sock.recvmsg(_DATAGRAM_BYTES, _ANCILLARY_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # An ICMP error that an earlier answer caused; it says nothing of the next one.
                continue
            self._answer(sock, data, ancillary, source)

    def _answer(self, sock: socket.socket, data: bytes, ancillary: Ancillary, source: Any) -> None:
        host, port = source[0], source[1]
        try:
            transaction = stun.parse_request(data)
        except RemoteProtocolError:
            self.counters.ignored += 1
            return
        # A link-local source has its interface behind a percent sign.
        answer = stun.response(transaction, ip_address(host.partition("%")[0]), port)
        try:
            sock.sendmsg([answer], _from_where_it_was_asked(ancillary), 0, source)
        except OSError:
            # A full buffer or no route back. Clients ask again.
            self.counters.failed += 1
        else:
            self.counters.answered += 1


async def _addresses(host: str) -> list[tuple[int, str]]:
    """Return family and address of each socket to bind; IPv6 first."""
    if host in {"", "::"}:
        return [(socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")]  # noqa: S104 - asked for
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    addresses = {(int(family), str(address[0])) for family, _, _, _, address in found}
    return sorted(addresses, reverse=True)


def _bind(family: int, host: str, port: int, *, may_miss: bool) -> socket.socket | None:
    """Return a bound socket, or None when the system lacks the family and that is all right."""
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM)
    except OSError:
        if may_miss:
            return None
        raise
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            # The same port of IPv4 has a socket of its own.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif _IP_PKTINFO:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        if may_miss and error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
            return None
        raise
    return sock


def _from_where_it_was_asked(ancillary: Ancillary) -> Ancillary:
    """Turn what the kernel told of a question into what to tell it of the answer.

    The interface is left to routing: the way back need not be the way in.
    """
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO and len(data) == _PKTINFO.size:
            _, local, _ = _PKTINFO.unpack(data)
            return [(level, kind, _PKTINFO.pack(0, local, bytes(4)))]
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            address, _ = _PKTINFO6.unpack(data)
            return [(level, kind, _PKTINFO6.pack(address, 0))]
    return []

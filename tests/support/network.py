"""Whether real clients can start on this machine, and a network of their own where they cannot.

Tailscale's Go client waits for the network while the machine has loopback addresses only, so a
container without a network stalls it before its first request.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_SIOCGIFADDR = 0x8915
_SIOCSIFADDR = 0x8916
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
#: For benchmarks of networks (RFC 2544); nobody routes it.
_OWN_ADDRESS = IPv4Address("198.18.0.1")


def has_network() -> bool:
    """Say whether some interface has an address that is neither loopback nor link-local."""
    return _has_ipv6() or any(
        not address.is_loopback and not address.is_link_local
        for _, name in socket.if_nameindex()
        if (address := _address_of(name)) is not None
    )


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """Move this thread, and whatever it starts, into a network of its own for the block.

    The network is loopback with one more address, so what runs in it cannot reach anybody else.

    Raises:
        PermissionError: the system does not let this process do so.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open(f"/proc/self/task/{_thread()}/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_CLONE_NEWNET) != 0:
            raise PermissionError(ctypes.get_errno(), "no network namespace can be made")
        try:
            _bring_up("lo")
            _assign("lo:1", _OWN_ADDRESS)
            yield
        finally:
            assert libc.setns(home, _CLONE_NEWNET) == 0
    finally:
        os.close(home)


def _thread() -> str:
    return Path("/proc/thread-self").readlink().name


def _has_ipv6() -> bool:
    """Say whether there is a global IPv6 address; the fourth column is the scope, 00 for global."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/net/if_inet6").read_text("ascii").splitlines()
        return any(line.split()[3] == "00" for line in lines)
    return False


def _address_of(interface: str) -> IPv4Address | None:
    try:
        answer = _ask(_SIOCGIFADDR, struct.pack("16s16x8x", interface.encode()))
    except OSError:
        return None
    return IPv4Address(answer[20:24])


def _bring_up(interface: str) -> None:
    name = interface.encode()
    answer = _ask(_SIOCGIFFLAGS, struct.pack("16s24x", name))
    flags = struct.unpack_from("H", answer, 16)[0] | _IFF_UP
    _ask(_SIOCSIFFLAGS, struct.pack("16sH22x", name, flags))


def _assign(interface: str, address: IPv4Address) -> None:
    where = struct.pack("HH4s8x", socket.AF_INET, 0, address.packed)
    _ask(_SIOCSIFADDR, struct.pack("16s16s8x", interface.encode(), where))


def _ask(request: int, interface: bytes) -> bytes:
    """Ask the kernel about an interface; ``struct ifreq`` in and out (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        answer: bytes = fcntl.ioctl(control, request, interface)
        return answer

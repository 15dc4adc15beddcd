"""From the header list of an HTTP/2 request to an ASGI scope.

Inside Noise every request carries who sent it: ``scope["state"]`` holds exactly

* ``"peer"``: the `MachineKey` that the handshake proved, and
* ``"capability_version"``: the int of the client's initiation.

Nothing of a request can set or change them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from mergescale.kernel.errors import RemoteProtocolError
from mergescale.kernel.keys import MachineKey
from mergescale.wire.httphead import split_target

PEER = "peer"
CAPABILITY_VERSION = "capability_version"


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a channel.

    Attributes:
        machine: the key the handshake proved.
        version: the client's capability version.
        client: remote address and port, None when unknown.
        server: local address and port, None when unknown.
    """

    machine: MachineKey
    version: int
    client: tuple[str, int] | None = None
    server: tuple[str, int | None] | None = None


def request_scope(headers: Iterable[tuple[bytes, bytes]], peer: Peer) -> dict[str, Any]:
    """Return the ASGI HTTP scope of one request.

    The authority becomes the ``host`` header and decides nothing: clients send their control
    host, a bare host or the word ``unused`` (spec 2.7). An absolute ``:path`` loses its origin.

    Raises:
        RemoteProtocolError: no method or path, as with CONNECT.
    """
    pseudo: dict[bytes, bytes] = {}
    plain: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name.startswith(b":"):
            pseudo[bytes(name)] = bytes(value)
        else:
            plain.append((bytes(name), bytes(value)))
    if authority := pseudo.get(b":authority"):
        plain = [(b"host", authority), *(pair for pair in plain if pair[0] != b"host")]
    method, target = pseudo.get(b":method"), pseudo.get(b":path")
    if not method or not target or method == b"CONNECT":
        raise RemoteProtocolError("a request without a path")
    raw_path, _, query = split_target(target)[1].partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "2",
        "method": method.decode("latin-1"),
        "scheme": pseudo.get(b":scheme", b"https").decode("latin-1"),
        "path": unquote(raw_path.decode("latin-1")),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": plain,
        "client": peer.client,
        "server": peer.server,
        "state": {PEER: peer.machine, CAPABILITY_VERSION: peer.version},
        "extensions": {},
    }

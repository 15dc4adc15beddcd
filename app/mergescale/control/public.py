"""What control answers outside Noise: ``/key``, ``/verify``, ``/bootstrap-dns``, ``/generate_204``.

``/key`` is the trust anchor of a client (spec 1.2): everything after it is protected by the key it
tells. ``/verify`` is how other DERP servers ask whether a node is ours (spec 7.6).
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Collection
from typing import Annotated, Any, Final

import msgspec
from litestar import Response, get, head, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, HeaderParameter, RawBody
from litestar.status_codes import HTTP_200_OK, HTTP_204_NO_CONTENT, HTTP_400_BAD_REQUEST

from mergescale.kernel.errors import Invalid
from mergescale.kernel.keys import MachineKey, NodeKey
from mergescale.state.tailnets import Tailnets

#: LIMIT: headscale's; an admission request has about 150 bytes.
_VERIFY_BYTES: Final = 4096
#: WIRE(captive portal): what a challenge may look like; anything else is not echoed (spec 7.5).
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9.\-_:]{1,64}")
#: WIRE(/key): older clients do not know the Noise transport.
_NOISE_SINCE: Final = 39
_RESOLVE_S: Final = 2.0


class Admission(msgspec.Struct, rename="pascal"):
    """tailcfg.DERPAdmitClientRequest."""

    node_public: str
    source: str = ""


def public_handlers(
    tailnets: Tailnets, key: MachineKey, hosts: Callable[[], Collection[str]]
) -> list[HTTPRouteHandler]:
    """Return the handlers.

    Args:
        tailnets: who may use a relay.
        key: the server's Noise public key.
        hosts: names that ``/bootstrap-dns`` resolves: the server's own and its relays', so that
            it is no open resolver.
    """
    # The pre-2022 key encrypts nothing, but a zero one makes Go ask again at every login.
    body = msgspec.json.encode({"legacyPublicKey": str(key), "publicKey": str(key)})

    @get("/key", sync_to_thread=False)
    def read_key(v: FromQuery[int | None] = None) -> Response[bytes]:
        """Tell the server's Noise key (tailcfg.OverTLSPublicKeyResponse)."""
        if v is None or v < _NOISE_SINCE:
            text = b"this server needs a client that speaks the Noise protocol"
            return Response(text, status_code=HTTP_400_BAD_REQUEST, media_type="text/plain")
        # A client in a browser asks from another origin.
        headers = {"access-control-allow-origin": "*"}
        return Response(body, media_type="application/json", headers=headers)

    @post("/verify", status_code=HTTP_200_OK, request_max_body_size=_VERIFY_BYTES)
    async def verify(body: RawBody) -> dict[str, bool]:
        """Say whether a node key is one of ours; whatever is not understood is not allowed."""
        try:
            admission = msgspec.json.decode(body, type=Admission)
            node_key = NodeKey.parse(admission.node_public)
        except (msgspec.DecodeError, Invalid):
            return {"Allow": False}
        return {"Allow": tailnets.knows_node_key(node_key)}

    @get("/bootstrap-dns")
    async def bootstrap_dns(q: FromQuery[str] = "") -> Response[dict[str, list[str]]]:
        """Resolve one of our own names for a client whose system DNS is broken."""
        wanted = hosts() if not q else {q} & set(hosts())
        found = await asyncio.gather(*(_resolve(host) for host in wanted))
        answer = dict(zip(wanted, found, strict=True))
        return Response(answer, headers={"access-control-allow-origin": "*"})

    @get("/generate_204", status_code=HTTP_204_NO_CONTENT, sync_to_thread=False)
    def generate_204(
        challenge: Annotated[str, HeaderParameter(name="X-Tailscale-Challenge")] = "",
    ) -> Response[None]:
        """Show that no captive portal is between us."""
        return _no_content(challenge)

    @head("/generate_204", status_code=HTTP_204_NO_CONTENT, sync_to_thread=False)
    def head_204() -> Response[None]:
        """Do the same for HEAD."""
        return _no_content("")

    return [read_key, verify, bootstrap_dns, generate_204, head_204]


def _no_content(challenge: str) -> Response[None]:
    headers: dict[str, Any] = {"cache-control": "no-cache, no-store, must-revalidate"}
    if _CHALLENGE.fullmatch(challenge):
        headers["x-tailscale-response"] = f"response {challenge}"
    return Response(None, status_code=HTTP_204_NO_CONTENT, headers=headers)


async def _resolve(host: str) -> list[str]:
    """Return the host's addresses; none when it does not resolve in time."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_RESOLVE_S):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        return []
    return list(dict.fromkeys(str(address[0]) for *_, address in found))

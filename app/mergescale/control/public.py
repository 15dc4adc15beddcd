"""What control answers outside Noise: ``/key``, ``/verify``, ``/bootstrap-dns``, ``/generate_204``.

``/key`` is the trust anchor of a client (spec 1.2): everything after it is protected by the key it
tells. ``/verify`` is how other DERP servers ask whether a node is ours (spec 7.6).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Annotated, Final

from litestar import HttpMethod, Response, get, post, route
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, HeaderParameter, RawBody
from litestar.status_codes import HTTP_200_OK, HTTP_204_NO_CONTENT, HTTP_400_BAD_REQUEST

from mergescale.control.bootstrap import Bootstrap
from mergescale.kernel.errors import RemoteProtocolError
from mergescale.kernel.keys import MachineKey
from mergescale.state.tailnets import Tailnets
from mergescale.wire.tailcfg.derpmap import DERPAdmitClientResponse, decode_admit_request
from mergescale.wire.tailcfg.encode import encode
from mergescale.wire.tailcfg.handshake import OverTLSPublicKeyResponse

#: LIMIT: headscale's; an admission request has about 150 bytes.
VERIFY_BYTES: Final = 4096
#: WIRE(/key): older clients do not know the Noise transport.
NOISE_SINCE: Final = 39
#: WIRE(captive portal): what a challenge may look like; anything else is not echoed (spec 7.5).
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9.\-_:]{1,64}")
#: A client in a browser asks from another origin.
_ANY_ORIGIN: Final = {"access-control-allow-origin": "*"}
_NOT_CACHED: Final = {"cache-control": "no-cache, no-store, must-revalidate"}
_JSON: Final = "application/json"


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
    bootstrap = Bootstrap(hosts)
    return [_key(key), _verify(tailnets), _bootstrap_dns(bootstrap), _generate_204()]


def _key(key: MachineKey) -> HTTPRouteHandler:
    # The pre-2022 key encrypts nothing, but a zero one makes Go ask again at every login.
    body = encode(OverTLSPublicKeyResponse(legacy_public_key=str(key), public_key=str(key)))

    @get("/key", sync_to_thread=False)
    def read_key(v: FromQuery[int | None] = None) -> Response[bytes]:
        """Tell the server's Noise key (tailcfg.OverTLSPublicKeyResponse)."""
        if v is None or v < NOISE_SINCE:
            text = b"this server needs a client that speaks the Noise protocol"
            return Response(text, status_code=HTTP_400_BAD_REQUEST, media_type="text/plain")
        return Response(body, media_type=_JSON, headers=_ANY_ORIGIN)

    return read_key


def _verify(tailnets: Tailnets) -> HTTPRouteHandler:
    @post("/verify", status_code=HTTP_200_OK, request_max_body_size=VERIFY_BYTES)
    async def verify(body: RawBody) -> Response[bytes]:
        """Say whether a node key is one of ours; whatever is not understood is not allowed."""
        try:
            allow = tailnets.knows_node_key(decode_admit_request(body).node_public)
        except RemoteProtocolError:
            allow = False
        return Response(encode(DERPAdmitClientResponse(allow=allow)), media_type=_JSON)

    return verify


def _bootstrap_dns(bootstrap: Bootstrap) -> HTTPRouteHandler:
    @get("/bootstrap-dns")
    async def bootstrap_dns(q: FromQuery[str] = "") -> Response[dict[str, list[str]]]:
        """Resolve one of our own names for a client whose system DNS is broken."""
        return Response(await bootstrap.answer(q), headers=_ANY_ORIGIN)

    return bootstrap_dns


def _generate_204() -> HTTPRouteHandler:
    @route(
        "/generate_204",
        http_method=[HttpMethod.GET, HttpMethod.HEAD],
        status_code=HTTP_204_NO_CONTENT,
        sync_to_thread=False,
    )
    def generate_204(
        challenge: Annotated[str, HeaderParameter(name="X-Tailscale-Challenge")] = "",
    ) -> Response[None]:
        """Show that no captive portal is between us."""
        headers = dict(_NOT_CACHED)
        if _CHALLENGE.fullmatch(challenge):
            headers["x-tailscale-response"] = f"response {challenge}"
        return Response(None, status_code=HTTP_204_NO_CONTENT, headers=headers)

    return generate_204

"""What is exchanged before requests: the answer of ``/key`` and the early payload."""

from __future__ import annotations

from mergescale.wire.tailcfg.names import CamelWire


class OverTLSPublicKeyResponse(CamelWire, frozen=True, kw_only=True):
    """The answer to ``GET /key?v=N`` (tailcfg.OverTLSPublicKeyResponse, spec 1.2).

    Both members are always sent: the Rust client requires both.

    Attributes:
        legacy_public_key: ``mkey:`` text of the NaCl transport that nobody uses; anything but zero
            keeps Go clients from asking again on every register attempt.
        public_key: ``mkey:`` text of the server's Noise static key.
    """

    legacy_public_key: str
    public_key: str


class EarlyNoise(CamelWire, frozen=True, kw_only=True):
    """The JSON of the early payload (tailcfg.EarlyNoise, spec 2.6); Rust takes at most 1024 bytes.

    Attributes:
        node_key_challenge: ``chalpub:`` text; no client known answers it.
    """

    node_key_challenge: str

"""Curve25519 public and private keys as typed 32-byte values.

Text form is a prefix and 64 lower-case hex digits (tailscale ``types/key``). Parsers take
upper-case digits too; the prefix is mandatory. A zero key is legal on the wire and means "none".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from mergescale.kernel.errors import Invalid

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Key:
    """32 bytes with a kind. Compare and hash by kind and bytes.

    Attributes:
        raw: exactly 32 bytes.
    """

    raw: bytes

    PREFIX: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise Invalid(f"a {type(self).__name__} has {KEY_BYTES} bytes")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form; raise `Invalid` without echoing the text."""
        if not text.startswith(cls.PREFIX):
            raise Invalid(f"a {cls.PREFIX} key was expected")
        digits = text[len(cls.PREFIX) :]
        try:
            raw = bytes.fromhex(digits) if digits.isalnum() else b""
        except ValueError:
            raw = b""
        if len(raw) != KEY_BYTES:
            raise Invalid(f"a {cls.PREFIX} key has {2 * KEY_BYTES} hex digits")
        return cls(raw)

    @classmethod
    def zero(cls) -> Self:
        """Return the zero key, which the wire uses for "none"."""
        return cls(bytes(KEY_BYTES))

    def __bool__(self) -> bool:
        return any(self.raw)

    def __str__(self) -> str:
        return self.PREFIX + self.raw.hex()

    @property
    def short(self) -> str:
        """First eight hex digits, for logs."""
        return self.raw.hex()[:8]


class MachineKey(Key):
    """Identity of a machine: its Noise static public key (``mkey:``)."""

    __slots__ = ()
    PREFIX = "mkey:"


class NodeKey(Key):
    """WireGuard public key of a node (``nodekey:``)."""

    __slots__ = ()
    PREFIX = "nodekey:"


class DiscoKey(Key):
    """Path discovery public key of a running client (``discokey:``)."""

    __slots__ = ()
    PREFIX = "discokey:"


class ChallengeKey(Key):
    """Public half of the early payload's challenge (``chalpub:``)."""

    __slots__ = ()
    PREFIX = "chalpub:"


class PrivateKey(Key):
    """A private X25519 key of the server itself (``privkey:``); never logged."""

    __slots__ = ()
    PREFIX = "privkey:"

    def __repr__(self) -> str:
        return "PrivateKey(…)"

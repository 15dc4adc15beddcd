r"""Values to JSON bytes, and objects joined from members that were encoded before.

Output is UTF-8 without ``\u`` escapes of printable text (spec 0.3). msgspec escapes what JSON
obliges it to: control characters below U+0020, the quote and the backslash. The Rust client fails
on any escape inside a string it models (spec 2.10), so text that users control passes `plain`.

A map is a join (architecture 5.2): peers, rules and profiles are encoded once and kept; the
message is `join_object` over `member` keys and those bytes. Keys come from the structs, so a
misspelt member cannot be sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, NewType

import msgspec

from mergescale.kernel.errors import LocalProtocolError

#: A member's name as it stands in an object, colon included: ``"PeersChanged":``.
MemberKey = NewType("MemberKey", bytes)

_ENCODER: Final = msgspec.json.Encoder()

#: What JSON must escape, other control characters, and halves of surrogate pairs.
_UNPLAIN: Final = re.compile('[\x00-\x1f\x7f-\x9f"\\\\\ud800-\udfff]')
_PLAIN_FOR: Final = {'"': "'", "\\": "/"}


def encode(value: Any) -> bytes:
    """Return the JSON of a wire struct, or of plain values, without white space."""
    return _ENCODER.encode(value)


def plain(text: str) -> str:
    """Return the text with every character replaced that JSON would have to escape.

    A double quote becomes a single one, a backslash a slash, a control character a space, and
    half a surrogate pair (which UTF-8 cannot carry) U+FFFD. The length stays the same.

    WIRE(rust): the Rust client borrows strings from the message and fails on any escape.
    """
    if _UNPLAIN.search(text) is None:
        return text
    return _UNPLAIN.sub(_replace, text)


def _replace(found: re.Match[str]) -> str:
    character = found[0]
    if "\ud800" <= character <= "\udfff":
        return "\ufffd"
    return _PLAIN_FOR.get(character, " ")


def make_plain(struct: msgspec.Struct, *attributes: str) -> None:
    """Pass the named string fields of a struct under construction through `plain`.

    Only for ``__post_init__`` of structs whose text users control; the struct is frozen after.
    """
    for attribute in attributes:
        text = getattr(struct, attribute)
        if (cleaned := plain(text)) is not text:
            msgspec.structs.force_setattr(struct, attribute, cleaned)


def encode_text(text: str) -> bytes:
    """Return the text as a JSON string without any escape."""
    return b'"' + plain(text).encode() + b'"'


def member(struct: type[msgspec.Struct], attribute: str) -> MemberKey:
    """Return the wire key of a struct's attribute, ``b'"PeersChanged":'``; for module constants.

    Raises:
        LocalProtocolError: the struct has no such attribute.
    """
    for field in msgspec.structs.fields(struct):
        if field.name == attribute:
            return MemberKey(b'"' + field.encode_name.encode() + b'":')
    raise LocalProtocolError(f"{struct.__name__} has no member {attribute!r}")


def join_object(members: Iterable[tuple[MemberKey, bytes]]) -> bytes:
    """Return a JSON object of members whose values are JSON already; their order is kept."""
    return b"{" + b",".join([key + value for key, value in members]) + b"}"


def join_array(items: Iterable[bytes]) -> bytes:
    """Return a JSON array of items that are JSON already."""
    return b"[" + b",".join(items) + b"]"

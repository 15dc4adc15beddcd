"""Bodies of requests to typed values, as tolerantly as Go's ``encoding/json``.

Three steps: msgspec parses the bytes to plain values; a `Shape` respells the keys at every level it
models as Go spells them, drops nulls and reads keys, times and prefixes; msgspec converts the tree
to the struct and checks its types.

SPEC(control-protocol 0.3, 2.10): names match without regard to case (Rust sends ``HostInfo`` where
Go sends ``Hostinfo``), unknown and retired members are skipped, ``null`` leaves a member at its
zero value, Go's zero time means "absent".

The caller bounds the size of a body; nesting is bounded by msgspec.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar

import msgspec

from mergescale.kernel.errors import Invalid, RemoteProtocolError
from mergescale.kernel.keys import Key

#: Turns one parsed JSON value into the value a struct's field holds; never sees None.
Reader = Callable[[Any], Any]

_DECODER: Final = msgspec.json.Decoder()
_AWARE: Final = Annotated[datetime, msgspec.Meta(tz=True)]
#: Go's zero time, in any offset; no client means a real instant in the year 1.
_ZERO_YEAR: Final = "0001-"

StructT = TypeVar("StructT", bound=msgspec.Struct)


class Shape:
    """How an object of one struct is spelled and read; a `Reader` itself, so shapes nest.

    Members are matched exactly first, then without regard to case; of two spellings of one member
    the later wins, as in Go. Nulls are dropped. Members the struct does not have are kept as
    received: msgspec skips them, and a Hostinfo is stored with them.
    """

    def __init__(
        self, struct: type[msgspec.Struct], readers: Mapping[str, Reader] | None = None
    ) -> None:
        """Take the struct and a reader for each attribute that needs one.

        Raises:
            KeyError: a reader names no attribute of the struct.
        """
        names = {field.name: field.encode_name for field in msgspec.structs.fields(struct)}
        by_wire = {names[attribute]: reader for attribute, reader in (readers or {}).items()}
        self._members: dict[str, tuple[str, Reader | None]] = {}
        for name in names.values():
            self._members[name] = self._members[name.lower()] = (name, by_wire.get(name))

    def __call__(self, value: Any) -> dict[str, Any]:
        """Return the object with Go's spelling; raise `RemoteProtocolError` if it is none."""
        if type(value) is not dict:
            raise RemoteProtocolError("an object was expected")
        members, tree = self._members, {}
        for key, item in value.items():
            if item is None:
                continue
            found = members.get(key) or members.get(key.lower())
            if found is None:
                tree[key] = item
            else:
                name, reader = found
                tree[name] = item if reader is None else reader(item)
        return tree


def each(reader: Reader) -> Reader:
    """Return a reader of a list whose items `reader` reads; nulls in it are skipped."""

    def read(value: Any) -> list[Any]:
        return [reader(item) for item in listed(value) if item is not None]

    return read


def listed(value: Any) -> list[Any]:
    """Return the value if it is a list; raise `RemoteProtocolError` otherwise."""
    if type(value) is not list:
        raise RemoteProtocolError("a list was expected")
    return value


def key(kind: type[Key]) -> Reader:
    """Return a reader of one kind of key; the zero key is legal and falsy."""

    def read(value: Any) -> Key:
        try:
            return kind.parse(texted(value))
        except Invalid as error:
            raise RemoteProtocolError(error.message) from None

    return read


def texted(value: Any) -> str:
    """Return the value if it is text; raise `RemoteProtocolError` otherwise."""
    if type(value) is not str:
        raise RemoteProtocolError("a string was expected")
    return value


def instant(value: Any) -> datetime | None:
    """Read RFC 3339 to an aware UTC time; Go's zero time is None."""
    if texted(value).startswith(_ZERO_YEAR):
        return None
    try:
        moment: datetime = msgspec.convert(value, _AWARE)
        return moment.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        raise RemoteProtocolError("a time of rfc 3339 was expected") from None


def parse_json(body: bytes) -> Any:
    """Return the parsed body; raise `RemoteProtocolError` for anything but JSON in UTF-8."""
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RemoteProtocolError("the body is not json") from None


def convert(tree: dict[str, Any], struct: type[StructT]) -> StructT:
    """Return the struct of a tree that its `Shape` made.

    Raises:
        RemoteProtocolError: a member has another type; names the member, never its value.
    """
    try:
        return msgspec.convert(tree, struct)
    except msgspec.ValidationError as error:
        # msgspec writes `$.Member[...]` with names of our own structs only.
        _, found, path = str(error).rpartition(" - at ")
        where = path.strip("`") if found else "$"
        raise RemoteProtocolError(f"a member has the wrong type at {where}") from None


def decode_request(body: bytes, shape: Shape, struct: type[StructT]) -> StructT:
    """Return the request in a body of JSON; raise `RemoteProtocolError` if it is malformed."""
    return convert(shape(parse_json(body)), struct)

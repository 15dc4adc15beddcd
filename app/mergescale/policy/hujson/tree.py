"""What a text means: a small immutable tree whose values and keys know their places."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mergescale.policy.diagnostics import Source, Span


class Kind(StrEnum):
    """The six kinds of JSON values, as messages call them."""

    OBJECT = "object"
    ARRAY = "array"
    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"
    NULL = "null"


@dataclass(frozen=True, slots=True)
class Member:
    """A key and its value.

    Attributes:
        key_start, key_end: of the key as written, in characters.
    """

    key: str
    key_start: int
    key_end: int
    value: Value

    @property
    def key_span(self) -> Span:
        """Where the key stands."""
        return self.value.source.span(self.key_start, self.key_end)


@dataclass(frozen=True, slots=True)
class Value:
    """A value and where it stands.

    Attributes:
        start, end: of the value as written, in characters; `span` is made of them when asked for,
            which it is for few of the values of a good file.
        scalar: the decoded string, number, boolean or None.
        members: of an object, in order; keys are unique.
        items: of an array, in order.
    """

    kind: Kind
    source: Source = field(repr=False, compare=False)
    start: int
    end: int
    scalar: str | int | float | bool | None = None
    members: tuple[Member, ...] = ()
    items: tuple[Value, ...] = ()

    @property
    def span(self) -> Span:
        """Where the value stands."""
        return self.source.span(self.start, self.end)

    def get(self, key: str) -> Value | None:
        """Return the member's value; None when there is none or this is no object."""
        return next((one.value for one in self.members if one.key == key), None)

    def plain(self) -> Any:
        """Return the value as dictionaries, lists and scalars."""
        match self.kind:
            case Kind.OBJECT:
                return {one.key: one.value.plain() for one in self.members}
            case Kind.ARRAY:
                return [one.plain() for one in self.items]
            case _:
                return self.scalar

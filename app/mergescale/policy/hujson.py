"""HuJSON (JSON with comments and trailing commas) -> a small immutable tree with spans.

Source: RFC 8259 and the HuJSON extension that Tailscale's policy files use. Stricter than many
JSON readers, because two readers of one policy must never disagree: duplicate keys, numbers that
not everyone reads alike and lone surrogates are errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mergescale.kernel.ids import MAX_ID
from mergescale.policy.diagnostics import Diagnostic, Report, Source, Span, quoted
from mergescale.policy.lexemes import Token, tokens

#: LIMIT: the largest policy that the hosted service takes is well below this.
MAX_TEXT_BYTES = 1 << 20
#: LIMIT: no document of ours nests deeper than a dozen levels.
MAX_DEPTH = 100

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.)|$)", re.DOTALL)
_SIMPLE_ESCAPES = {
    '"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t",
}  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x1f]")
_SURROGATES = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_SPACE = re.compile(r"[^ \t\r\n]")
_CONSTANTS = {"true": True, "false": False, "null": None}
_OTHER_SPELLINGS = {"True": "true", "False": "false", "None": "null", "nil": "null"}


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
    """A key and its value."""

    key: str
    key_span: Span
    value: Value


@dataclass(frozen=True, slots=True)
class Value:
    """A value and where it stands.

    Attributes:
        scalar: the decoded string, number, boolean or None.
        members: of an object, in order; keys are unique.
        items: of an array, in order.
    """

    kind: Kind
    span: Span
    scalar: str | int | float | bool | None = None
    members: tuple[Member, ...] = ()
    items: tuple[Value, ...] = ()

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


def parse(text: str, file: str) -> tuple[Value | None, tuple[Diagnostic, ...]]:
    """Read a HuJSON text.

    Args:
        text: what the file holds.
        file: its path, for the spans.

    Returns:
        The value, and what is wrong with the text. The value is None when brackets, commas and
        the like cannot be made out; it may be there beside errors, so that whoever reads it can
        report its own problems too.
    """
    source, report = Source(text, file), Report()
    if (refused := _unreadable(text)) is not None:
        span = source.span(refused.start, refused.end)
        report.error("hujson.text", span, refused.message, refused.help)
        return None, report.diagnostics()
    try:
        value = _Reader(source, report, tokens(text)).document()
    except _Fault as fault:
        span = source.span(fault.start, fault.end)
        report.error("hujson.syntax", span, fault.message, fault.help)
        return None, report.diagnostics()
    return value, report.diagnostics()


class _Fault(Exception):
    """Where reading cannot go on; never leaves this module."""

    def __init__(self, start: int, end: int, message: str, help: str = "") -> None:  # noqa: A002
        super().__init__(message)
        self.start, self.end, self.message, self.help = start, end, message, help


def _unreadable(text: str) -> _Fault | None:
    """Return why the text is not even looked at, if so."""
    if len(text) > MAX_TEXT_BYTES or len(text.encode(errors="replace")) > MAX_TEXT_BYTES:
        return _Fault(0, 0, f"the file is larger than {MAX_TEXT_BYTES} bytes")
    if text.startswith("\ufeff"):
        return _Fault(0, 1, "the file starts with a byte order mark", "save it as UTF-8 without")
    if (at := text.find("\0")) >= 0:
        return _Fault(at, at + 1, "the file holds a NUL character")
    if (lone := _LONE_SURROGATE.search(text)) is not None:
        return _Fault(lone.start(), lone.end(), "the file is not valid UTF-8 text")
    return None


class _Reader:
    """Recursive descent over the tokens; depth is bounded by `MAX_DEPTH`."""

    def __init__(self, source: Source, report: Report, found: list[Token]) -> None:
        self._source = source
        self._text = source.text
        self._report = report
        self._tokens = self._checked(found)
        self._token = next(self._tokens)
        self._depth = 0

    def document(self) -> Value:
        if self._token.kind == "end":
            raise _Fault(0, 0, "the file is empty", "write at least {}")
        value = self._value("a value")
        self._expect("end", "the end of the file")
        return value

    def _checked(self, found: list[Token]) -> Iterator[Token]:
        """Yield the tokens, without comments; between them only white space is left."""
        last = 0
        for token in found:
            if (odd := _NOT_SPACE.search(self._text, last, token.start)) is not None:
                at = odd.start()
                raise _Fault(at, at + 1, f"character U+{ord(odd[0]):04X} is not white space here")
            last = token.end
            if token.kind != "comment":
                yield token

    def _next(self) -> Token:
        token = self._token
        if token.kind != "end":
            self._token = next(self._tokens)
        return token

    def _expect(self, kind: str, wanted: str, help: str = "") -> Token:  # noqa: A002
        if self._token.kind != kind:
            raise self._unexpected(wanted, help)
        return self._next()

    def _unexpected(self, wanted: str, help: str = "") -> _Fault:  # noqa: A002
        token = self._token
        text = self._text[token.start : token.end]
        if token.kind == "end":
            return _Fault(token.start, token.end, f"expected {wanted}, the file ends", help)
        if text.startswith("/*"):
            return _Fault(token.start, token.start + 2, "the comment is not closed", "add */")
        if token.kind == '"':
            return _Fault(token.start, token.end, "the string is not closed", 'add "')
        if text.startswith("#"):
            help = "comments start with //"  # noqa: A001
        elif text.startswith("'"):
            help = "strings stand in double quotes"  # noqa: A001
        elif text in _OTHER_SPELLINGS:
            help = f"write {_OTHER_SPELLINGS[text]}"  # noqa: A001
        found = quoted(text.strip('"'))
        return _Fault(token.start, token.end, f"expected {wanted}, found {found}", help)

    def _value(self, wanted: str) -> Value:
        token = self._token
        match token.kind:
            case "{":
                return self._nested(self._object)
            case "[":
                return self._nested(self._array)
            case "string":
                self._next()
                return Value(Kind.STRING, self._span(token), self._string(token))
            case "number":
                self._next()
                return Value(Kind.NUMBER, self._span(token), self._number(token))
            case "true" | "false" | "null":
                self._next()
                kind = Kind.NULL if token.kind == "null" else Kind.BOOLEAN
                return Value(kind, self._span(token), _CONSTANTS[token.kind])
            case _:
                raise self._unexpected(wanted)

    def _nested(self, read: Any) -> Value:
        start = self._next()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _Fault(start.start, start.end, f"nested deeper than {MAX_DEPTH} levels")
        value: Value = read(start)
        self._depth -= 1
        return value

    def _object(self, start: Token) -> Value:
        members: dict[str, Member] = {}
        while self._token.kind != "}":
            token = self._expect("string", "a key in double quotes or }", self._opened(start))
            key, span = self._string(token), self._span(token)
            self._expect(":", "a colon after the key")
            member = Member(key, span, self._value("a value"))
            first = members.setdefault(key, member)
            if first is not member:
                where = f"the first one is at line {first.key_span.start_line}"
                message = f"key {quoted(key)} is written twice"
                self._report.error("hujson.duplicate-key", span, message, where)
            if self._token.kind != "}":
                self._expect(",", "a comma or }", self._opened(start))
        return Value(Kind.OBJECT, self._closed(start), members=tuple(members.values()))

    def _array(self, start: Token) -> Value:
        items: list[Value] = []
        while self._token.kind != "]":
            items.append(self._value("a value or ]"))
            if self._token.kind != "]":
                self._expect(",", "a comma or ]", self._opened(start))
        return Value(Kind.ARRAY, self._closed(start), items=tuple(items))

    def _closed(self, start: Token) -> Span:
        return self._source.span(start.start, self._next().end)

    def _opened(self, start: Token) -> str:
        if self._token.kind not in {"end", "}", "]"}:
            return ""
        line = self._span(start).start_line
        return f"{self._text[start.start]} of line {line} is not closed"

    def _span(self, token: Token) -> Span:
        return self._source.span(token.start, token.end)

    def _number(self, token: Token) -> int | float:
        text = self._text[token.start : token.end]
        if _NUMBER.fullmatch(text) is None:
            self._bad(token.start, token.end, "hujson.number", "this is not a JSON number")
            return 0
        # LIMIT: a double's largest exponent has three digits; int() is quadratic in its digits.
        number = float(text)
        whole = not set(text) & set(".eE")
        if abs(number) > (MAX_ID if whole else 1e300):
            message = "the number is too large to be read the same everywhere"
            self._bad(token.start, token.end, "hujson.number", message)
            return 0
        return int(text) if whole else number

    def _string(self, token: Token) -> str:
        """Decode a string; what is wrong inside is reported at its own place."""
        start, end = token.start + 1, token.end - 1
        raw = self._text[start:end]
        if (control := _CONTROL.search(raw)) is not None:
            at = start + control.start()
            newline = control[0] in "\r\n"
            message = (
                "the string is not closed on its line"
                if newline
                else "control character in a string"
            )
            self._bad(
                at, at + 1, "hujson.string", message, "" if newline else "write it as \\u00XX"
            )
        if "\\" not in raw:
            return raw
        parts, last = [], 0
        for escape in _ESCAPE.finditer(raw):
            parts += [raw[last : escape.start()], self._escape(escape, start)]
            last = escape.end()
        text = "".join([*parts, raw[last:]])
        text = _SURROGATES.sub(
            lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text
        )
        if _LONE_SURROGATE.search(text) is not None:
            message = "the string holds half of a surrogate pair"
            self._bad(token.start, token.end, "hujson.string", message)
            return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
        return text

    def _escape(self, escape: re.Match[str], base: int) -> str:
        if escape[1] is not None:
            return chr(int(escape[1], 16))
        if escape[2] in _SIMPLE_ESCAPES:
            return _SIMPLE_ESCAPES[escape[2]]
        at, end = base + escape.start(), base + escape.end()
        self._bad(at, end, "hujson.string", f"{quoted(escape[0])} is not an escape sequence")
        return ""

    def _bad(self, start: int, end: int, code: str, message: str, help: str = "") -> None:  # noqa: A002
        self._report.error(code, self._source.span(start, end), message, help)

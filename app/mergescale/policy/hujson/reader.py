"""HuJSON text -> `Value`, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mergescale.kernel.errors import Invalid
from mergescale.policy.diagnostics import Diagnostic, Report, Source, quoted
from mergescale.policy.hujson.literals import LONE_SURROGATE, Literals
from mergescale.policy.hujson.tokens import tokens
from mergescale.policy.hujson.tree import Kind, Member, Value

#: LIMIT: the largest policy that the hosted service takes is well below this.
MAX_TEXT_BYTES: Final = 1 << 20
#: LIMIT: no document of ours nests deeper than a dozen levels.
MAX_DEPTH: Final = 100

_CONSTANTS: Final = {"true": True, "false": False, "null": None}
_OTHER_SPELLINGS: Final = {"True": "true", "False": "false", "None": "null", "nil": "null"}
#: At their sight the bracket that was opened last is told.
_CLOSING: Final = frozenset({"end", "end_array", "end_object"})
#: Errors of texts that are HuJSON all the same: any writer can copy them.
_WELL_FORMED: Final = frozenset({"hujson.duplicate-key", "hujson.number"})


class Unreadable(Invalid):
    """Raised when a text to be rewritten is no HuJSON.

    Attributes:
        diagnostics: what is wrong with it; their spans name no file.
    """

    def __init__(self, diagnostics: tuple[Diagnostic, ...]) -> None:
        super().__init__(f"the text is no HuJSON: {diagnostics[0].message}")
        self.diagnostics = diagnostics


def parse(text: str, file: str) -> tuple[Value | None, tuple[Diagnostic, ...]]:
    """Read a HuJSON text.

    Args:
        text: what the file holds. Bytes that are no UTF-8 are told at their place if they were
            decoded with ``errors="surrogateescape"``.
        file: its path, for the spans.

    Returns:
        The value, and what is wrong with the text. The value is None when brackets, commas and
        the like cannot be made out; it may be there beside errors, so that whoever reads it can
        report its own problems too.
    """
    source, report = Source(text[:MAX_TEXT_BYTES], file), Report()
    if (refused := _unreadable(text)) is not None:
        span = source.span(refused.start, refused.end)
        report.error("hujson.text", span, refused.message, refused.help)
        return None, report.diagnostics()
    try:
        value = _Reader(source, report).document()
    except _Fault as fault:
        span = source.span(fault.start, fault.end)
        report.error("hujson.syntax", span, fault.message, fault.help)
        return None, report.diagnostics()
    return value, report.diagnostics()


def require_well_formed(text: str) -> None:
    """Raise `Unreadable` unless the text can be rewritten.

    Keys written twice and numbers that are too large are no obstacle, as for the reference
    implementation; they stay, and stay errors of `parse`.
    """
    _, found = parse(text, "")
    if wrong := tuple(one for one in found if one.code not in _WELL_FORMED):
        raise Unreadable(wrong)


#: SPEC(git-lfs spec): how every file begins that stands for one that lies elsewhere.
_LFS: Final = "version https://git-lfs.github.com/spec/"


class _Fault(Exception):
    """Where reading cannot go on; never leaves this module."""

    def __init__(self, start: int, end: int, message: str, help: str = "") -> None:  # noqa: A002
        super().__init__(message)
        self.start, self.end, self.message, self.help = start, end, message, help


def _unreadable(text: str) -> _Fault | None:
    """Return why the text is not even looked at, if so."""
    # A slice first: nobody may make us encode what is far too large.
    encoded = text[: MAX_TEXT_BYTES + 1].encode(errors="replace")
    if len(encoded) > MAX_TEXT_BYTES:
        at = len(encoded[:MAX_TEXT_BYTES].decode(errors="ignore"))
        return _Fault(at, at, f"the file is larger than {MAX_TEXT_BYTES} bytes")
    if text.startswith("\ufeff"):
        return _Fault(0, 1, "the file starts with a byte order mark", "save it as UTF-8 without")
    if text.startswith(_LFS):
        why = "this is a pointer of Git LFS, which is not followed, and not the text itself"
        return _Fault(0, len(_LFS), why, "keep policy files out of Git LFS, see .gitattributes")
    if (at := text.find("\0")) >= 0:
        return _Fault(at, at + 1, "the file holds a NUL character")
    if (lone := LONE_SURROGATE.search(text)) is not None:
        return _Fault(lone.start(), lone.end(), "the file is not valid UTF-8 text")
    return None


class _Reader:
    """Recursive descent over the tokens; depth is bounded by `MAX_DEPTH`."""

    def __init__(self, source: Source, report: Report) -> None:
        self._source = source
        self._text = source.text
        self._report = report
        self._literals = Literals(source, report)
        self._tokens = tokens(source.text)
        self._depth = 0
        self._advance()

    def document(self) -> Value:
        if self._kind == "end":
            raise _Fault(0, 0, "the file is empty", "write at least {}")
        value = self._value("a value")
        self._expect("end", "the end of the file")
        return value

    def _advance(self) -> None:
        """Go to the next token that is no comment."""
        token = next(self._tokens)
        while token[0] == "comment":
            token = next(self._tokens)
        self._kind, self._start, self._end = token

    def _expect(self, kind: str, wanted: str) -> None:
        if self._kind != kind:
            raise self._unexpected(wanted)
        if kind != "end":
            self._advance()

    def _value(self, wanted: str) -> Value:
        kind, start, end = self._kind, self._start, self._end
        if kind == "plain":
            self._advance()
            return Value(Kind.STRING, self._source, start, end, self._text[start + 1 : end - 1])
        match kind:
            case "begin_object":
                return self._nested(self._object)
            case "begin_array":
                return self._nested(self._array)
            case "escaped":
                self._advance()
                return Value(
                    Kind.STRING, self._source, start, end, self._literals.string(start, end)
                )
            case "number":
                self._advance()
                return Value(
                    Kind.NUMBER, self._source, start, end, self._literals.number(start, end)
                )
            case "constant":
                self._advance()
                constant = _CONSTANTS[self._text[start:end]]
                of = Kind.NULL if constant is None else Kind.BOOLEAN
                return Value(of, self._source, start, end, constant)
            case _:
                raise self._unexpected(wanted)

    def _nested(self, read: Callable[[int], Value]) -> Value:
        start = self._start
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _Fault(start, start + 1, f"nested deeper than {MAX_DEPTH} levels")
        self._advance()
        value = read(start)
        self._depth -= 1
        return value

    def _object(self, opened: int) -> Value:
        members: dict[str, Member] = {}
        while self._kind != "end_object":
            key, start, end = self._key(opened)
            self._expect("colon", "a colon after the key")
            member = Member(key, start, end, self._value("a value"))
            first = members.setdefault(key, member)
            if first is not member:
                span, message = member.key_span, f"key {quoted(key)} is written twice"
                where = f"the first one is at line {first.key_span.start_line}"
                self._report.error("hujson.duplicate-key", span, message, where)
            self._separate(opened, "end_object", "a comma or }")
        found = tuple(members.values())
        return Value(Kind.OBJECT, self._source, opened, self._close(), members=found)

    def _key(self, opened: int) -> tuple[str, int, int]:
        start, end = self._start, self._end
        match self._kind:
            case "plain":
                key = self._text[start + 1 : end - 1]
            case "escaped":
                key = self._literals.string(start, end)
            case _:
                raise self._unexpected("a key in double quotes or }", opened)
        self._advance()
        return key, start, end

    def _array(self, opened: int) -> Value:
        items: list[Value] = []
        while self._kind != "end_array":
            items.append(self._value("a value or ]"))
            self._separate(opened, "end_array", "a comma or ]")
        return Value(Kind.ARRAY, self._source, opened, self._close(), items=tuple(items))

    def _separate(self, opened: int, closing: str, wanted: str) -> None:
        """Read the comma behind a member or item, unless the end comes."""
        if self._kind == "comma":
            self._advance()
        elif self._kind != closing:
            raise self._unexpected(wanted, opened)

    def _close(self) -> int:
        end = self._end
        self._advance()
        return end

    def _unexpected(self, wanted: str, opened: int | None = None) -> _Fault:
        """Return what to say about the token that is there instead of the wanted one."""
        start, end = self._start, self._end
        text = self._text[start:end]
        match self._kind:
            case "open_comment":
                # SPEC(reference implementation): a file may not end within a comment of either kind.
                help_ = "add */" if text.startswith("/*") else "end the line"
                return _Fault(start, start + 2, "the comment is not closed", help_)
            case "open_string":
                return _Fault(start, end, "the string is not closed", 'add "')
            case "end":
                message = f"expected {wanted}, the file ends"
            case "other" if len(text) == 1 and not text.isprintable():
                return _Fault(start, end, f"character U+{ord(text):04X} is not white space here")
            case _:
                found = quoted(text.strip('"'))
                message = f"expected {wanted}, found {found}"
        help_ = ""
        if self._kind in _CLOSING and opened is not None:
            line = self._source.span(opened, opened).start_line
            help_ = f"{self._text[opened]} of line {line} is not closed"
        elif self._kind == "other":
            help_ = _hint(text)
        return _Fault(start, end, message, help_)


def _hint(text: str) -> str:
    """Return what to write instead of something that other languages have."""
    if text.startswith("#"):
        return "comments start with //"
    if text.startswith("'"):
        return "strings stand in double quotes"
    if text in _OTHER_SPELLINGS:
        return f"write {_OTHER_SPELLINGS[text]}"
    return ""

"""HuJSON with places: what is read, and what is said about what can not be read."""

from __future__ import annotations

import sys
import tracemalloc
from types import FrameType

import pytest

from mergescale.policy.diagnostics import MAX_DIAGNOSTICS
from mergescale.policy.hujson import MAX_DEPTH, MAX_TEXT_BYTES, Kind, parse
from support.policies import underlined


def told(text: str) -> list[tuple[str, str]]:
    return [(underlined(text, one), one.message) for one in parse(text, "f.hujson")[1]]


def test_comments_and_trailing_commas_are_read_over() -> None:
    """HuJSON is JSON with both."""
    text = '// head\n{"a": [1, -2.5e1, true, false, null, "x",], /* in "between" */ "b": {},}\n// end\n'

    value, found = parse(text, "f.hujson")

    assert found == ()
    assert value is not None
    assert value.plain() == {"a": [1, -25.0, True, False, None, "x"], "b": {}}


def test_strings_are_decoded() -> None:
    """All escapes of JSON, surrogate pairs, and characters as they are."""
    value, found = parse(r'"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00é😀//"', "f.hujson")

    assert found == ()
    assert value is not None
    assert value.plain() == '"\\/\b\f\n\r\té😀é😀//'


def test_places_count_characters_not_bytes() -> None:
    """Lines and columns are 1-based and in characters, keys have places of their own."""
    text = '{\n  "é😀": "ü", "k": [7]\n}'
    value, _ = parse(text, "f.hujson")
    assert value is not None
    first, second = value.members

    assert (value.kind, value.span.end_line, value.span.end_column) == (Kind.OBJECT, 3, 2)
    assert (first.key_span.start_line, first.key_span.start_column) == (2, 3)
    assert (second.key_span.start_line, second.key_span.start_column) == (2, 14)
    inner = second.value.items[0].span
    assert text[inner.offset_start : inner.offset_end] == "7"
    assert text[first.value.span.offset_start : first.value.span.offset_end] == '"ü"'


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("", "", "the file is empty"),
        ("// nothing\n", "", "the file is empty"),
        ('{"a" 1}', "1", 'expected a colon after the key, found "1"'),
        ('{"a": 1 "b": 2}', '"b"', 'expected a comma or }, found "b"'),
        ('{"a": 1', "", "expected a comma or }, the file ends"),
        ('{"a": [1}', "}", 'expected a comma or ], found "}"'),
        ("{a: 1}", "a", 'expected a key in double quotes or }, found "a"'),
        ("{'a': 1}", "'a'", """expected a key in double quotes or }, found "'a'\""""),
        ("[1,,2]", ",", 'expected a value or ], found ","'),
        ("[,]", ",", 'expected a value or ], found ","'),
        ('{"a":1} x', "x", 'expected the end of the file, found "x"'),
        ("[1]]", "]", 'expected the end of the file, found "]"'),
        ("[NaN]", "NaN", 'expected a value or ], found "NaN"'),
        ("[Infinity]", "Infinity", 'expected a value or ], found "Infinity"'),
        ("[True]", "True", 'expected a value or ], found "True"'),
        ("01", "01", 'expected a value, found "01"'),
        ("[1.]", "1.", 'expected a value or ], found "1."'),
        ("[1e]", "1e", 'expected a value or ], found "1e"'),
        ("[0x1F]", "0x1F", 'expected a value or ], found "0x1F"'),
        ("[-Infinity]", "-Infinity", 'expected a value or ], found "-Infinity"'),
        ("[truely]", "truely", 'expected a value or ], found "truely"'),
        ("[+1]", "+1", 'expected a value or ], found "+1"'),
        ("[1] /* x", "/*", "the comment is not closed"),
        ("[1] // x", "//", "the comment is not closed"),
        ("[1] /*/", "/*", "the comment is not closed"),
        ("# x\n[1]", "# x", 'expected a value, found "# x"'),
        ('["a\n, "b"]', '"a', "the string is not closed"),
        ('["a', '"a', "the string is not closed"),
        ('["a\\"]', '"a\\"]', "the string is not closed"),
        ('["a\r\n"]', '"a', "the string is not closed"),
        ("[1\x0c]", "\x0c", "character U+000C is not white space here"),
        ("[1,\u00a02]", "\u00a0", "character U+00A0 is not white space here"),
        ("[1\ufeff]", "\ufeff", "character U+FEFF is not white space here"),
        ("['\x01\x02']", "'\x01\x02'", "expected a value or ], found \"'\ufffd\ufffd'\""),
        ("\ufeff{}", "\ufeff", "the file starts with a byte order mark"),
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
            "version https://git-lfs.github.com/spec/",
            "this is a pointer of Git LFS, which is not followed, and not the text itself",
        ),
        ("[1]\x00", "\x00", "the file holds a NUL character"),
        ("\ud800", "\ud800", "the file is not valid UTF-8 text"),
        ("[" * (MAX_DEPTH + 1), "[", f"nested deeper than {MAX_DEPTH} levels"),
        (" " * (MAX_TEXT_BYTES + 1), "", f"the file is larger than {MAX_TEXT_BYTES} bytes"),
        ("é" * (MAX_TEXT_BYTES // 2 + 1), "", f"the file is larger than {MAX_TEXT_BYTES} bytes"),
    ],
)
def test_what_can_not_be_read_is_told_at_its_place(text: str, where: str, message: str) -> None:
    """There is no value, and one diagnostic says what was expected where."""
    assert parse(text, "f.hujson")[0] is None
    assert told(text) == [(where, message)]


def test_bad_values_are_told_beside_the_good_ones() -> None:
    """The shape is sound, so all that is wrong inside is told at once and the rest is read."""
    text = r'{"a": 1, "a": 2, "s": "\ud800", "q": "\q", "n": 1e999, "i": 12345678901234567890}'

    value, _ = parse(text, "f.hujson")

    assert told(text) == [
        ('"a"', 'key "a" is written twice'),
        (r'"\ud800"', "the string holds half of a surrogate pair"),
        (r"\q", '"\\q" is not an escape sequence'),
        ("1e999", "the number is too large to be read the same everywhere"),
        ("12345678901234567890", "the number is too large to be read the same everywhere"),
    ]
    assert value is not None
    assert value.get("a") == value.members[0].value
    assert value.get("b") is None
    assert value.plain() == {"a": 1, "s": "\ufffd", "q": "\\q", "n": 0, "i": 0}


def test_a_control_character_in_a_string_is_told() -> None:
    """JSON strings hold none unescaped."""
    assert told('["a\tb"]') == [("\t", "control character in a string")]


def test_a_hostile_file_has_a_bounded_report() -> None:
    """Thousands of problems are cut off."""
    assert len(told("[" + r'"\q",' * 1000 + "]")) == MAX_DIAGNOSTICS


def test_a_file_too_large_is_told_where_it_becomes_so() -> None:
    """Ten megabytes of brackets are not even looked at, and the line is told all the same."""
    text = "[\n" * (5 << 20)
    tracemalloc.start()
    [found] = parse(text, "f.hujson")[1]
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 50 * MAX_TEXT_BYTES
    assert found.message == f"the file is larger than {MAX_TEXT_BYTES} bytes"
    assert (found.span.start_line, found.span.start_column) == (MAX_TEXT_BYTES // 2 + 1, 1)


def test_nesting_is_told_where_it_gets_too_deep() -> None:
    """The bracket that is one too many, and its line."""
    [found] = parse("[\n" * (MAX_TEXT_BYTES // 2), "f.hujson")[1]

    assert found.message == f"nested deeper than {MAX_DEPTH} levels"
    assert (found.span.start_line, found.span.start_column) == (MAX_DEPTH + 1, 1)


@pytest.mark.parametrize(
    "piece",
    [
        *('"', "[", "{", "/", "/*", "*/", "//", "'", "#", "\\", "\\u", "-", "1", "e", ",", ":"),
        *('"a":', '{"a":', "[1,", '"\\q",', '/*"', "/*/", "\n", "\r", " ", "\x0c", "é", "\udc80"),
    ],
)
@pytest.mark.parametrize("opened", ["", "[", '{"a": "', "[/*", '["\\'])
def test_the_steps_of_reading_grow_with_the_text(opened: str, piece: str) -> None:
    """Twice as much of anything takes at most twice as many calls, and a few."""
    few, many = (_calls(opened + piece * times) for times in (2000, 4000))

    assert many <= 2 * few + 50


@pytest.mark.parametrize("item", ['"a": 1, ', '"\\u00e9": [], ', "/* x */", '"\\q": 1e999, '])
def test_the_steps_of_reading_what_is_good_grow_with_the_text(item: str) -> None:
    """Keys written thousands of times, and everything else that does not end the reading."""
    few, many = (_calls("{" + item * times + "}") for times in (500, 1000))

    assert few > 500
    assert many <= 2 * few + 50


def _calls(text: str) -> int:
    """Return how many functions are called, ours and built in, to read a text."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        parse(text, "f.hujson")
    finally:
        sys.setprofile(before)
    return calls

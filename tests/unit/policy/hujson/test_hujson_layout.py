"""`format` beyond the corpus: its limits, and what it refuses."""

from __future__ import annotations

import tracemalloc

import pytest

from mergescale.policy import hujson
from mergescale.policy.hujson import MAX_TEXT_BYTES, Unreadable


def test_a_line_may_have_eighty_bytes() -> None:
    """Bytes of UTF-8, not characters, with two for a comma and a space behind each item."""
    fits = '["' + "é" * 37 + '"]'
    assert len(fits.encode()) == 78

    assert hujson.format(fits) == fits + "\n"
    longer = fits.replace("é", "ée", 1)
    assert hujson.format(longer) == "[\n\t" + longer[1:-1] + "\n]\n"


def test_a_comment_takes_a_space_on_either_side() -> None:
    """Both count for the length of a line."""
    fits = '[ /*c*/ "' + "a" * 67 + '"]\n'
    assert hujson.format(fits) == fits
    longer = fits.replace("a", "aa", 1)
    assert hujson.format(longer) == "[\n\t" + longer[2:-2] + ",\n]\n"


def test_the_comment_behind_a_bracket_counts_for_its_line() -> None:
    """What opens an expanded value stands on the line before it, and so does its comment."""
    fits = '["' + "a" * 69 + '", [ // b\n\t1,\n]]\n'
    assert hujson.format(fits) == fits
    longer = fits.replace("a", "aa", 1)
    assert hujson.format(longer) == '[\n\t"' + "a" * 70 + '",\n\t[ // b\n\t\t1,\n\t],\n]\n'


def test_odd_line_ends_are_one() -> None:
    """A carriage return on either side of a line feed does not move the line's text."""
    for end in ("\n", "\r\n", "\n\r"):
        assert hujson.format(f"[/*{end}* a\n* b*/\n]") == "[ /*\n\t * a\n\t * b*/\n]\n"


def test_values_are_aligned_by_bytes() -> None:
    """The reference implementation does, though it looks odd."""
    assert hujson.format('{\n"é": 1,\n"abc": 2}') == '{\n\t"é":  1,\n\t"abc": 2\n}\n'


def test_json_stays_json() -> None:
    """A trailing comma is added to a text that is HuJSON already, and to no other."""
    assert hujson.format("[\n1]") == "[\n\t1\n]\n"
    assert hujson.format("[\n1] //\n") == "[\n\t1,\n] //\n"


@pytest.mark.parametrize("rewrite", [hujson.format, hujson.standardize, hujson.minimize])
def test_what_cannot_be_read_cannot_be_rewritten(rewrite: hujson.Rewrite) -> None:
    """The error has the same diagnostics as `parse`."""
    with pytest.raises(Unreadable) as caught:
        rewrite('["\\q", "\\w"]')

    assert caught.value.diagnostics == hujson.parse('["\\q", "\\w"]', "")[1]
    assert caught.value.message == 'the text is no HuJSON: "\\q" is not an escape sequence'


def test_what_every_program_can_copy_can_be_rewritten() -> None:
    """Keys written twice and huge numbers are left to whoever reads the text."""
    assert hujson.format('{"a":1,"a":1e999}') == '{"a": 1, "a": 1e999}\n'


def test_what_would_grow_too_large_is_refused() -> None:
    """No text is made that could not be read."""
    text = "[\n" * 99 + "[]" + ",\n[]" * 11_000 + "]" * 99
    assert hujson.parse(text, "")[0] is not None

    with pytest.raises(Unreadable, match=f"would be larger than {MAX_TEXT_BYTES} bytes"):
        hujson.format(text)


def test_values_far_to_the_right_take_no_memory() -> None:
    """One long key over short ones is refused before the spaces behind those are made."""
    text = '{\n"' + "k" * 500_000 + '": 0' + ',\n"k": 0' * 500 + "}"

    tracemalloc.start()
    with pytest.raises(Unreadable, match=f"would be larger than {MAX_TEXT_BYTES} bytes"):
        hujson.format(text)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 50 * MAX_TEXT_BYTES

"""HuJSON as JSON."""

from __future__ import annotations

from mergescale.policy import hujson

TEXT = '// é\r\n{"a": [1, /* x\n😀 */ 2,\t],}\n'


def test_standardize_leaves_each_byte_in_its_place() -> None:
    """Comments and trailing commas become as many spaces as they had bytes."""
    standard = hujson.standardize(TEXT)

    assert standard == "     \r\n" + '{"a": [1,     \n        2 \t] }\n'
    assert len(standard.encode()) == len(TEXT.encode())


def test_minimize_leaves_the_tokens_of_json() -> None:
    """As written, and nothing between them."""
    assert hujson.minimize('// x\n{ "\\u0061" : [1,\t2 , ] ,}\n') == '{"\\u0061":[1,2]}'

"""HuJSON text -> tokens, by way of tree-sitter.

tree-sitter repairs broken text to go on; its leaves, read in order and without the tokens it made
up, are exactly what was written. ``hujson.py`` reads those, so it can say what was expected.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple

import tree_sitter_hujson
from tree_sitter import Language, Parser, TreeCursor

_LANGUAGE = Language(tree_sitter_hujson.language())


class Token(NamedTuple):
    """One leaf of the syntax tree.

    Attributes:
        kind: ``{ } [ ] , :``, ``string number true false null``, ``"`` for a string that is not
            closed, ``ERROR`` for text that is no token, ``end``.
        start, end: in characters.
    """

    kind: str
    start: int
    end: int


def tokens(text: str) -> list[Token]:
    """Return the tokens of a text that encodes to UTF-8, comments left out, ``end`` added."""
    encoded = text.encode()
    tree = Parser(_LANGUAGE).parse(encoded)
    found = list(_leaves(tree.walk()))
    if len(encoded) != len(text):
        at = _characters(text)
        found = [Token(one.kind, at[one.start], at[one.end]) for one in found]
    found.append(Token("end", len(text), len(text)))
    return found


def _leaves(cursor: TreeCursor) -> Iterator[Token]:
    while True:
        node = cursor.node
        if node is None:
            return
        inside = node.child_count > 0 and node.type != "string"
        if not inside and node.end_byte > node.start_byte:
            # A string that ends with its line is repaired with a quote that nobody wrote.
            repaired = node.type == "string" and node.has_error and node.children[-1].is_missing
            kind = '"' if repaired else node.type
            yield Token(kind, node.start_byte, node.end_byte)
        if inside and cursor.goto_first_child():
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return


def _characters(text: str) -> array[int]:
    """Return the character index of each byte offset of the UTF-8 form, the end included."""
    at = array("l")
    for index, char in enumerate(text):
        code = ord(char)
        at.extend([index] * (1 + (code > 0x7F) + (code > 0x7FF) + (code > 0xFFFF)))
    at.append(len(text))
    return at

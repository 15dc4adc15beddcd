"""HuJSON text -> a tree that holds every character of it, and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mergescale.policy.hujson.tokens import tokens

_CLOSING = {"{": "}", "[": "]"}


@dataclass(slots=True, eq=False)
class Node:
    """A value or a key with what stands around it; the layout changes it in place.

    An "extra" is what stands between two tokens: white space and comments.

    Attributes:
        before: the extra between the previous token and this one.
        text: as written; of an object or array the bracket that opens it.
        after: the extra up to the next token, which is a comma or a colon. None where none of
            them comes: for a last value without a trailing comma.
        children: of an array its values; of an object keys and values in turn.
        tail: the extra before the closing bracket.
        expanded: each child stands on a line of its own.
        tall: there is a line break in an extra of the children, at any depth, tails left out.
    """

    before: str
    text: str
    after: str | None = None
    children: list[Node] = field(default_factory=list)
    tail: str = ""
    expanded: bool = False
    tall: bool = False

    @property
    def nests(self) -> bool:
        """Say whether this is an object or an array."""
        return self.text in _CLOSING

    def is_value_of(self, index: int) -> bool:
        """Say whether the child of this index is a value that follows a key."""
        return self.text == "{" and index % 2 == 1


def read(text: str) -> Node:
    """Return the tree of a text that is well-formed."""
    pieces = _pieces(text)
    root = _node(pieces, *next(pieces))
    root.after, _ = next(pieces)
    return root


def written(root: Node) -> str:
    """Return the text of a tree."""
    parts: list[str] = []
    _write(root, parts)
    return "".join(parts)


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Yield all tokens that are no comments, each with the extra before it."""
    last = 0
    for kind, start, end in tokens(text):
        if kind != "comment":
            yield text[last:start], text[start:end]
            last = end


def _node(pieces: Iterator[tuple[str, str]], before: str, text: str) -> Node:
    """Read the rest of the value that begins with this token."""
    node = Node(before, text)
    if not node.nests:
        return node
    closing = _CLOSING[text]
    extra, token = next(pieces)
    while token != closing:
        child = _node(pieces, extra, token)
        node.children.append(child)
        extra, token = next(pieces)
        if token != closing:
            child.after = extra
            extra, token = next(pieces)
    node.tail = extra
    return node


def _write(node: Node, parts: list[str]) -> None:
    parts += [node.before, node.text]
    for index, child in enumerate(node.children):
        _write(child, parts)
        if child.after is not None:
            parts.append("," if node.text == "[" or node.is_value_of(index) else ":")
    if node.nests:
        parts += [node.tail, _CLOSING[node.text]]
    parts.append(node.after or "")

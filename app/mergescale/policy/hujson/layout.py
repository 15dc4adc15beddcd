"""HuJSON text -> the same, well laid out; line breaks that were written decide most of it.

SPEC(reference implementation): its `Format`, byte for byte. An object or array is either on one
line or expanded to one line for each of its children: if it is so already, or would be too long.
What is laid out stays as it is, but for an oddity of the reference: where a comment's last line
looks like the start of another, one that just fits is expanded only the second time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from mergescale.policy.diagnostics import Diagnostic, file_span
from mergescale.policy.hujson.extras import (
    BLANK,
    SPACE,
    Measure,
    Rules,
    arranged,
    has_comment,
    measure,
    size,
)
from mergescale.policy.hujson.reader import MAX_TEXT_BYTES, Unreadable, require_well_formed
from mergescale.policy.hujson.standard import is_standard
from mergescale.policy.hujson.syntax import Node, read, written

#: LIMIT: bytes of a line; what is longer is expanded. The reference implementation's.
MAX_LINE_BYTES: Final = 80

_OUTSIDE: Final = Rules()
_BEFORE_VALUE: Final = Rules(cut_first=True, cut_last=True, parted=True)
_AFTER: Final = Rules(cut_first=True, cut_last=True)
#: As RFC 8785 (3.2.2.2) writes strings.
_ESCAPES: Final = {
    **{code: f"\\u{code:04x}" for code in range(0x20)},
    **{ord(char): f"\\{name}" for char, name in zip('\b\t\n\f\r"\\', 'btnfr"\\', strict=True)},
}


def format(text: str) -> str:  # noqa: A001 - the reference's word
    """Return a text well laid out, with the same values and comments.

    Raises:
        Unreadable: the text is no HuJSON, or would grow larger than what is read.
    """
    require_well_formed(text)
    root = read(text)
    _simplify(root)
    _expand(root)
    _arrange(root, 0, standard=is_standard(text))
    root.before = arranged(root.before, 0, _OUTSIDE).lstrip(BLANK)
    root.after = arranged(root.after or "", 0, _OUTSIDE).rstrip(SPACE) + "\n"
    paddings = list(_paddings(root))
    # LIMIT: many short keys below a long one grow with the square of the text.
    _require_small(sum(width for _, width in paddings))
    for value, width in paddings:
        value.before += " " * width
    formatted = written(root)
    _require_small(size(formatted))
    return formatted


def _require_small(size_bytes: int) -> None:
    if size_bytes > MAX_TEXT_BYTES:
        message = f"the formatted file would be larger than {MAX_TEXT_BYTES} bytes"
        raise Unreadable((Diagnostic("hujson.text", message, "", file_span("")),))


def _simplify(node: Node) -> None:
    """Write strings the shortest way; drop white space before commas, colons and in ``{ }``."""
    if node.text.startswith('"') and "\\" in node.text:
        node.text = '"' + json.loads(node.text).translate(_ESCAPES) + '"'
    if not node.children and not has_comment(node.tail):
        node.tail = ""
    for index, child in enumerate(node.children):
        if not has_comment(child.after or ""):
            child.after = "" if index + 1 < len(node.children) else None
        _simplify(child)


def _expand(node: Node) -> Measure:
    """Find what has to be expanded; return how long the lines of this value will be, roughly."""
    if not node.nests:
        length = size(node.text)
        return Measure(length, length, several=False)
    lengths = [len("{")]
    for child in node.children:
        for part in (measure(child.before), _expand(child), measure(child.after or "")):
            lengths[-1] += part.first
            if part.several:
                lengths.append(part.last)
        lengths[-1] += len(", ")
    lengths[-1] += len("}")
    node.expanded = max(lengths) > MAX_LINE_BYTES or _is_expanded(node)
    if node.expanded:
        head = node.children[0].before if node.children else node.tail
        return Measure(len("{") + measure(head).first, len("}"), several=True)
    return Measure(lengths[0], lengths[-1], several=len(lengths) > 1)


def _is_expanded(node: Node) -> bool:
    """Say whether there is a line break at any place where an expanded value has one."""
    breaks = [child.before for child in node.children[:: 2 if node.text == "{" else 1]]
    last = node.children[-1].after if node.children else None
    return any("\n" in extra for extra in (*breaks, last or "", node.tail))


def _arrange(node: Node, depth: int, *, standard: bool) -> None:
    """Lay out all extras inside, from the outer ones to the inner ones.

    Args:
        node: what has to be laid out.
        depth: how far its line is indented.
        standard: the text is JSON, and stays it.
    """
    for index, child in enumerate(node.children):
        inner = depth + node.expanded
        if node.is_value_of(index):
            child.before = arranged(child.before, depth + 2, _BEFORE_VALUE)
            inner += "\n" in (node.children[index - 1].after or "") + child.before
        else:
            rules = Rules(starts_line=node.expanded, cut_first=index == 0, parted=index > 0)
            child.before = arranged(child.before, depth + 1, rules)
        _arrange(child, inner, standard=standard)
        if child.after is not None:
            child.after = arranged(child.after, depth + 2, _AFTER)
        node.tall |= "\n" in child.before + (child.after or "") or child.tall
    rules = Rules(ends_line=node.expanded, cut_first=not node.children, cut_last=True, outdent=True)
    if node.nests:
        node.tail = arranged(node.tail, depth + 1, rules)
    if node.children:
        _end(node, node.children[-1], standard=standard)


def _end(node: Node, last: Node, *, standard: bool) -> None:
    """Add a trailing comma where children have lines of their own, and remove it elsewhere."""
    if node.expanded:
        if last.after is None and not standard:
            last.after = ""
    elif last.after is not None and not (last.after and node.tail):
        # With comments on both sides it tells them apart.
        node.tail, last.after = last.after + node.tail, None


def _paddings(node: Node) -> Iterator[tuple[Node, int]]:
    """Yield how far values have to move to stand below those of the keys on adjacent lines."""
    if node.text == "{":
        block: list[tuple[Node, int]] = []
        for key, value in zip(node.children[::2], node.children[1::2], strict=True):
            around = (key.after or "") + value.before + (value.after or "")
            in_line = "\n" in key.before and "\n" not in around and not value.tall
            if not in_line or key.before.count("\n") > 1:
                yield from _to_widest(block)
                block = []
            if in_line:
                width = size(key.text) + size(key.after or "") + len(":") + size(value.before)
                block.append((value, width))
        yield from _to_widest(block)
    for child in node.children:
        yield from _paddings(child)


def _to_widest(block: list[tuple[Node, int]]) -> Iterator[tuple[Node, int]]:
    widest = max((width for _, width in block), default=0)
    return ((value, widest - width) for value, width in block if width < widest)

"""HuJSON text -> tokens, by one regular expression."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

# INVARIANT(linear): each repetition is possessive or in an atomic group, so nothing that was
# read is read again; and the last alternatives take any character, so no text is skipped.
TOKEN: Final = re.compile(
    r"""[ \t\r\n]*+
    (?: (?P<plain> "[^"\\\x00-\x1f]*+" )
      | (?P<comma> , )
      | (?P<colon> : )
      | (?P<begin_array> \[ )
      | (?P<end_array> \] )
      | (?P<begin_object> \{ )
      | (?P<end_object> \} )
      | (?P<comment> //[^\n]*+(?=\n) | /\*(?>(?s:.)*?\*/) )
      | (?P<escaped> "(?:[^"\\\r\n]|\\[^\r\n])*+" )
      | (?P<number> -?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+(?![\w.+-]) )
      | (?P<constant> (?:true|false|null)(?![\w.+-]) )
      | (?P<end> \Z )
      | (?P<open_comment> //[^\n]*+ | /\*(?s:.)*+ )
      | (?P<open_string> "[^\r\n]*+ )
      | (?P<other> [\w.+-]++ | \#[^\r\n]*+ | '[^'\r\n]*+'?+ | (?s:.) )
    )""",
    re.VERBOSE,
)


#: A stretch of the text: kind, start and end (in characters). Between two of them there is only
#: white space. The kind is the name of a group of `TOKEN`: a string is ``plain`` if it stands for
#: itself, ``escaped`` if it has escapes (or control characters, which are wrong); a ``comment``
#: is without its line's end; ``open_…`` lacks its end; ``other`` is nothing of HuJSON.
Token = tuple[str, int, int]


def tokens(text: str) -> Iterator[Token]:
    """Yield all tokens, the one of kind ``end`` last."""
    for found in TOKEN.finditer(text):
        kind = found.lastgroup or ""
        yield kind, found.start(kind), found.end()

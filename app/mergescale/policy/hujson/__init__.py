"""HuJSON, the language of policy files: JSON with comments and trailing commas.

    text --tokens--> tokens --reader.parse--> Value             what it means, with places
                            --syntax.read---> Node --layout-->  format(text)
                            ----standard-->  standardize(text), minimize(text)

What must hold:

* `parse` never raises: whatever is wrong with a text is a diagnostic with its place. All others
  raise `Unreadable`, and nothing else, for a text that is no HuJSON.
* Work is linear in the text. One expression without backtracking finds the tokens; the first
  text that can be no token ends the reading; nesting is bounded.
* Stricter than many JSON readers, because two readers of one policy must never disagree:
  duplicate keys, numbers that not everyone reads alike and lone surrogates are errors of `parse`.
* `format`, `standardize` and `minimize` give byte for byte what the reference implementation
  (github.com/tailscale/hujson) gives, because deployed tools compare hashes of formatted policies.
  They change neither values nor, for `format`, comments.

Does not know what a policy is.
"""

from __future__ import annotations

from collections.abc import Callable

from mergescale.policy.hujson.layout import format  # noqa: A004 - the reference's word
from mergescale.policy.hujson.reader import MAX_DEPTH, MAX_TEXT_BYTES, Unreadable, parse
from mergescale.policy.hujson.standard import minimize, standardize
from mergescale.policy.hujson.tree import Kind, Member, Value

#: `format`, `standardize` or `minimize`.
Rewrite = Callable[[str], str]

__all__ = [
    "MAX_DEPTH",
    "MAX_TEXT_BYTES",
    "Kind",
    "Member",
    "Rewrite",
    "Unreadable",
    "Value",
    "format",
    "minimize",
    "parse",
    "standardize",
]

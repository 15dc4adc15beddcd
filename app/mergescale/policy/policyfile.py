"""The policy as one text, which is how Tailscale's API and its tools know it.

A repository may split its policy over ``policy.d``; the API shows the parts joined, and what is set
over the API is always the one file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from mergescale.policy import hujson
from mergescale.policy.diagnostics import Report
from mergescale.policy.fragments import join
from mergescale.policy.repository import FRAGMENTS, POLICY, is_ours

#: What is shown before anything was set. It says what is in force then: nobody reaches anybody.
UNSET: Final = """\
// No policy was set yet, so nobody reaches anybody.
{
	"acls": [],
}
"""
_TESTS: Final = frozenset({"tests", "sshtests"})


def text_of(files: Mapping[str, str] | None) -> str:
    """Return the whole policy of a commit in force.

    Args:
        files: path -> text, None before the first commit. One file is returned as it was
            written; several are joined, without their comments, and laid out.
    """
    if files is None:
        return UNSET
    parts = [name for name in sorted(files) if name.startswith(FRAGMENTS) and is_ours(name)]
    if not parts:
        return files.get(POLICY, UNSET)
    names = [POLICY, *parts] if POLICY in files else parts
    return _written(_plain({name: files[name] for name in names}))


@lru_cache(maxsize=32)
def digest(text: str) -> str:
    """Return the SHA-256 of the text as ``hujson.format`` lays it out, in hex.

    SPEC(gitops-pusher): it compares this of its own file with the ``ETag`` of ``GET …/acl``.

    Raises:
        Unreadable: the text is no HuJSON.
    """
    return sha256(hujson.format(text).encode()).hexdigest()


def with_policy(files: Mapping[str, str] | None, text: str) -> dict[str, str]:
    """Return the files with another policy; people, tags, DNS and so on stay as they are."""
    beside = {
        name: held
        for name, held in (files or {}).items()
        if name != POLICY and not name.startswith(FRAGMENTS)
    }
    return {**beside, POLICY: text}


def with_tests(text: str, tests: list[Any]) -> str:
    """Return the policy with other tests than its own.

    Args:
        text: a policy without errors.
        tests: what ``tests`` is to be, as plain values.
    """
    plain = _plain({POLICY: text})
    kept = {name: value for name, value in plain.items() if name.casefold() not in _TESTS}
    return _written({**kept, "tests": tests})


def _plain(texts: Mapping[str, str]) -> dict[str, Any]:
    values = [hujson.parse(text, name)[0] for name, text in texts.items()]
    plain: dict[str, Any] = join([one for one in values if one is not None], Report()).plain()
    return plain


def _written(plain: Any) -> str:
    return hujson.format(json.dumps(plain, ensure_ascii=False))

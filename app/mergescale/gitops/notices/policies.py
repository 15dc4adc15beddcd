"""The policy before and after a change, which Tailscale's webhooks carry with ``policyUpdate``.

They are looked up when a change is told, not when it is said: in the database they are once already.
"""

from __future__ import annotations

from typing import Final

from mergescale.gitops.operators.kept import REACH
from mergescale.kernel.ids import TailnetName
from mergescale.policy.policyfile import text_of
from mergescale.state.ports import Applied, Past

#: LIMIT: a text that is longer is left out; receivers take so much.
MAX_TEXT_BYTES: Final = 512 << 10


async def texts_around(past: Past, tailnet: TailnetName, commit: str) -> dict[str, str]:
    """Return the policy of a commit and the one that was in force before it.

    Args:
        past: what was in force.
        tailnet: whose.
        commit: full object id.

    Returns:
        ``newPolicy`` and ``oldPolicy``, each as ``GET …/acl`` had it; without what is not kept any
        more, or too long.

    Raises:
        StoreUnavailable: the database could not be read.
    """
    known = await past.history(tailnet, REACH)
    at = next((place for place, one in enumerate(known) if one.commit == commit), None)
    if at is None:
        return {}
    found = {"newPolicy": await _text(past, tailnet, known[at])}
    if at + 1 < len(known):
        found["oldPolicy"] = await _text(past, tailnet, known[at + 1])
    elif len(known) < REACH:
        found["oldPolicy"] = text_of(None)
    return {name: text for name, text in found.items() if 0 < len(text.encode()) <= MAX_TEXT_BYTES}


async def _text(past: Past, tailnet: TailnetName, one: Applied) -> str:
    files = await past.texts(tailnet, one.revision)
    return "" if files is None else text_of(files)

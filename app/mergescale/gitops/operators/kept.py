"""What was in force before: the deployments that the database keeps, as if fetched again."""

from __future__ import annotations

from typing import Final

from mergescale.gitops.git.messages import Found
from mergescale.gitops.operators.naming import checked, one_of
from mergescale.gitops.trust.demands import Signatures, Verdict
from mergescale.kernel.errors import Conflict, NotFound
from mergescale.kernel.ids import TailnetName
from mergescale.state.ports import Applied, Past

#: LIMIT: deployments that are searched for a commit; as many as the store keeps.
REACH: Final = 200


def chosen(past: tuple[Applied, ...], commit: str) -> Applied:
    """Return the newest deployment of a commit.

    Raises:
        Conflict: the short id is that of several.
        Invalid: it is no object id.
        NotFound: no deployment of it is kept.
    """
    checked(commit)
    whole = one_of({one.commit for one in past if one.commit.startswith(commit)}, commit)
    for one in past:
        if one.commit == whole:
            return one
    raise NotFound(f'"{commit}" was not in force', help="see mergescale gitops history")


def commit_of(past: tuple[Applied, ...], commit: str) -> Applied:
    """Return the newest deployment of a commit, as `chosen`; what an operator made up is none.

    Raises:
        Conflict: it was an override.
    """
    kept = chosen(past, commit)
    if kept.until is not None:
        raise Conflict(f"{kept.commit[:12]} was an override, and is no commit")
    return kept


async def found_again(past: Past, tailnet: TailnetName, kept: Applied) -> Found:
    """Return a deployment as if it had been fetched, verified as it was then.

    Raises:
        NotFound: its texts are not kept any more.
        StoreUnavailable: the database could not be read.
    """
    files = await past.texts(tailnet, kept.revision)
    if files is None:
        raise NotFound(f"the texts of {kept.commit[:12]} are not kept any more")
    return Found(
        commit=kept.commit,
        subject=kept.subject,
        author=kept.author,
        committed_s=int(kept.committed.timestamp()),
        descends=True,
        files=dict(files),
        faults=[],
        verdict=Verdict(signatures=Signatures.OFF, by=kept.verified_by),
    )

"""A small tailnet with SSH logins that need a check, and attempts to log in."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from mergescale.domain.declaration import Declaration
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import LoginId
from mergescale.state.sshchecks import Answer, Attempt, ask
from support.clock import START
from support.policies import policy
from support.ssh import entry, ssh_text
from support.worlds import named, world

PEOPLE = "ana@example.com: laptop, phone; ben@example.com: desk; tag:web: w1, w2; tag:db: d1"
#: Ana and Ben may log in at tag:web after a check; whoever is root asks each time.
RULES = (
    entry("group:eng", "tag:web", "ubuntu autogroup:nonroot", action="check", checkPeriod="1h"),
    entry("group:eng tag:db", "tag:web", "root", action="check", checkPeriod="always"),
    entry("group:eng", "tag:db", "ubuntu"),
)


def checked(*rules: dict[str, object], **more: object) -> Snapshot:
    """Return the tailnet under these entries of ``ssh``, or under `RULES`."""
    text = ssh_text(*(rules or RULES), **more)
    return world(PEOPLE, declaration=Declaration(policy(text)))


def attempt(
    snapshot: Snapshot,
    source: str = "laptop",
    target: str = "w1",
    user: str = "ubuntu",
    *,
    check: LoginId | None = None,
    fresh: str = "check-1",
) -> Attempt:
    """Return what the target asks about the source."""
    asked = named(snapshot, target)
    return Attempt(
        asked.machine_key, named(snapshot, source).id, asked.id, user, check, LoginId(fresh)
    )


def asked(
    before: Snapshot, one: Attempt | None = None, now: datetime = START
) -> tuple[Snapshot, Answer]:
    """Carry an attempt out, the usual one if none is given."""
    outcome = ask(one or attempt(before))(before, now)
    return outcome.snapshot, outcome.answer


def waiting_at(one: Attempt, check: LoginId) -> Attempt:
    """Return the attempt as it is repeated by whoever was told to wait."""
    return replace(one, check=check, fresh=LoginId(f"after-{check}"))

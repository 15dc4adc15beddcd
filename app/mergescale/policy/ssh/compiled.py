"""What compilation makes of an entry of ``ssh``: numbers of source lists and targets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from mergescale.policy.diagnostics import Span
from mergescale.policy.ssh.document import Logins


@dataclass(frozen=True, slots=True, eq=False)
class CompiledSsh:
    """One entry of ``ssh`` that can let somebody in.

    Attributes:
        source: number of its source list.
        among: bits of the targets.
        own: leads to ``autogroup:self``.
        check_period: None accepts at once.
        recorders: bits of the targets that record.
        recorded: without a recorder there is no session.
    """

    source: int
    among: int
    own: bool
    logins: Logins
    check_period: timedelta | None
    accept_env: tuple[str, ...]
    recorders: int
    recorded: bool
    origin: Span


def local_parts(entries: Iterable[CompiledSsh]) -> Logins | None:
    """Return the logins that know the domain of local parts; there is at most one domain."""
    return next((one.logins for one in entries if one.logins.domain), None)

"""Plans of texts that somebody proposes, over a server's own devices and users.

Nothing is fetched and nothing changes. The work is done where it can do no harm
(``trying/containment.py``): to compare what a small policy lets through can take much longer than to
compile it. And for a tailnet it is done one at a time: a storm of pull requests is no storm of processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from mergescale.domain.snapshot import Snapshot
from mergescale.gitops.errors import Transient
from mergescale.gitops.gates import Proposes, proposed
from mergescale.gitops.git.messages import Found
from mergescale.gitops.stages import Attempt, BadCommit, check, compile_policy, read
from mergescale.gitops.trying.containment import Contained
from mergescale.gitops.trying.proving import Proving
from mergescale.kernel.clock import Clock
from mergescale.kernel.errors import Conflict
from mergescale.netmap.inventory import revision_of
from mergescale.plan.build import make_plan
from mergescale.plan.gates import Limits
from mergescale.plan.model import Plan
from mergescale.plan.rendering import PlanRefused, Review
from mergescale.plan.side import Side, tree_of
from mergescale.policy.diagnostics import Diagnostic
from mergescale.policy.repository import or_nothing, selftest
from mergescale.state.engine import Engine
from mergescale.state.ports import StoreUnavailable

#: LIMIT: who wait for their turn; each holds megabytes of texts.
_WAITING: Final = 8
#: Which of the texts it is, by their names in the request.
_NO_POLICY: Final = '"{}" are no policy'


class _Made(msgspec.Struct, frozen=True, tag=True):
    """A `Review` without the texts, which whoever asks has."""

    plan: Plan
    said: tuple[Diagnostic, ...]
    tested: tuple[Diagnostic, ...]


class _Refused(msgspec.Struct, frozen=True, tag=True):
    """A `PlanRefused` without the texts.

    Attributes:
        base: it is about those of the base.
    """

    message: str
    diagnostics: tuple[Diagnostic, ...]
    base: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Texts that are compared; a `containment.Task`.

    Attributes:
        files: what is proposed.
        base: what it is compared with; None for what is in force. Where that is no policy, nobody
            reaches anything.
        now: for what depends on the time.
        limits: of the gates; None asks none.
    """

    files: Mapping[str, str]
    base: Mapping[str, str] | None
    now: datetime
    limits: Limits | None

    def carry_out(self, snapshot: Snapshot) -> bytes:
        """Compare them over a tailnet."""
        try:
            before = self._before(snapshot)
            attempt = _attempt("files", self.files, snapshot)
            after = Side(tree_of(self.files), attempt.declared, proposed(attempt, self.now))
            plan = make_plan(before, after, revision_of(snapshot), self.limits)
            tested = selftest(attempt.declared, after.snapshot)
            answer: _Made | _Refused = _Made(plan, attempt.diagnostics, tested)
        except PlanRefused as refused:
            answer = _Refused(
                refused.message, refused.diagnostics, base=refused.texts is not self.files
            )
        return msgspec.json.encode(answer)

    def _before(self, snapshot: Snapshot) -> Side:
        held = snapshot.deployment
        if self.base is None and held is not None:
            return Side(tree_of(held.files), held.declaration, snapshot)
        base = or_nothing(self.base or {})
        attempt = _attempt("base", base, snapshot)
        return Side(tree_of(base), attempt.declared, proposed(attempt, self.now))


async def compare(proving: Proving, snapshot: Snapshot, texts: Comparison) -> Review:
    """Plan texts over a tailnet.

    Raises:
        PlanRefused: one of them is no policy, or it is too much work.
        StoreUnavailable: it could not be begun.
    """
    try:
        answer = await proving.work(texts, snapshot)
    except Contained as error:
        raise PlanRefused(f"no plan is made of it, as {error.message}", (), {}) from None
    except Transient as error:
        raise StoreUnavailable(error.message, help=error.help) from error
    match await asyncio.to_thread(msgspec.json.decode, answer, type=_Made | _Refused):
        case _Made(plan=plan, said=said, tested=tested):
            return Review(plan, said, tested, texts.files)
        case _Refused(message=message, diagnostics=diagnostics, base=of_base):
            quoted = (texts.base or {}) if of_base else texts.files
            raise PlanRefused(message, diagnostics, quoted)
    raise AssertionError("it is one of the two")


async def next_plan(
    branch: Proposes, found: Found, snapshot: Snapshot, now: datetime
) -> Plan | None:
    """Return the plan of a commit of the branch over what is in force; None while nothing is.

    Raises:
        Conflict: it is no policy, or too much work.
        StoreUnavailable: it could not be begun.
    """
    if snapshot.deployment is None:
        return None
    texts = Comparison(found.files, None, now, branch.safeguards.limits)
    try:
        if found.faults:
            read(Attempt(found, snapshot))
        return (await compare(branch.proving, snapshot, texts)).plan
    except (BadCommit, PlanRefused) as error:
        message = error.message.removeprefix(f"{_NO_POLICY.format('files')}: ")
        raise Conflict(f"{found.commit[:12]} has no plan: {message}", help=error.help) from error


class Planner:
    """Of one tailnet.

    Args:
        engine: of the tailnet.
        clock: for what depends on the time.
        limits: of its gates.
        proving: where plans are made.
    """

    def __init__(
        self, engine: Engine, clock: Clock, limits: Limits, proving: Proving | None = None
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._limits = limits
        self._proving = proving or Proving(engine)
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def review(self, files: Mapping[str, str], base: Mapping[str, str] | None) -> Review:
        """Compare texts with what is in force.

        Args:
            files: path in the watched folder -> text.
            base: texts to compare with instead.

        Raises:
            PlanRefused: one of them is no policy, or it is too much work.
            Conflict: too many plans are asked for.
            StoreUnavailable: it could not be begun.
        """
        if self._waiting >= _WAITING:
            raise Conflict("too many plans are being made at the moment", help="ask again later")
        self._waiting += 1
        try:
            async with self._turn:
                texts = Comparison(files, base, self._clock.now(), self._limits)
                return await compare(self._proving, self._engine.snapshot, texts)
        finally:
            self._waiting -= 1


def _attempt(which: str, files: Mapping[str, str], snapshot: Snapshot) -> Attempt:
    found = Found(
        commit="",
        subject="",
        author="",
        committed_s=0,
        descends=True,
        files=dict(files),
        faults=[],
    )
    try:
        return compile_policy(check(Attempt(found, snapshot)))
    except BadCommit as error:
        wrong = [one.diagnostic for one in error.problems]
        raise PlanRefused(f"{_NO_POLICY.format(which)}: {error.message}", wrong, files) from None

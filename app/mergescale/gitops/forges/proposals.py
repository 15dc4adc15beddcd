"""Open pull requests: each is merged for trial with the branch as it is, planned, and told of.

Which there are is asked of the forge, after every look at the branch (so a webhook is enough) and
now and then; nothing that a webhook says is believed. What was planned once is planned again when
its head, the branch, what is in force, or the devices and people have changed: at once for a new
head, otherwise at most every so often, and marked as stale meanwhile.

One at a time, beside the looks at the branch and never in their way. What is known of each is kept
in the outbox under `CHANNEL`, which nobody outside hears: it is what every replica shows.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from datetime import datetime
from math import inf
from typing import Final, Protocol

import structlog

from mergescale.domain.letter import Letter
from mergescale.gitops.errors import ReconcileError, Stalled, Transient
from mergescale.gitops.forges.port import Forge, Pull
from mergescale.gitops.forges.proposal import Basis, Proposal, first, recalled, remember
from mergescale.gitops.forges.reporter import Reporter
from mergescale.gitops.forges.reports import Check, Report, pending, skipped, unreached
from mergescale.gitops.forges.verdicts import Judged, Judging, Tried, read
from mergescale.gitops.git.excess import TOO_LARGE
from mergescale.gitops.git.trials import Tries
from mergescale.gitops.outbox import Retry, Says, Undeliverable
from mergescale.gitops.status import Status
from mergescale.gitops.trying.containment import Contained
from mergescale.gitops.trying.proving import Proving
from mergescale.gitops.waits import bounded_s
from mergescale.kernel.clock import Clock
from mergescale.kernel.ids import TailnetName
from mergescale.netmap.inventory import revision_of
from mergescale.plan.gates import Limits
from mergescale.plan.markdown import MARKER
from mergescale.plan.redaction import Redaction
from mergescale.state.engine import Engine
from mergescale.state.ports import StoreUnavailable

log = structlog.get_logger()

#: The outbox's channel of what is known of pull requests.
CHANNEL: Final = "pulls"
#: The key there of why the forge does not say which there are.
TROUBLE: Final = "trouble"
#: What stands in a comment while its plan is of yesterday.
STALE: Final = (
    "> **Stale**: the branch or the devices have changed since. It is planned again soon."
)
#: LIMIT: trials of one round; the others wait for the next.
MAX_TRIALS: Final = 20
#: LIMIT: pull requests that are looked at, the newest first.
MAX_PULLS: Final = 100
#: Seconds after which all that is known is said again: the outbox forgets what is a month old.
REMINDER_S: Final = 3600.0
#: Seconds between two rounds, at least, whoever asks for more.
SPACING_S: Final = 1.0
_FIRST_RETRY_S: Final = 1.0
_LONGEST_RETRY_S: Final = 600.0
_CHECKS: Final = (Check.VALIDATE, Check.TEST, Check.PLAN)
#: The verdict on what is too large, or the compiler did not survive; only another head is tried.
GAVE_UP: Final = "gave up"
#: Reasons for which a trial did not end, and which may lie in what the pull request brings.
_ITS_OWN: Final = frozenset({"Timeout", "WorkerFailed", "GitEnded"})
_FORK: Final = "not planned: it comes from a fork"


class Known(Protocol):
    """What was known before a restart; `store.outbox.SqlLetters`."""

    async def states(self, tailnet: TailnetName, channel: str) -> list[Letter]:
        """Return the newest state of each key."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """What is done with pull requests.

    Attributes:
        branch: that they are to be merged into.
        forks: plan those of forks too.
        redact: how much of a plan is told.
        limits: of the gates.
        poll_s: seconds between rounds that nobody asks for.
        replan_s: seconds between two plans of one head, at least.
    """

    branch: str
    redact: Redaction
    limits: Limits
    forks: bool = False
    poll_s: float = 60.0
    replan_s: float = 60.0


class Proposals:
    """Of one tailnet's repository. Drive it with `run`, where the duties are.

    Args:
        engine: of the tailnet.
        forge: knows the pull requests.
        trials: merge them.
        reporter: says what came of it.
        terms: what is done with them.

    Attributes:
        proving: where they are judged.
    """

    def __init__(
        self, engine: Engine, forge: Forge, trials: Tries, reporter: Reporter, terms: Terms
    ) -> None:
        self.proving = Proving(engine)
        self._engine = engine
        self._forge = forge
        self._trials = trials
        self._reporter = reporter
        self._terms = terms
        self._looked = asyncio.Event()
        self._tip = ""
        self._ours = frozenset[str]()
        self._reminded_s = -inf
        self._known: dict[int, Proposal] = {}
        self._left = False
        #: Not known at first: another replica may have told of one.
        self._trouble: str | None = None

    def listen(self, _before: Status, after: Status) -> None:
        """Take note that there was a look; for `Reconciler.listeners`."""
        self._tip = "" if after.target is None else after.target.commit
        self._looked.set()

    async def run(self, clock: Clock, outbox: Says, known: Known) -> None:
        """See to pull requests for ever; cancel it when the duties are another replica's."""
        failures = 0
        try:
            self._known = await self._remembered(known)
            while True:
                self._looked.clear()
                try:
                    await self.turn(clock, outbox)
                    failures = 0
                    self._tell("", outbox)
                    await asyncio.sleep(SPACING_S)
                    await self._rest(clock)
                except (Retry, Undeliverable) as error:
                    failures += 1
                    self._tell(error.message, outbox)
                    await asyncio.sleep(pause_s(error, failures))
                except Exception:
                    # A round that breaks must end neither the rounds nor the server.
                    failures += 1
                    log.exception("pulls.round-broke")
                    await asyncio.sleep(_backoff_s(failures))
        finally:
            await self._trials.close()
            await self._forge.close()

    async def turn(self, clock: Clock, outbox: Says) -> None:
        """Look at the open pull requests once.

        Raises:
            Retry, Undeliverable: the forge does not say which there are.
        """
        pulls = (await self._forge.open_pulls(self._terms.branch))[:MAX_PULLS]
        for number in self._known.keys() - {one.number for one in pulls}:
            del self._known[number]
            outbox.say(CHANNEL, str(number), {"open": False})
        snapshot = self._engine.snapshot
        inventory = await asyncio.to_thread(revision_of, snapshot)
        in_force = "" if snapshot.deployment is None else snapshot.deployment.commit
        # Commits that a fork's pull request holds too are not the fork's to report on.
        self._ours = frozenset({*(one.head for one in pulls if not one.fork), self._tip, in_force})
        if remind := clock.monotonic() - self._reminded_s >= REMINDER_S:
            self._reminded_s = clock.monotonic()
        tried, self._left = 0, False
        for pull in pulls:
            basis = Basis(pull.head, self._tip, in_force, inventory)
            before = self._known.get(pull.number)
            after = self._judged_before(pull, basis, before, clock)
            if after is None and tried >= MAX_TRIALS:
                self._left = True
                continue
            if after is None:
                tried += 1
                after = await self._try(pull, basis, before, clock)
            self._known[pull.number] = after
            if remind or after != before:
                outbox.say(CHANNEL, str(pull.number), remember(after))

    def _judged_before(
        self, pull: Pull, basis: Basis, before: Proposal | None, clock: Clock
    ) -> Proposal | None:
        """Return what is known of it without a trial; None if it needs one now."""
        if pull.fork and not self._terms.forks:
            if before is not None and before.basis is not None and before.head == pull.head:
                return before
            for check in _CHECKS:
                self._say(pull, skipped(check, _FORK))
            told = first(pull, clock.now())
            return replace(told, verdict="not planned: fork", basis=basis)
        if before is None or before.head != pull.head:
            return None
        since_s = clock.monotonic() - before.planned_s
        if before.failures and since_s < _backoff_s(before.failures):
            # Whoever opens one whose trial never ends must not keep the server at it.
            return before
        if before.basis is None:
            return None
        if before.basis == basis or before.verdict == GAVE_UP:
            # What was too much work is not done again with each device that comes or goes.
            return before
        if since_s >= self._terms.replan_s:
            return None
        if not before.stale and before.comment:
            self._reporter.comment(pull.number, _marked(before.comment))
        return replace(before, stale=True)

    async def _try(
        self, pull: Pull, basis: Basis, before: Proposal | None, clock: Clock
    ) -> Proposal:
        """Merge, judge and tell; return what is known afterwards."""
        if before is not None and before.head == pull.head:
            proposal = before
        else:
            proposal = first(pull, clock.now())
            for check in _CHECKS:
                self._say(pull, pending(check, "under way"))
        try:
            merged = await self._trials.attempt(self._forge.head_ref(pull.number))
            if merged.head != pull.head:
                # It moved since the forge was asked, which will say so the next time.
                raise Transient("Moved", "its head has moved")
            paths = merged.conflicts
            tried = Tried(pull.number, merged.head, merged.base, merged.found, paths)
            found = await self._judge(tried, clock.now())
        except Stalled as error:
            found = _untried(error)
        except ReconcileError as error:
            log.warning("pulls.not-tried", number=pull.number, why=error.message)
            for check in _CHECKS:
                self._say(pull, pending(check, f"tried again: {error.message}"))
            # With the next round, or ever later: what it is of is not noted.
            return replace(
                proposal,
                stale=proposal.basis is not None,
                planned_s=clock.monotonic(),
                failures=proposal.failures + (error.reason in _ITS_OWN),
            )
        except Exception:
            # One pull request that breaks the server must not end the others, nor come back.
            log.exception("pulls.broke", number=pull.number)
            found = _untried(Stalled("InternalError", "the server failed to plan it"))
        for report in found.reports:
            self._say(pull, report)
        self._reporter.annotate(pull.head, found.notes)
        if found.comment:
            self._reporter.comment(pull.number, found.comment)
        same = (proposal.verdict, proposal.hash) == (found.verdict, found.hash)
        return replace(
            proposal,
            verdict=found.verdict,
            hash=found.hash,
            stale=False,
            since=proposal.since if same else clock.now(),
            basis=basis,
            comment=found.comment,
            planned_s=clock.monotonic(),
            failures=0,
        )

    def _say(self, pull: Pull, report: Report) -> None:
        if pull.fork and pull.head in self._ours:
            return
        ref = self._forge.head_ref(pull.number) if pull.fork else ""
        self._reporter.say(pull.head, report, ref)

    async def _judge(self, tried: Tried, now: datetime) -> Judged:
        """Judge it where that can do no harm; raises Contained, Transient."""
        judging = Judging(tried, now, self._terms.redact, self._terms.limits)
        answer = await self.proving.work(judging, self._engine.snapshot)
        return await asyncio.to_thread(read, answer)

    async def _remembered(self, known: Known) -> dict[int, Proposal]:
        """Return what was known before, as far as it can be read."""
        try:
            letters = await known.states(self._engine.snapshot.tailnet, CHANNEL)
        except StoreUnavailable:
            return {}
        return {one.number: one for letter in letters if (one := recalled(letter)) is not None}

    async def _rest(self, clock: Clock) -> None:
        """Pause, or until there was a look, or something stale may be planned again."""
        now_s = clock.monotonic()
        waits_s = [
            one.planned_s + self._terms.replan_s - now_s
            for one in self._known.values()
            if one.stale
        ]
        pause_s = 0.0 if self._left else min([self._terms.poll_s, *waits_s])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(pause_s, 0.0)):
                await self._looked.wait()

    def _tell(self, trouble: str, outbox: Says) -> None:
        """Tell what changed: a lasting trouble is worth one line, not one for each round."""
        before, self._trouble = self._trouble, trouble
        if trouble != before:
            outbox.say(CHANNEL, TROUBLE, {"trouble": trouble})
        if trouble and trouble != before:
            log.warning("pulls.trouble", tailnet=self._engine.snapshot.tailnet, why=trouble)
        elif before and not trouble:
            log.info("pulls.recovered", tailnet=self._engine.snapshot.tailnet)


def _marked(comment: str) -> str:
    return f"{MARKER}\n{STALE}\n{comment.removeprefix(MARKER)}"


def _untried(error: Stalled) -> Judged:
    """Return what is said of a pull request that nobody can merge for trial, or plan."""
    words = f"not reached: {error.message}"
    reports: tuple[Report, ...] = tuple(unreached(check, words) for check in _CHECKS)
    much = isinstance(error, Contained) or error.reason == TOO_LARGE
    verdict = GAVE_UP if much else "not planned"
    return Judged(verdict, "", "", reports)


def pause_s(error: Retry | Undeliverable, failures: int) -> float:
    """Return how long to leave the forge alone; it may ask for an hour at most."""
    if not isinstance(error, Retry):
        return _backoff_s(failures)
    if error.after_s is not None:
        return bounded_s(error.after_s)
    return min(_backoff_s(failures), error.longest_s)


def _backoff_s(failures: int) -> float:
    pause_s: float = min(_FIRST_RETRY_S * 2 ** min(failures - 1, 16), _LONGEST_RETRY_S)
    return pause_s

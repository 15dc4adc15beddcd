"""One look at the repository and everything that follows from it, stage by stage.

    fetch -> read -> check -> test -> compile -> gates -> apply

A stage that fails ends the attempt: nothing has changed, and the `Status` says why. A commit that
was judged is not tried again before the branch moves or an operator asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import structlog

from mergescale.domain.declaration import Deployment
from mergescale.gitops.asking import Fetches
from mergescale.gitops.errors import HeldBack, ReconcileError, Stalled, Transient
from mergescale.gitops.gates import Passed, Safeguards, admit, is_over, left_s, planned
from mergescale.gitops.git.messages import Found, Unchanged
from mergescale.gitops.git.source import Source
from mergescale.gitops.sharing import Sharing
from mergescale.gitops.stages import Attempt, BadCommit, committed_of, deployed
from mergescale.gitops.status import WANTED, CommitInfo, ConditionName, Status, fresh, problems
from mergescale.gitops.trust import demands as trust
from mergescale.gitops.trying.proving import Proving
from mergescale.kernel.clock import Clock
from mergescale.kernel.errors import Refusal
from mergescale.state import following, policies
from mergescale.state.engine import Engine, EngineStopped
from mergescale.state.ports import Fence, LeaseLost, StoreUnavailable

log = structlog.get_logger()


#: Returns the lease on following repositories, None while another replica holds it.
Duties = Callable[[], Fence | None]


class Reconciler:
    """Brings the newest good commit of one tailnet's repository into force.

    Args:
        engine: of the tailnet.
        source: what is followed.
        fetcher: asks git.
        clock: for the status.
        duties: without it nobody else can follow the repository.

    Attributes:
        sharing: between this replica and the others.
        proving: tries a commit before it is judged.
        listeners: told the status before and after each attempt. They must not block, and are told
            the same again after a restart.
        safeguards: what a good commit has to pass before it comes into force.
    """

    def __init__(
        self,
        engine: Engine,
        source: Source,
        fetcher: Fetches,
        clock: Clock,
        duties: Duties | None = None,
    ) -> None:
        self._duties = duties
        self._fence: Fence | None = None
        self._engine = engine
        self.sharing = Sharing(engine)
        self.safeguards = Safeguards()
        self.proving = Proving(engine)
        self._fetcher = fetcher
        self._clock = clock
        self._status = fresh(
            source.display, source.branch, source.folder, clock.now(), follows=source.followed.kind
        )
        self._one_at_a_time = asyncio.Lock()
        self._started = 0
        #: The newest commit that was judged, and why it was refused.
        self._judged = ""
        self._verdict: Stalled | None = None
        #: What the newest commit does, as far as the gates looked.
        self._figures = ""
        #: What operators wanted when it was judged.
        self._wishes = engine.snapshot.following.wishes
        self.trouble: ReconcileError | None = None
        self.listeners: list[Callable[[Status, Status], None]] = []
        deployment = engine.snapshot.deployment
        # What was put back by hand is not the newest commit that was good.
        if deployment is not None and not deployment.of_api and not deployment.by:
            # A restart is no news, so what is said of that commit stays as it was.
            self._figures = self.sharing.message(ConditionName.PLANNED)
            self._settle(deployment.commit, deployment.applied)

    @property
    def status(self) -> Status:
        """Where following the repository stands now."""
        deployment = self._engine.snapshot.deployment
        if deployment is None:
            return self._status
        return replace(self._status, current=CommitInfo.of(deployment), applied=deployment.applied)

    async def sync(self, *, retry: bool = False) -> Status:
        """Look at the repository now and bring a new good commit into force.

        Any number of callers may ask at once: at most one look is under way and one more follows
        for all who asked meanwhile. What goes wrong is in the status and in `trouble`.

        Args:
            retry: judge a refused commit again, even if nothing has moved.
        """
        started_before = self._started
        async with self._one_at_a_time:
            if retry or self._started == started_before:
                self._started += 1
                await self._attempt(retry=retry)
        return self.status

    async def newest(self) -> str:
        """Return the full id of the newest commit, whatever there is to say about it.

        Raises:
            ReconcileError: the repository does not say.
        """
        async with self._one_at_a_time:
            reply = await self._ask("", "")
        return reply.commit

    async def proposed(self) -> Found | None:
        """Return the newest commit, from whom it must be; None if it is in force.

        Nothing changes, and any replica may ask.

        Raises:
            ReconcileError: there is none that could come into force.
        """
        async with self._one_at_a_time:
            applied = _followed(self._engine.snapshot.deployment)
            reply = await self._ask("", applied)
            if not isinstance(reply, Found) or reply.commit == applied:
                return None
        self._demand(reply)
        self.proving.check(reply.commit)
        return reply

    @property
    def thaws_s(self) -> float | None:
        """The seconds until a freeze window that holds a commit back ends; None for none."""
        return left_s(self._verdict, self._clock.now())

    async def earlier(self, commit: str) -> Found:
        """Return a commit of the branch's history, from whom it must be.

        Args:
            commit: its id, which may be shortened.

        Raises:
            ReconcileError: there is none that could come into force.
        """
        async with self._one_at_a_time:
            applied = _followed(self._engine.snapshot.deployment)
            reply = await self._ask("", applied, past=commit)
        assert isinstance(reply, Found)  # noqa: S101 - nothing is known, so nothing is unchanged
        trust.demand(reply.verdict)
        return reply

    @property
    def elsewhere(self) -> bool:
        """Say whether another replica follows the repository."""
        return self._duties is not None and self._duties() is None

    def stand_by(self) -> None:
        """Say that another replica follows the repository; its newest commit is judged anew later."""
        self.trouble, self._judged, self._verdict = None, "", None
        self._status = replace(self._status, target=None, problems=(), attempts=0)
        states = dict.fromkeys(name.lower() for name in ConditionName)
        message = "the repository is followed by another replica of this server"
        self._tell(reason="FollowedElsewhere", message=message, **states)

    async def _attempt(self, *, retry: bool) -> None:
        if self._duties is not None:
            # Taken before anything is looked at: what follows from it is refused once it is lost.
            self._fence = self._duties()
            if self._fence is None:
                self.stand_by()
                return
        before, self.trouble, asked, was = self.trouble, None, self.sharing.asked, self.status
        try:
            await self._look(retry=retry)
        except ReconcileError as error:
            self.trouble = error
        except Exception:
            # One look that breaks must not end the following, nor the server.
            log.exception("gitops.broke")
            message = "looking at the repository failed inside the server"
            self.trouble = Transient("InternalError", message, help="see the server's log")
        now = self._clock.now()
        failed = self.trouble is not None
        self._status = replace(
            self._status,
            last_attempt=now,
            last_success=self._status.last_success if failed else now,
            attempts=self._status.attempts + 1 if failed else 0,
        )
        _tell_log(before, self.trouble, self._status)
        self._announce(was)
        if self._duties is not None:
            await self.sharing.tell(self.status, asked, self._fence)

    def _announce(self, before: Status) -> None:
        """Tell the listeners; one that breaks costs only itself."""
        for listen in self.listeners:
            try:
                listen(before, self.status)
            except Exception:
                log.exception("gitops.listener-broke")

    async def _look(self, *, retry: bool) -> None:
        """Fetch; judge what is new; say again what is not."""
        applied = _followed(self._engine.snapshot.deployment)
        self.proving.warm()
        judged = "" if retry or self._is_outdated(applied) else self._judged
        try:
            reply = await self._ask(judged, applied)
        except ReconcileError as error:
            self._told_unfetched(error)
            self._told_withheld()
            raise
        self._tell(fetched=True, reason="Fetched")
        if isinstance(reply, Found):
            self._status = replace(self._status, name=reply.name)
        match reply:
            case Found(commit=commit) as found if commit != applied:
                await self._judge(found)
            case Found(commit=commit) | Unchanged(commit=commit):
                if commit == applied:
                    if isinstance(reply, Found):
                        self._status = trust.told(self._status, reply.verdict, self._clock.now())
                    self._settle(commit, self._clock.now())
                if self._verdict is not None:
                    self._told_refused(self._verdict)
                    raise self._verdict

    def _is_outdated(self, applied: str) -> bool:
        """Say whether the verdict on the newest commit is to be made again though none moved."""
        if self._verdict is None:
            return self._judged != applied
        if is_over(self._verdict, self._clock.now()):
            return True
        return self._wishes != self._engine.snapshot.following.wishes

    async def _ask(self, known: str, applied: str, past: str = "") -> Unchanged | Found:
        told = self._engine.snapshot.following
        # What follows an override is what follows the commit that it stands in for.
        base = applied if told.override is None else told.override.instead_of
        return await self._fetcher.look(
            known=known, applied=base, accepted=told.accepted, past=past
        )

    def _demand(self, found: Found) -> None:
        """Let pass what may follow the commit in force, and comes from whom it must."""
        if not found.descends:
            raise _rewritten(self._engine.snapshot.deployment, found)
        trust.demand(found.verdict)

    async def _judge(self, found: Found) -> None:
        """Take a commit through the stages; remember the verdict."""
        target = replace(self._status, target=_info(found))
        self._status = trust.told(target, found.verdict, self._clock.now())
        snapshot = self._engine.snapshot
        self._wishes, self._figures = snapshot.following.wishes, ""
        try:
            self._demand(found)
            async with self.proving.judging(found.commit, self._fence):
                attempt = await self.proving.prepare(found, snapshot)
                now = self._clock.now()
                passed = await asyncio.to_thread(admit, attempt, self.safeguards, now)
                self._figures = passed.figures
                await self._apply(attempt, passed)
        except Transient as error:
            self._tell(applied=False, reason=error.reason, message=error.message)
            raise
        except Stalled as verdict:
            self._judged, self._verdict = found.commit, verdict
            self._told_refused(verdict)
            raise
        self._settle(found.commit, self._clock.now())
        self._status = replace(self._status, problems=problems(attempt.diagnostics, found.files))

    async def _apply(self, attempt: Attempt, passed: Passed) -> None:
        """Put the commit in force through the engine."""
        found = attempt.found
        committed, approval = committed_of(found), passed.approval
        deployment = deployed(attempt, committed, self._clock.now(), approval=approval)
        decision = policies.replace(deployment, attempt.compiled, attempt.against)
        try:
            await self._engine.apply(following.of_branch(decision, found.commit), self._fence)
        except following.Withheld as error:
            reason = type(error).__name__
            raise HeldBack(reason, error.message, help=error.help) from error
        except LeaseLost as error:
            message = "another replica follows the repository by now"
            raise Transient("LeaseLost", message, help=error.help) from error
        except (StoreUnavailable, EngineStopped) as error:
            message = "the database did not take the commit"
            raise Transient("StoreUnavailable", message, help="it is tried again") from error
        except Refusal as error:
            raise Stalled("Refused", error.message, help=error.help) from error

    def _settle(self, commit: str, now: datetime) -> None:
        """Say that the newest commit is in force."""
        self._judged, self._verdict = commit, None
        self._status = (
            self._status.told(now, valid=True, reason="Valid")
            .told(now, tested=True, reason="TestsPassed")
            .told(now, planned=True, reason="Planned", message=self._figures)
            .told(now, applied=True, reason="Applied")
            .told(now, stalled=False, reason="Following")
        )
        target = self._status.target
        if target is None or target.commit != commit:
            target = self.status.current
        self._status = replace(self._status, target=target, problems=())

    def _told_unfetched(self, error: ReconcileError) -> None:
        self._tell(fetched=False, reason=error.reason, message=error.message)
        if isinstance(error, Stalled):
            self._tell(stalled=True, reason=error.reason, message=error.message)

    def _told_withheld(self) -> None:
        """Say of a commit that was in force, and that an operator took back, that it is not."""
        snapshot, target = self._engine.snapshot, self._status.target
        if target is None or target.commit == policies.in_force(snapshot):
            return
        if self._status.holds(ConditionName.APPLIED):
            try:
                following.check(snapshot.following, target.commit)
            except following.Withheld as error:
                self._tell(applied=False, reason=type(error).__name__, message=error.message)

    def _told_refused(self, verdict: Stalled) -> None:
        """Say why the target is not in force; what was not reached is not known."""
        state, reason, message = planned(verdict, self._figures)
        self._tell(planned=state, reason=reason, message=message)
        match verdict:
            case BadCommit(condition="tested"):
                self._tell(valid=True, reason="Valid")
                self._tell(tested=False, reason=verdict.reason, message=verdict.message)
            case BadCommit():
                self._tell(valid=False, reason=verdict.reason, message=verdict.message)
                self._tell(tested=None, reason="NotReached")
            case HeldBack():
                self._tell(valid=True, reason="Valid")
                self._tell(tested=True, reason="TestsPassed")
            case _:
                self._tell(valid=None, tested=None, reason="NotReached")
        stalled = verdict.reason not in WANTED
        self._tell(applied=False, reason=verdict.reason, message=verdict.message)
        self._tell(stalled=stalled, reason=verdict.reason, message=verdict.message)
        shown = verdict.problems if isinstance(verdict, BadCommit) else ()
        self._status = replace(self._status, problems=shown)

    def _tell(self, *, reason: str, message: str = "", **states: bool | None) -> None:
        self._status = self._status.told(
            self._clock.now(), reason=reason, message=message, **states
        )


def _followed(deployment: Deployment | None) -> str:
    """Return the commit in force; what was set over the API is none, and on no branch."""
    return "" if deployment is None or deployment.of_api else deployment.commit


def _rewritten(deployment: Deployment | None, found: Found) -> Stalled:
    """Say that what is followed does not contain the commit in force any more."""
    held = deployment.commit[:12] if deployment is not None else ""
    name = found.name or "the branch"
    return Stalled(
        "HistoryRewritten",
        f"{name} no longer contains {held}, which is in force; it is followed forward only",
        help=f"put it back, merge {held} into it, or mergescale gitops accept {found.commit[:12]}",
    )


def _info(found: Found) -> CommitInfo:
    return CommitInfo(found.commit, found.subject, found.author, committed_of(found))


def _tell_log(before: ReconcileError | None, after: ReconcileError | None, status: Status) -> None:
    """Log what changed: a lasting trouble is worth one line, not one for each look."""
    target = status.target.commit[:12] if status.target is not None else None
    if after is not None and (before is None or before.message != after.message):
        log.warning("gitops.trouble", reason=after.reason, message=after.message, target=target)
    elif after is None and before is not None:
        log.info("gitops.recovered", target=target)

"""Says what became of the branch's newest commit, and delivers everything that is for the forge.

Keys of the channel:

    status/<commit>/<check>   {"state", "description", "url", "ref" if there is one}
    comment/<number>          {"text"}
    notes/<commit>            {"notes": [{"path", "line", "endLine", "failure", "message"}]}

Level-triggered: the status as it is now is turned into reports at each turn, and the outbox knows
which of them are news. What is final and good of ``applied`` stays as it was said first, since
devices that come and go later are no news of the commit. What was on its way when a newer commit
came is ended too: nothing stays ``pending`` for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from mergescale.domain.letter import Letter
from mergescale.domain.snapshot import Snapshot
from mergescale.gitops.forges.port import Forge, Note, Said, State
from mergescale.gitops.forges.reports import (
    Check,
    Ran,
    Report,
    as_told,
    delivered_to,
    expectations,
    of_branch,
    overtaken,
)
from mergescale.gitops.outbox import Says
from mergescale.gitops.status import Status
from mergescale.kernel.ids import TailnetName
from mergescale.plan.markdown import MARKER
from mergescale.plan.redaction import Redaction
from mergescale.state.engine import Engine
from mergescale.state.ports import StoreUnavailable

log = structlog.get_logger()

#: The outbox's channel of all of it.
CHANNEL: Final = "forge"
#: How often is looked for what no look tells: who has got their maps.
TURN_S: Final = 1.0
#: As it stands in a letter.
_PENDING: Final = f'"state":"{State.PENDING}"'
_NAMES: Final = frozenset(map(str, Check))
#: What a commit is annotated under, below the prefix.
_PROBLEMS: Final = "problems"
#: What statuses are called before the slash if nobody says otherwise.
USUAL: Final = "mergescale"
#: LIMIT: annotations of one commit.
MAX_NOTES: Final = 200


class Kept(Protocol):
    """What is wanted already; `store.outbox.SqlLetters`."""

    async def wanted(self, tailnet: TailnetName, channel: str, key: str) -> Letter | None:
        """Return the newest state of a key, None if nothing was ever said of it."""
        ...

    async def states(self, tailnet: TailnetName, channel: str, *, under: str) -> list[Letter]:
        """Return the newest state of each key that begins so; not those that are long ago."""
        ...


@dataclass(frozen=True, slots=True)
class Words:
    """How statuses are called.

    Attributes:
        prefix: before the check, e.g. ``mergescale`` for ``mergescale/plan``.
        url: where a status leads; empty for nowhere.
        folder: of the policy in the repository, for the paths of annotations.
        branch: that is followed; empty if it is none.
        redact: how much is told.
    """

    prefix: str = USUAL
    url: str = ""
    folder: str = ""
    branch: str = ""
    redact: Redaction = Redaction.FULL


class Reporter:
    """Of one tailnet's repository. Drive it with `run`, where the duties are.

    Args:
        engine: of the tailnet.
        shown: returns the status as operators are shown it.
        outbox: takes the reports.
        kept: knows what was said before a restart.
        words: how statuses are called.
    """

    def __init__(
        self,
        engine: Engine,
        shown: Callable[[], Mapping[str, Any]],
        outbox: Says,
        kept: Kept,
        words: Words,
    ) -> None:
        self._engine = engine
        self._shown = shown
        self._outbox = outbox
        self._kept = kept
        self._words = words
        self._looked = asyncio.Event()
        self._in_force = ""
        #: What was said since the duties are here, of the newest commit only.
        self._said: dict[str, Mapping[str, Any]] = {}
        self._newest = ""
        #: Of older commits, what was on its way when they were overtaken.
        self._left: dict[str, set[Check]] = {}

    def listen(self, _before: Status, _after: Status) -> None:
        """Take note that there was a look; for `Reconciler.listeners`."""
        self._looked.set()

    async def run(self) -> None:
        """Report for ever; cancel it when the duties are another replica's."""
        self._newest, self._said = "", {}
        while True:
            self._looked.clear()
            try:
                await self.turn()
            except StoreUnavailable:
                pass  # it is said a turn later
            except Exception:
                # A turn that breaks must end neither the turns nor the server.
                log.exception("reports.broke")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TURN_S):
                    await self._looked.wait()

    async def turn(self) -> None:
        """Say what is to be said now.

        Raises:
            StoreUnavailable: what was said before could not be read.
        """
        snapshot, said = self._engine.snapshot, as_told(self._shown(), self._words.redact)
        target = said["target"]
        if target is None:
            return
        commit: str = target["commit"]
        if commit != self._newest:
            self._left = await self._unfinished(commit)
            self._newest, self._in_force, self._said = commit, "", {}
        self._end_older(said)
        for report in of_branch(said, _ran(snapshot, commit), snapshot.following.skipped):
            if report.check is Check.APPLIED and await self._stands(commit, report):
                continue
            self.say(commit, report, self._words.branch)
        self.annotate(commit, [_note(one) for one in said["problems"]])

    def say(self, commit: str, report: Report, ref: str = "") -> None:
        """Want a status; see `port.Said` for the ref."""
        body = {
            "state": str(report.state),
            "description": report.description,
            "url": self._words.url.replace("{commit}", commit),
            **({"ref": ref} if ref else {}),
        }
        self._say(f"status/{commit}/{report.check}", body, final=report.final)

    def annotate(self, commit: str, notes: Sequence[Note]) -> None:
        """Want these annotations and no others; none are news after some."""
        told = [
            {
                "path": f"{self._words.folder}/{one.path}".lstrip("/"),
                "line": one.line,
                "endLine": one.end_line,
                "failure": one.failure,
                "message": one.message,
            }
            for one in notes[:MAX_NOTES]
        ]
        self._say(f"notes/{commit}", {"notes": told}, quiet=not told)

    def comment(self, number: int, text: str) -> None:
        """Want the comment of a pull request; it begins with the marker."""
        self._outbox.say(CHANNEL, f"comment/{number}", {"text": text})

    def _say(
        self, key: str, body: Mapping[str, Any], *, final: bool = True, quiet: bool = False
    ) -> None:
        """Tell the outbox, which writes it down, unless it was told before."""
        if self._newest and self._newest in key:
            if self._said.get(key) == body:
                return
            self._said[key] = body
        self._outbox.say(CHANNEL, key, body, final=final, quiet=quiet)

    async def _unfinished(self, newer: str) -> dict[str, set[Check]]:
        """Return what is on its way of the branch's other commits, also from before a restart.

        Only commits of the branch have an ``applied``: pull requests are not meant.
        """
        kept = await self._kept.states(self._engine.snapshot.tailnet, CHANNEL, under="status/")
        states = {one.key: _PENDING in one.body for one in kept}
        # Not all of it may have been written down yet.
        states |= {key: body.get("state") == State.PENDING for key, body in self._said.items()}
        waiting: dict[str, set[Check]] = {}
        for key, is_pending in states.items():
            match key.split("/"):
                case ["status", commit, check] if (
                    is_pending and commit != newer and check in _NAMES
                ):
                    waiting.setdefault(commit, set()).add(Check(check))
        return {commit: found for commit, found in waiting.items() if Check.APPLIED in found}

    def _end_older(self, said: Mapping[str, Any]) -> None:
        """End what was on its way of older commits, as soon as it is known how."""
        in_force = said["current"] and said["current"]["commit"]
        delivered: Mapping[str, Any] = next(
            (one for one in said["conditions"] if one["name"] == "Delivered"), {"state": None}
        )
        for commit, checks in list(self._left.items()):
            if commit == in_force and not delivered["state"]:
                continue  # the newest one is refused, or not yet in its place
            del self._left[commit]
            if commit == in_force:
                self.say(commit, delivered_to(delivered["message"]), self._words.branch)
                continue
            for check in checks:
                self.say(commit, overtaken(check, self._newest), self._words.branch)

    async def _stands(self, commit: str, report: Report) -> bool:
        """Say whether a success is known outside already."""
        if report.state is not State.SUCCESS:
            self._in_force = ""
            return False
        if self._in_force == commit:
            return True
        key = f"status/{commit}/{report.check}"
        letter = await self._kept.wanted(self._engine.snapshot.tailnet, CHANNEL, key)
        self._in_force = commit
        return letter is not None and f'"state":"{State.SUCCESS}"' in letter.body


class Delivering:
    """Delivers the channel; its `deliver` is for `Outbox.register`.

    Args:
        forge: what is spoken to.
        prefix: of the statuses; another one than usual marks the comment too, so that several tailnets
            of one project have one each.
    """

    def __init__(self, forge: Forge, prefix: str) -> None:
        self._forge = forge
        self._prefix = prefix
        self._own = "" if prefix == USUAL else f"<!-- mergescale-plan {prefix} -->\n**{prefix}**\n"

    async def deliver(self, key: str, body: Mapping[str, Any]) -> None:
        """Make the forge say it.

        Raises:
            Retry: it may work later.
            Undeliverable: it will not.
        """
        match key.split("/"):
            case ["status", commit, check]:
                said = Said(
                    f"{self._prefix}/{check}",
                    State(body["state"]),
                    body["description"],
                    body["url"],
                    body.get("ref", ""),
                )
                await self._forge.set_status(commit, said)
            case ["comment", number]:
                text: str = body["text"]
                if self._own:
                    text = f"{self._own}{text.removeprefix(MARKER)}"
                await self._forge.upsert_comment(int(number), text.partition("\n")[0], text)
            case ["notes", commit]:
                notes = [
                    Note(one["path"], one["line"], one["endLine"], one["failure"], one["message"])
                    for one in body["notes"]
                ]
                await self._forge.annotate(commit, f"{self._prefix}/{_PROBLEMS}", notes)


def _ran(snapshot: Snapshot, commit: str) -> Ran:
    """Return how much the checks of a commit looked at, if it is the one in force."""
    held = snapshot.deployment
    if held is None or held.commit != commit:
        return Ran()
    return Ran(len(held.files), expectations(held.declaration))


def _note(problem: Mapping[str, Any]) -> Note:
    return Note(
        path=problem["file"],
        line=problem["line"],
        end_line=problem["endLine"],
        failure=problem["severity"] == "error",
        message=problem["message"],
    )

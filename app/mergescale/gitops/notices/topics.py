"""Which state each topic is in, read off the public status; pure.

    topic     states
    policy    policyUpdate | gitopsRolledBack, one for each commit in force
    branch    gitopsCommitRefused | ...TestsFailed | ...GateRefused | ...HistoryRewritten
              | ...Stalled, or gitopsRecovered
    remote    gitopsRemoteLost, or gitopsRemoteBack
    hold      gitopsSuspended, or gitopsResumed
    drift     gitopsDriftBegan, or gitopsDriftEnded
    override  gitopsOverrideBegan, or gitopsOverrideEnded

What is not known, or is on its way between two states, leaves its topic as it was. One push is one
notification: drift that follows from a refused commit, a pin or a rollback is told by these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from mergescale.domain.declaration import Deployment
from mergescale.gitops.notices.events import Event, State

#: How long a remote is away before it is told; shorter ones are everyday life.
LOST_AFTER: Final = timedelta(minutes=10)
#: Reasons of `Drifted` that nothing else tells of.
_ONLY_DRIFT: Final = frozenset({"Suspended"})
_MESSAGE_CHARS: Final = 400


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known after a look.

    Attributes:
        said: the status as the API spells it.
        deployment: what is in force.
        was_in_force: the commit in force before the look, empty for none.
        now: the time.
    """

    said: Mapping[str, Any]
    deployment: Deployment | None
    was_in_force: str
    now: datetime


@dataclass(frozen=True, slots=True)
class _Condition:
    state: bool | None = None
    reason: str = ""
    message: str = ""
    since: str = ""


def topics(seen: Seen) -> Iterator[tuple[str, State]]:
    """Yield the topics whose state is known."""
    conditions = {
        one["name"]: _Condition(one["state"], one["reason"], one["message"], one["since"] or "")
        for one in seen.said["conditions"]
    }
    for key, state in (
        ("policy", _policy(seen, conditions)),
        ("branch", _branch(seen.said, conditions)),
        ("remote", _remote(conditions, seen.now)),
        ("hold", _hold(conditions)),
        ("drift", _drift(conditions)),
        ("override", _override(conditions)),
    ):
        if state is not None:
            yield key, state


def _policy(seen: Seen, conditions: Mapping[str, _Condition]) -> State | None:
    held = seen.deployment
    if held is None or held.of_api:
        return None
    data = {
        "commit": held.commit,
        "subject": _line(held.subject),
        "actor": _line(held.by or held.author),
        "url": str(seen.said["repository"]),
    }
    commit = f'{held.commit[:12]} "{_line(held.subject)}"'
    if held.by:
        data["reason"] = _line(held.reason)
        match conditions.get("Suspended", _Condition()):
            case _Condition(state=True, reason="Pinned"):
                message = f"{held.by} pinned {commit}: {held.reason}"
                return State(Event.POLICY_UPDATE, _line(message), data)
            case _Condition(state=True):
                message = f"{held.by} rolled back to {commit}: {held.reason}"
                return State(Event.ROLLED_BACK, _line(message), data)
        # Followed again with the same commit in force: how it came there was told.
        return None
    message = f"{commit} by {held.author} is in force"
    # What was in force when the server began to tell is nothing that changed.
    return State(Event.POLICY_UPDATE, _line(message), data, quiet=seen.was_in_force == held.commit)


def _branch(said: Mapping[str, Any], conditions: Mapping[str, _Condition]) -> State | None:
    stalled = conditions.get("Stalled", _Condition())
    if stalled.state is False:
        # Held back by an operator it is neither refused nor good.
        good = conditions.get("Applied", _Condition()).state is True
        message = "the newest commit of the branch is in force again"
        return State(Event.RECOVERED, message, {}, quiet=True) if good else None
    if stalled.state is None:
        return None
    fetched = conditions.get("Fetched", _Condition())
    if fetched.state is False:
        # Unreachable just now, with the verdict of an earlier look: that one was told.
        if fetched.reason != stalled.reason:
            return None
        return State(Event.STALLED, _line(stalled.message), {"reason": stalled.reason})
    target = said["target"] or {"commit": "", "subject": "", "author": ""}
    data = {
        "commit": target["commit"],
        "subject": _line(target["subject"]),
        "actor": _line(target["author"]),
        "reason": stalled.reason,
    }
    what, event = _refused(stalled, conditions)
    message = f"{target['commit'][:12]} by {target['author']} {what}: {stalled.message}"
    return State(event, _line(message), data)


def _refused(stalled: _Condition, conditions: Mapping[str, _Condition]) -> tuple[str, Event]:
    """Return why a commit is refused, in words and as an event."""
    if stalled.reason == "HistoryRewritten":
        return "rewrites the history", Event.HISTORY_REWRITTEN
    if conditions.get("Tested", _Condition()).state is False:
        return "fails its tests", Event.TESTS_FAILED
    if conditions.get("Planned", _Condition()).state is False:
        return "is stopped by a gate", Event.GATE_REFUSED
    return "is refused", Event.COMMIT_REFUSED


def _remote(conditions: Mapping[str, _Condition], now: datetime) -> State | None:
    fetched = conditions.get("Fetched", _Condition())
    if fetched.state is True:
        return State(Event.REMOTE_BACK, "the repository is reached again", {}, quiet=True)
    stalled = conditions.get("Stalled", _Condition())
    only_person = stalled.state is True and stalled.reason == fetched.reason
    if fetched.state is None or only_person or not fetched.since:
        return None
    if now - datetime.fromisoformat(fetched.since) < LOST_AFTER:
        return None
    minutes = LOST_AFTER // timedelta(minutes=1)
    message = f"the repository is not reached for more than {minutes} minutes: {fetched.message}"
    return State(Event.REMOTE_LOST, _line(message), {})


def _hold(conditions: Mapping[str, _Condition]) -> State | None:
    held = conditions.get("Suspended", _Condition())
    if held.state is False:
        return State(Event.RESUMED, "the branch is followed again", {}, quiet=True)
    if held.state is None:
        return None
    data = {"reason": _line(held.message), "since": held.since}
    return State(Event.SUSPENDED, _line(f"following is suspended {held.message}"), data)


def _drift(conditions: Mapping[str, _Condition]) -> State | None:
    drifted = conditions.get("Drifted", _Condition())
    if drifted.state is False:
        return State(Event.DRIFT_ENDED, "what the branch says is in force again", {}, quiet=True)
    if drifted.state is None or drifted.reason not in _ONLY_DRIFT:
        return None
    return State(Event.DRIFT_BEGAN, _line(drifted.message), {"reason": drifted.reason})


def _override(conditions: Mapping[str, _Condition]) -> State | None:
    drifted = conditions.get("Drifted", _Condition())
    if drifted.state is None:
        return None
    if drifted.reason == "Overridden":
        return State(Event.OVERRIDE_BEGAN, _line(drifted.message), {"since": drifted.since})
    return State(Event.OVERRIDE_ENDED, "the override has ended", {}, quiet=True)


def _line(text: str) -> str:
    """Return one line that is not endless; others wrote parts of it."""
    line = "".join(char if char.isprintable() else " " for char in " ".join(text.split()))
    return line if len(line) <= _MESSAGE_CHARS else f"{line[: _MESSAGE_CHARS - 1]}…"

"""What can be told, and one thing that is.

Types are part of the public interface. Where Tailscale's webhooks have a type for it, it is that one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import msgspec


class Event(StrEnum):
    """Types of notifications."""

    POLICY_UPDATE = "policyUpdate"
    ROLLED_BACK = "gitopsRolledBack"
    COMMIT_REFUSED = "gitopsCommitRefused"
    TESTS_FAILED = "gitopsTestsFailed"
    GATE_REFUSED = "gitopsGateRefused"
    HISTORY_REWRITTEN = "gitopsHistoryRewritten"
    STALLED = "gitopsStalled"
    RECOVERED = "gitopsRecovered"
    REMOTE_LOST = "gitopsRemoteLost"
    REMOTE_BACK = "gitopsRemoteBack"
    SUSPENDED = "gitopsSuspended"
    RESUMED = "gitopsResumed"
    DRIFT_BEGAN = "gitopsDriftBegan"
    DRIFT_ENDED = "gitopsDriftEnded"
    OVERRIDE_BEGAN = "gitopsOverrideBegan"
    OVERRIDE_ENDED = "gitopsOverrideEnded"
    TEST = "test"


#: Those that somebody has to do something about.
BAD: Final = frozenset(
    {
        Event.COMMIT_REFUSED,
        Event.TESTS_FAILED,
        Event.GATE_REFUSED,
        Event.HISTORY_REWRITTEN,
        Event.STALLED,
        Event.REMOTE_LOST,
    }
)
#: Those that put another policy in force, and carry both to webhooks.
WITH_POLICIES: Final = frozenset({Event.POLICY_UPDATE, Event.ROLLED_BACK})


@dataclass(frozen=True, slots=True)
class State:
    """What a topic is in, as it is kept in the outbox.

    Attributes:
        event: what led to it.
        message: one line for people. Two states that differ in it alone are the same state.
        data: for programs; values are texts, as consumers of Tailscale's webhooks decode them.
        quiet: nothing to tell if nothing else was told before.
    """

    event: Event
    message: str
    data: Mapping[str, str]
    quiet: bool = False

    def same_as(self, other: State | None) -> bool:
        """Say whether the other one is no news after this one."""
        return other is not None and (self.event, self.data) == (other.event, other.data)

    def as_body(self) -> dict[str, Any]:
        """Return it as the outbox keeps it."""
        return {"type": str(self.event), "message": self.message, "data": dict(self.data)}


@dataclass(frozen=True, slots=True)
class Notice:
    """What a channel tells.

    Attributes:
        tailnet: whose repository it is about.
        key: the topic.
        at: when it is told; it happened shortly before, unless the channel was out of order.
    """

    tailnet: str
    key: str
    event: Event
    message: str
    data: Mapping[str, str]
    at: datetime

    def as_json(self) -> bytes:
        """Return the body of a webhook as Tailscale has it: a list of events, here of one.

        SPEC(Tailscale, webhooks): timestamp (RFC 3339), version 1, type, tailnet, message, data.
        """
        return msgspec.json.encode(
            [
                {
                    "timestamp": self.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
                    "version": 1,
                    "type": str(self.event),
                    "tailnet": self.tailnet,
                    "message": self.message,
                    "data": dict(self.data),
                }
            ]
        )


def notice(tailnet: str, key: str, body: Mapping[str, Any], at: datetime) -> Notice:
    """Return what the outbox kept, to be told.

    Raises:
        ValueError: it is no `State` of this version.
        KeyError: the same.
    """
    data = {str(name): str(value) for name, value in body["data"].items()}
    return Notice(tailnet, key, Event(body["type"]), str(body["message"]), data, at)

"""What is said of the tailnet rather than of a look: suspended or not, drifted or not.

Any replica can tell from the snapshot, so it is not stored with the status.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from mergescale.domain.snapshot import Snapshot
from mergescale.gitops.status import time_json

#: Nothing comes into force by itself.
SUSPENDED: Final = "Suspended"
#: What is in force is not what the branch says.
DRIFTED: Final = "Drifted"


def standing(snapshot: Snapshot, said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the two conditions, ready for JSON; true is bad news.

    Args:
        snapshot: of the tailnet.
        said: the rest of the status, as `Status.as_json` has it.
    """
    return [_suspended(snapshot, said), _drifted(snapshot, said)]


def _suspended(snapshot: Snapshot, said: Mapping[str, Any]) -> dict[str, Any]:
    held = snapshot.following.held
    if held is None:
        return _condition(SUSPENDED, False, "Following", "", said["applied"])
    message = f"by {held.by}{_until(held.until)}: {held.reason}"
    reason = "Suspended"
    if held.pinned:
        reason, message = "Pinned", f"{held.pinned[:12]} is pinned {message}"
    return _condition(SUSPENDED, True, reason, message, time_json(held.since))


def _drifted(snapshot: Snapshot, said: Mapping[str, Any]) -> dict[str, Any]:
    deployment, target = snapshot.deployment, said["target"]
    if deployment is None:
        return _condition(DRIFTED, None, "NotYet", "", None)
    override = snapshot.following.override
    if override is not None:
        message = (
            f"a policy of {override.by} is in force in place of the repository's"
            f"{_until(override.until)}: {override.reason}"
        )
        return _condition(DRIFTED, True, "Overridden", message, time_json(override.since))
    in_force, since = deployment.commit, said["applied"]
    rolled_back = bool(deployment.by) and not deployment.of_api
    if target is None:
        if not (rolled_back and snapshot.following.skipped):
            return _condition(DRIFTED, None, "NotYet", "", since)
        # What was rolled back is on the branch until somebody reverts it.
        branch = snapshot.following.skipped[-1]
    else:
        branch = target["commit"]
    if branch == in_force:
        return _condition(DRIFTED, False, "InStep", "", since)
    message = f"{in_force[:12]} is in force, the branch says {branch[:12]}"
    held = snapshot.following.held
    if held is not None and held.pinned:
        return _condition(DRIFTED, True, "Pinned", message, since)
    if rolled_back:
        return _condition(DRIFTED, True, "RolledBack", message, since)
    reason = "NotApplied" if held is None else "Suspended"
    refused = [one["since"] for one in said["conditions"] if one["name"] == "Applied"]
    return _condition(DRIFTED, True, reason, message, refused[0] if refused else since)


def wanted(snapshot: Snapshot) -> dict[str, Any]:
    """Return what operators want of following, ready for JSON: null for what they do not."""
    held, override = snapshot.following.held, snapshot.following.override
    return {
        "suspended": held
        and {
            "reason": held.reason,
            "by": held.by,
            "since": time_json(held.since),
            "until": time_json(held.until),
            "pinned": held.pinned or None,
        },
        "override": override
        and {
            "reason": override.reason,
            "by": override.by,
            "since": time_json(override.since),
            "until": time_json(override.until),
        },
    }


def _until(when: datetime | None) -> str:
    return "" if when is None else f" until {time_json(when.replace(microsecond=0))}"


def _condition(
    name: str,
    state: bool | None,  # noqa: FBT001 - a condition's
    reason: str,
    message: str,
    since: str | None,
) -> dict[str, Any]:
    return {"name": name, "state": state, "reason": reason, "message": message, "since": since}

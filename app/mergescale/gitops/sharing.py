"""The status of a repository at replicas that do not follow it, and their wish for a look.

Both go through the tailnet's journal, as everything that replicas have in common does: whoever
follows writes its status when it *says* something else (not at each look: times alone are no
news), under its lease; whoever is asked for a look elsewhere raises a number, and waits until the
status answers it. What is stored is also what a restarted server has to say before its first look.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any, Final

from mergescale.gitops.delivery import Delivery
from mergescale.gitops.gates import approvals_json
from mergescale.gitops.standing import standing, wanted
from mergescale.gitops.status import Status
from mergescale.state import following
from mergescale.state.engine import Engine, EngineStopped
from mergescale.state.ports import Fence, StoreUnavailable

#: LIMIT: how long somebody waits for a look at another replica; a first fetch of a large history
#: takes minutes, and the duties may have to change hands first.
ANSWER_S: Final = 150.0
#: What every replica knows by itself, from the snapshot.
_KNOWN: Final = frozenset({"repository", "branch", "follows", "folder", "current", "applied"})
#: The condition that `Delivered` follows.
_BEFORE: Final = "Applied"
#: What moves without saying anything else.
_RESTLESS: Final = frozenset({"lastSuccess", "lastAttempt", "attempts"})


class NobodyLooked(StoreUnavailable):
    """Raised when no replica looked at the repository in time."""

    code = "gitops.nobody-looked"


class Sharing:
    """Of one tailnet's repository.

    Args:
        engine: of the tailnet.
        answer_s: how long `ask` waits.

    Attributes:
        delivery: how far what is in force has come; None where nobody counts.
    """

    def __init__(self, engine: Engine, *, answer_s: float = ANSWER_S) -> None:
        self._engine = engine
        self._answer_s = answer_s
        self.delivery: Delivery | None = None
        self._news = asyncio.Event()

    @property
    def asked(self) -> int:
        """Number of the newest request for a look."""
        return self._engine.snapshot.following.asked

    @property
    def waited_for(self) -> bool:
        """Say whether some replica waits for a look."""
        told = self._engine.snapshot.following
        return told.asked > told.answered

    @property
    def doubted(self) -> bool:
        """Say whether whoever waits wants a refused commit judged again."""
        told = self._engine.snapshot.following
        return told.retried > told.answered

    def heard(self) -> None:
        """Note that something was told or asked."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def tell(self, status: Status, answered: int, fence: Fence | None) -> None:
        """Let all replicas know, if it is news to them or somebody waits for it.

        Whoever cannot write now says it after the next look, if it still holds the lease then.
        """
        said, told = status.as_json(), self._engine.snapshot.following
        target, current = said["target"], said["current"]
        if target is not None and current is not None and target["commit"] == current["commit"]:
            # Every replica sees what is in force; a good commit after a good one is no news.
            said["target"] = None
        if answered <= told.answered and _gist(said) == _gist(_read(told.status)):
            return
        kept = {name: value for name, value in said.items() if name not in _KNOWN}
        with contextlib.suppress(StoreUnavailable, EngineStopped):
            await self._engine.apply(following.tell(json.dumps(kept), answered), fence)

    def message(self, name: str) -> str:
        """Return what was last said with a condition that held, across restarts; empty for nothing."""
        conditions = _read(self._engine.snapshot.following.status).get("conditions")
        for one in conditions if isinstance(conditions, list) else ():
            if isinstance(one, dict) and one.get("name") == name and one.get("state") is True:
                return str(one.get("message", ""))
        return ""

    async def ask(self, *, retry: bool = False) -> None:
        """Ask whichever replica follows the repository to look at it, and wait until it has.

        Args:
            retry: and to judge a refused commit again, even if nothing has moved.

        Raises:
            NobodyLooked: not in time.
            StoreUnavailable: the database did not take the request.
            EngineStopped: too late.
        """
        number = await self._engine.apply(following.ask(retry=retry))
        try:
            async with asyncio.timeout(self._answer_s):
                while self._engine.snapshot.following.answered < number:
                    await self._news.wait()
        except TimeoutError:
            raise NobodyLooked(
                "no server process looked at the repository in time",
                help="see the health of the others",
            ) from None

    def shown(self, status: Status, *, here: bool) -> Mapping[str, Any]:
        """Return what operators are shown: this replica's own status, or that of who follows."""
        own = status.as_json()
        told = {} if here else _read(self._engine.snapshot.following.status)
        if told and told["target"] is None:
            told["target"] = own["current"]
        said = {**own, **told, **wanted(self._engine.snapshot), "followedHere": here}
        said["approvals"] = approvals_json(self._engine.snapshot)
        said["conditions"] = [*said["conditions"], *standing(self._engine.snapshot, said)]
        if self.delivery is not None:
            names = [one["name"] for one in said["conditions"]]
            said["conditions"].insert(names.index(_BEFORE) + 1, self.delivery.condition())
            said["delivered"] = self.delivery.tally().as_json()
        return said


def _read(status: str) -> dict[str, Any]:
    """Return a status that was stored, empty if there is none or none of this version's."""
    try:
        told = json.loads(status) if status else {}
    except ValueError:
        return {}
    whole = isinstance(told, dict) and {"conditions", "target", "problems"} <= told.keys()
    return told if whole else {}


def _gist(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a status says, without the times."""
    gist = {n: v for n, v in status.items() if n not in _KNOWN | _RESTLESS}
    if "conditions" in gist:
        gist["conditions"] = [
            {name: value for name, value in one.items() if name != "since"}
            for one in gist["conditions"]
        ]
    return gist

"""``GET /machine/ssh/action/…``: may this source be let in after a check (spec 5.2)?

The destination asks while the source's user waits. The first answer names a check and the page
where its user is told how to have it approved; the next request waits there until it is decided.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final, assert_never

from mergescale.fanout.bell import LoginBell
from mergescale.identity import secrets
from mergescale.kernel.clock import Entropy
from mergescale.kernel.errors import Invalid, NotFound
from mergescale.kernel.ids import MAX_ID, LoginId, NodeId
from mergescale.kernel.keys import MachineKey
from mergescale.netmap.ssh import HOLD_URL, final_action
from mergescale.state import sshchecks
from mergescale.state.engine import Engine
from mergescale.state.sshchecks import Accepted, Answer, Attempt, Refused, Waiting
from mergescale.state.tailnets import Tailnets
from mergescale.state.throttle import SSH_CHECK, Throttle
from mergescale.wire.tailcfg.ssh import SSHAction

#: LIMIT: how long a request is held. The client asks again at once, for 30 minutes in all.
HOLD_S: Final = 600.0
#: Where the page of a check is; ``web.sshchecks`` serves it.
CHECK_PATH: Final = "/ssh/"
#: LIMIT: names of local users that exist anywhere are far shorter.
_LONGEST_USER: Final = 256


@dataclass(frozen=True, slots=True)
class SshGate:
    """Answers destinations of SSH logins that need a check.

    Attributes:
        server_url: what addresses of pages and requests begin with.
        hold_s: see `HOLD_S`.
        throttle: bounds how many checks one machine begins; None for no bound.
    """

    tailnets: Tailnets
    bell: LoginBell
    entropy: Entropy
    server_url: str
    hold_s: float = HOLD_S
    throttle: Throttle | None = None

    async def answer(
        self, machine: MachineKey, source: int, target: int, local_user: str, check: str
    ) -> SSHAction:
        """Return what the destination does next.

        Args:
            machine: whose connection it is.
            source: id of the node that wants to be let in.
            target: id of the node that asks; it must be the machine's.
            local_user: as whom.
            check: what an earlier answer named, empty for the first request.

        Raises:
            Invalid: the request names nobody.
            NotFound: the machine has no such node.
            TooManyAttempts: it has begun too many checks.
            StoreUnavailable: nothing was decided; the client tries again.
        """
        if not (0 < source <= MAX_ID and 0 < target <= MAX_ID):
            raise Invalid("not the id of a node")
        if not local_user or len(local_user) > _LONGEST_USER:
            raise Invalid("the local user is missing or too long")
        attempt = Attempt(
            machine=machine,
            source=NodeId(source),
            target=NodeId(target),
            local_user=local_user,
            check=LoginId(check) if check else None,
            fresh=LoginId(secrets.login_id(self.entropy.bytes(secrets.ID_BYTES))),
        )
        engine = await self._engine(attempt)
        answer = await self._ask(engine, attempt)
        if isinstance(answer, Waiting) and answer.check.id == attempt.check:
            answer = await self._hold(engine, attempt, answer.check.id)
        return self._action(attempt, answer)

    async def _engine(self, attempt: Attempt) -> Engine:
        who = attempt.machine, attempt.source, attempt.target
        if self.tailnets.of_ssh(*who) is None:
            await self.tailnets.freshen()
        engine = self.tailnets.of_ssh(*who)
        if engine is None:
            raise NotFound("node not found")
        return engine

    async def _ask(self, engine: Engine, attempt: Attempt) -> Answer:
        if self.throttle is not None and engine.preview(sshchecks.begins(attempt)):
            await self.throttle.take((SSH_CHECK, str(attempt.machine)))
        return await engine.apply(sshchecks.ask(attempt))

    async def _hold(self, engine: Engine, attempt: Attempt, check: LoginId) -> Answer:
        """Wait until the check is decided, then ask again."""
        with self.bell.at(check) as decided:
            # Again with the bell in hand: it may have been decided since the first answer.
            answer = await self._ask(engine, attempt)
            if not isinstance(answer, Waiting) or answer.check.id != check:
                return answer
            try:
                async with asyncio.timeout(self.hold_s):
                    await decided.wait()
            except TimeoutError:
                return answer
        fresh = LoginId(secrets.login_id(self.entropy.bytes(secrets.ID_BYTES)))
        return await self._ask(engine, replace(attempt, fresh=fresh))

    def _action(self, attempt: Attempt, answer: Answer) -> SSHAction:
        match answer:
            case Accepted(rule):
                return final_action(rule)
            case Refused(why):
                return SSHAction(reject=True, message=f"{why}\n")
            case Waiting(check):
                url = f"{self.server_url}{HOLD_URL}&auth_id={check.id}"
                told = "" if check.id == attempt.check else self._banner(check.id)
                return SSHAction(message=told, hold_and_delegate=url)
            case _:
                assert_never(answer)

    def _banner(self, check: LoginId) -> str:
        return (
            "# This login needs the approval of an operator.\n"
            f"# To ask for it, visit: {self.server_url}{CHECK_PATH}{check}\n"
        )

"""Who failed too often to prove something, or asks too much of others, has to wait, at every replica.

A leaky bucket for each (what, who), kept as one number: when all its failures are forgiven. A healthy
request costs a look into a dict; only failures are written to the shared store. A replica learns
that somebody is to wait from the answer to the failure that it writes, so that beside the allowed
ones each further replica lets one attempt through.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final, Protocol

from mergescale.kernel.clock import Clock
from mergescale.kernel.errors import MergescaleError
from mergescale.state.ports import StoreUnavailable

#: LIMIT: who is remembered by one replica, some 2 MB; who is forgotten too early is still in the store.
_REMEMBERED: Final = 10_000
#: LIMIT: failures that are being written; more are counted here alone, so that a flood of them is
#: none of the database.
_WRITING: Final = 8


class TooManyAttempts(MergescaleError):
    """Raised when somebody has to wait.

    Attributes:
        retry_after_s: whole seconds until the next attempt counts.
    """

    code = "too-many-attempts"

    def __init__(self, retry_after_s: int, things: str = "failed attempts") -> None:
        super().__init__(f"too many {things}, try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many failures are forgiven.

    Attributes:
        what: a constant word.
        burst: failures in a row.
        every_s: seconds after which one more is forgiven.
        things: what there were too many of, for people.
    """

    what: str
    burst: int
    every_s: float
    things: str = "failed attempts"


#: LIMIT: a script with an old token fails some times; guesses of 256 bits get nowhere either way.
API_TOKEN: Final = Allowance("api-token", 60, 10.0)
#: LIMIT: fifty machines behind one address that all try a spent key are no attack.
AUTH_KEY_HOST: Final = Allowance("auth-key-host", 120, 5.0)
#: LIMIT: a client repeats a refused key with growing pauses for as long as it runs.
AUTH_KEY_MACHINE: Final = Allowance("auth-key-machine", 20, 30.0)
#: LIMIT: people who join by hand, on the first day of an office. In the hour that a login lives one
#: address begins 120 of the `logins.MAX_LOGINS` that there are, so its flood drives out nobody else.
LOGIN_PLACE: Final = Allowance("login-place", 60, 60.0, "new logins from this address")
#: LIMIT: 480 in that hour: who has a whole network of addresses gets no more than half either.
LOGIN_NETWORK: Final = Allowance("login-network", 240, 15.0, "new logins from this network")

#: LIMIT: a destination asks once for each person who logs in; a script that tries again and again
#: makes others wait, not the people who approve.
SSH_CHECK: Final = Allowance("ssh-check", 30, 20.0, "SSH checks at this device")


class Failures(Protocol):
    """Where replicas share what failed."""

    async def add(self, key: str, cost_s: float, now_s: float) -> float:
        """Count one failure; return when all of this key are forgiven, in seconds since 1970.

        That is `cost_s` after whichever is later: now, or what it was before.

        Raises:
            StoreUnavailable: it was not counted.
        """
        ...


class Throttle:
    """Counts failures and says who has to wait."""

    def __init__(self, failures: Failures, clock: Clock) -> None:
        self._failures = failures
        self._clock = clock
        self._forgiven_at: dict[str, float] = {}
        self._writing = 0

    def check(self, allowance: Allowance, who: str) -> None:
        """Let an attempt through.

        Raises:
            TooManyAttempts: it has to wait.
        """
        forgiven_at = self._forgiven_at.get(_key(allowance, who))
        if forgiven_at is None:
            return
        wait_s = forgiven_at - self._now_s() - (allowance.burst - 1) * allowance.every_s
        if wait_s > 0:
            raise TooManyAttempts(math.ceil(wait_s), allowance.things)

    async def failed(self, allowance: Allowance, who: str) -> None:
        """Count a failed attempt."""
        self._count(allowance, who)
        await self._share(allowance, who)

    async def take(self, *counted: tuple[Allowance, str]) -> None:
        """Let something through that counts whatever becomes of it.

        It counts before anything is waited for, so that a thousand at once are no more than one after
        the other.

        Raises:
            TooManyAttempts: it has to wait, and does not count.
        """
        for allowance, who in counted:
            self.check(allowance, who)
        for allowance, who in counted:
            self._count(allowance, who)
        for allowance, who in counted:
            await self._share(allowance, who)

    def _count(self, allowance: Allowance, who: str) -> None:
        key, now_s = _key(allowance, who), self._now_s()
        here_s = max(self._forgiven_at.get(key, 0.0), now_s) + allowance.every_s
        self._remember(key, here_s, now_s)

    async def _share(self, allowance: Allowance, who: str) -> None:
        key, now_s, cost_s = _key(allowance, who), self._now_s(), allowance.every_s
        if self._writing >= _WRITING:
            return
        self._writing += 1
        try:
            with contextlib.suppress(StoreUnavailable):
                shared_s = await self._failures.add(key, cost_s, now_s)
                self._remember(key, max(shared_s, self._forgiven_at.get(key, 0.0)), now_s)
        finally:
            self._writing -= 1

    def _remember(self, key: str, forgiven_at: float, now_s: float) -> None:
        known = self._forgiven_at
        if key not in known and len(known) >= _REMEMBERED:
            for one in [one for one, at in known.items() if at <= now_s] or [next(iter(known))]:
                del known[one]
        known[key] = forgiven_at

    def _now_s(self) -> float:
        return self._clock.now().timestamp()


def place(host: str) -> str:
    """Return what counts as one place: an IPv4 address, or the /64 that IPv6 gives to one network."""
    return _network(host, 32, 64).removesuffix("/32")


def neighbourhood(host: str) -> str:
    """Return what one owner easily has many places of: the IPv4 /24, or the /48 of a site."""
    return _network(host, 24, 48)


def _network(host: str, v4_bits: int, v6_bits: int) -> str:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return str(ip_network(f"{address}/{v6_bits}", strict=False))
        # What listens on [::] sees IPv4 like this: one /64 would be all of it.
        address = address.ipv4_mapped
    return str(ip_network(f"{address}/{v4_bits}", strict=False))


def _key(allowance: Allowance, who: str) -> str:
    return f"{allowance.what}/{who}"

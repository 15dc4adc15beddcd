"""The webhook of one tailnet: its address, its secrets, and what a delivery does.

A delivery is a hint: the repository is looked at now and not at the next poll. Any replica takes
one. However many come, there is at most the look under way and one after it; one that is lost, a
forge's or ours, costs the time until the next poll and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

import structlog

from mergescale.gitops.hooks import SECRET_PREFIX, Delivery, Seen, prove
from mergescale.gitops.status import time_json
from mergescale.gitops.vault import WEBHOOK, Held, HeldDamaged, Vault
from mergescale.kernel.clock import Clock, Entropy
from mergescale.kernel.errors import Conflict, NotFound
from mergescale.kernel.ids import TailnetName
from mergescale.state.engine import EngineStopped
from mergescale.state.ports import StoreUnavailable

log = structlog.get_logger()

#: LIMIT: secrets that are good at once; two are enough to exchange one.
MAX_SECRETS: Final = 5
#: SPEC(GitLab): a signing token has 32 bytes, no more and no less.
_SECRET_BYTES: Final = 32
_ID_BYTES: Final = 4
#: LIMIT: bytes of a body whose proof takes too little time to be worth a thread.
_SHORT_BYTES: Final = 64 << 10
#: LIMIT: how long a replica believes what it read of the secrets. Deliveries by the thousand are no
#: load of the database, and a dropped secret is good for that long at other replicas.
_BELIEVED_S: Final = 5.0
#: LIMIT: seconds between the starts of two looks that deliveries caused.
SPACING_S: Final = 1.0
#: What a secret is bound to: nothing that is ever sent anywhere.
_BOUND_TO: Final = "deliveries"


class Looks(Protocol):
    """Looks at the repository; `watch.Watcher`."""

    async def hinted(self) -> None:
        """Look soon, or have whoever follows the repository look."""
        ...


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A secret that was just made; this is the only time it is told.

    Attributes:
        id: to drop it by.
        secret: to be given to the forge.
    """

    id: str
    secret: str


def address(key: bytes, tailnet: TailnetName) -> str:
    """Return what stands for a tailnet in the address of its webhook.

    The same at every replica and for ever, and not to be guessed: the address is no secret that
    protects anything, but strangers need not know which tailnets there are.

    Args:
        key: the server's own key for this.
        tailnet: its name.
    """
    return hmac.digest(key, tailnet.encode(), "sha256").hex()[:32]


class Webhook:
    """Of one tailnet at this replica.

    Args:
        url: where forges send deliveries.
        vault: of the tailnet.
        looks: what a delivery sets off.
        clock: for the age of deliveries.
        entropy: for secrets.

    Attributes:
        spacing_s: seconds between the starts of two looks that deliveries cause, at least.
        counts: outcome -> deliveries, as `receive` and whoever answers them tell.
        last_received: when the last good one came to this replica, None for never.
    """

    def __init__(
        self, url: str, vault: Vault, looks: Looks, clock: Clock, entropy: Entropy
    ) -> None:
        self.url = url
        self.spacing_s = SPACING_S
        self._vault = vault
        self._looks = looks
        self._clock = clock
        self._entropy = entropy
        self._seen = Seen()
        self._news = asyncio.Event()
        self._read: tuple[float, tuple[str, ...]] | None = None
        self.counts: Counter[str] = Counter()
        self.last_received: datetime | None = None

    async def receive(self, headers: Mapping[str, str], body: bytes) -> str:
        """Take a delivery: ``accepted``, ``repeated``, ``ping`` or ``refused``.

        Args:
            headers: by lower-case name.
            body: at most `hooks.MAX_BODY_BYTES`.

        Raises:
            StoreUnavailable: the secrets are not known.
        """
        now = self._clock.now()
        delivery = await self._prove(headers, body, now)
        if delivery is None:
            return self._counted("refused")
        self.last_received = now
        if self._seen.repeats(delivery, self._clock.monotonic()):
            return self._counted("repeated")
        if delivery.ping:
            return self._counted("ping")
        self._news.set()
        return self._counted("accepted")

    async def pretend(self, headers: Mapping[str, str], body: bytes) -> None:
        """Do the work of `receive` and nothing of what it does: for who knows no address.

        Raises:
            StoreUnavailable: the secrets are not known.
        """
        await self._prove(headers, body, self._clock.now())

    async def run(self) -> None:
        """Look whenever something came in, for ever."""
        while True:
            await self._news.wait()
            # Before the look: what comes in while it goes on is about something newer.
            self._news.clear()
            with contextlib.suppress(StoreUnavailable, EngineStopped):
                await self._looks.hinted()
            await asyncio.sleep(self.spacing_s)

    def shown(self) -> dict[str, Any]:
        """Return what the status says of it, ready for JSON."""
        return {"lastReceived": time_json(self.last_received)}

    async def add(self, *, by: str) -> NewSecret:
        """Make a secret beside those that there are.

        Raises:
            Conflict: there are enough.
            StoreUnavailable: it was not stored.
        """
        if len(await self._held()) >= MAX_SECRETS:
            raise Conflict(
                f"there are {MAX_SECRETS} secrets already",
                help="drop one: mergescale gitops webhook drop",
            )
        made = NewSecret(
            self._entropy.bytes(_ID_BYTES).hex(),
            SECRET_PREFIX + b64encode(self._entropy.bytes(_SECRET_BYTES)).decode(),
        )
        await self._vault.put(f"{WEBHOOK}/{made.id}", _BOUND_TO, made.secret.encode())
        self._read = None
        log.info("webhook.secret-added", secret=made.id, by=by)
        return made

    async def drop(self, secret: str, *, by: str) -> None:
        """Forget a secret, by its id.

        Raises:
            NotFound: there is none.
            StoreUnavailable: it was not forgotten.
        """
        if not await self._vault.drop(f"{WEBHOOK}/{secret}"):
            raise NotFound("no such secret", help="see mergescale gitops webhook list")
        self._read = None
        log.info("webhook.secret-dropped", secret=secret, by=by)

    async def told(self) -> list[dict[str, Any]]:
        """Return what may be told of the secrets, the oldest first, ready for JSON.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        held = await self._held()
        return [
            {
                "id": secret,
                "created": time_json(held[secret].created),
                "fingerprint": held[secret].fingerprint,
            }
            for secret in sorted(held, key=lambda secret: (held[secret].created, secret))
        ]

    async def _prove(
        self, headers: Mapping[str, str], body: bytes, now: datetime
    ) -> Delivery | None:
        secrets, now_s = await self._secrets(), now.timestamp()
        if len(body) > _SHORT_BYTES:
            return await asyncio.to_thread(prove, headers, body, secrets, now_s)
        return prove(headers, body, secrets, now_s)

    async def _held(self) -> dict[str, Held]:
        """Return what is told of the secrets, by their ids."""
        start = f"{WEBHOOK}/"
        held = await self._vault.held()
        return {p.removeprefix(start): one for p, one in held.items() if p.startswith(start)}

    async def _secrets(self) -> tuple[str, ...]:
        """Return the secrets that are good; while the database is away those that were."""
        now_s, read = self._clock.monotonic(), self._read
        if read is not None and now_s - read[0] < _BELIEVED_S:
            return read[1]
        try:
            found = [await self._secret(one) for one in sorted(await self._held())]
        except StoreUnavailable:
            if read is None:
                raise
            return read[1]
        secrets = tuple(secret for secret in found if secret)
        self._read = now_s, secrets
        return secrets

    async def _secret(self, secret: str) -> str:
        try:
            value = await self._vault.find(f"{WEBHOOK}/{secret}", _BOUND_TO)
        except HeldDamaged as error:
            log.warning("webhook.secret-unreadable", why=error.message)
            return ""
        return "" if value is None else value.decode("utf-8", "replace")

    def _counted(self, outcome: str) -> str:
        self.counts[outcome] += 1
        return outcome

"""The channels of one tailnet: who is told what, their secrets, and trying one."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import structlog

from mergescale.gitops.notices import mail, slack, webhook
from mergescale.gitops.notices.configured import (
    Channel,
    MailChannel,
    SlackChannel,
    WebhookChannel,
    checked_url,
)
from mergescale.gitops.notices.events import WITH_POLICIES, Event, Notice, notice
from mergescale.gitops.notices.policies import texts_around
from mergescale.gitops.outbox import Retry, Undeliverable
from mergescale.gitops.status import time_json
from mergescale.gitops.vault import NOTIFY, HeldDamaged, Vault
from mergescale.kernel.clock import Clock, Entropy
from mergescale.kernel.errors import Conflict, Invalid, NotFound
from mergescale.kernel.ids import TailnetName
from mergescale.state.ports import Past, StoreUnavailable

log = structlog.get_logger()

#: LIMIT: bytes of a secret that an operator gives; a URL or a password.
MAX_SECRET_BYTES: Final = 4096
#: LIMIT: seconds after which it is looked again for a secret that nobody set yet.
_UNSET_S: Final = 2.0
_ID_BYTES: Final = 4
_SECRET_BYTES: Final = 32

#: Tells the outside of a topic's state; see `outbox.Outbox.register`.
Deliver = Callable[[str, Mapping[str, Any]], Awaitable[None]]


class Channels:
    """Of one tailnet.

    Args:
        tailnet: whose.
        configured: by the operator; their names are distinct.
        vault: has their secrets.
        clock: for when something is told.
        entropy: for secrets.

    Attributes:
        past: what was in force, for events that carry policies; None tells none of these.
    """

    def __init__(
        self,
        tailnet: TailnetName,
        configured: Sequence[Channel],
        vault: Vault,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._tailnet = tailnet
        self._configured = {one.name: one for one in configured}
        self._vault = vault
        self._clock = clock
        self._entropy = entropy
        self.past: Past | None = None

    @property
    def deliveries(self) -> dict[str, Deliver]:
        """Return for each channel, by name, what tells it of a topic's state."""
        return {name: self._deliver(channel) for name, channel in self._configured.items()}

    async def told(self) -> list[dict[str, Any]]:
        """Return what may be told of the channels, ready for JSON; no secrets.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        held = await self._vault.held()
        found = []
        for name, channel in self._configured.items():
            secret = held.get(_purpose(channel))
            if secret is not None and secret.bound_to != channel.place:
                secret = None
            found.append(
                {
                    "name": name,
                    "kind": channel.kind,
                    "place": channel.place,
                    "events": [str(event) for event in channel.events],
                    "secretSince": None if secret is None else time_json(secret.created),
                }
            )
        return found

    async def keep_secret(self, name: str, secret: str | None, *, by: str) -> str | None:
        """Keep the secret of a channel; with None make one and return it.

        Raises:
            NotFound: there is no such channel.
            Invalid: it is no secret for this kind of channel.
            StoreUnavailable: it was not stored.
        """
        channel = self._named(name)
        made = None if secret is not None else self._made(channel)
        value = _fitting(channel, made if secret is None else secret)
        await self._vault.put(_purpose(channel), channel.place, value.encode())
        log.info("notify.secret-kept", tailnet=self._tailnet, channel=name, by=by)
        return made

    async def try_out(self, name: str) -> None:
        """Send a test to a channel, now, whatever events it is told of.

        Raises:
            NotFound: there is no such channel.
            Conflict: it did not take it; says why.
            StoreUnavailable: the database could not be read.
        """
        channel = self._named(name)
        message = f'this is a test of the channel "{name}"'
        told = Notice(self._tailnet, "test", Event.TEST, message, {}, self._clock.now())
        try:
            await self._send(channel, told)
        except (Retry, Undeliverable) as error:
            raise Conflict(f'"{name}": {error.message}') from None

    def _deliver(self, channel: Channel) -> Deliver:
        async def deliver(key: str, body: Mapping[str, Any]) -> None:
            try:
                told = notice(self._tailnet, key, body, self._clock.now())
            except (KeyError, ValueError, TypeError, AttributeError):
                raise Undeliverable("another version of the server wrote it") from None
            # Judged here, not when it is said: the outbox has to know every state to see a change.
            if not channel.events or told.event in channel.events:
                await self._send(channel, told)

        return deliver

    async def _send(self, channel: Channel, told: Notice) -> None:
        match channel:
            case WebhookChannel():
                secret = await self._secret(channel)
                await webhook.send(channel.url, secret, await self._with_policies(told))
            case SlackChannel():
                await slack.send(await self._secret(channel), told)
            case MailChannel(user=""):
                await mail.send(channel, "", told)
            case MailChannel():
                await mail.send(channel, await self._secret(channel), told)

    async def _with_policies(self, told: Notice) -> Notice:
        """Return an event that puts a policy in force with that, and the one before it."""
        commit = told.data.get("commit")
        if self.past is None or told.event not in WITH_POLICIES or not commit:
            return told
        try:
            texts = await texts_around(self.past, self._tailnet, commit)
        except StoreUnavailable:
            raise Retry("the database has no answer about policies", everything=True) from None
        return replace(told, data={**told.data, **texts})

    async def _secret(self, channel: Channel) -> str:
        try:
            value = await self._vault.find(_purpose(channel), channel.place)
        except HeldDamaged as error:
            raise Retry(error.message, everything=True) from None
        if value is None:
            raise Retry(
                f"the channel has no secret: mergescale gitops notify secret {channel.name}",
                everything=True,
                longest_s=_UNSET_S,
            )
        return value.decode("utf-8", "replace")

    def _named(self, name: str) -> Channel:
        channel = self._configured.get(name)
        if channel is None:
            raise NotFound("no such channel", help="see mergescale gitops notify list")
        return channel

    def _made(self, channel: Channel) -> str:
        if not isinstance(channel, WebhookChannel):
            raise Invalid(f'"{channel.name}" needs a secret that is given to it')
        secret = urlsafe_b64encode(self._entropy.bytes(_SECRET_BYTES)).decode().rstrip("=")
        # In the form of our other keys: what looks like one is masked in the log.
        return f"mskey-webhook-{self._entropy.bytes(_ID_BYTES).hex()}-{secret}"


def _purpose(channel: Channel) -> str:
    return f"{NOTIFY}/{channel.name}"


def _fitting(channel: Channel, secret: str | None) -> str:
    """Return a secret without what copying adds to it.

    Raises:
        Invalid: it is none for this kind of channel.
    """
    text = (secret or "").strip()
    if not text or not text.isprintable() or len(text.encode()) > MAX_SECRET_BYTES:
        raise Invalid("the secret is empty, too long or not one line")
    if isinstance(channel, SlackChannel):
        try:
            checked_url(text)
        except ValueError:
            # Not with its reason: that may hold what was given.
            raise Invalid("the secret of a Slack channel is its https:// URL") from None
    return text

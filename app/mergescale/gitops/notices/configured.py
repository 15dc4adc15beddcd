"""Channels as operators configure them: the list ``notify`` of a watched repository."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, model_validator

from mergescale.gitops.notices.events import Event


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def checked_url(text: str) -> str:
    """Return a URL that may be sent to.

    Raises:
        ValueError: it is none.
    """
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("an https:// URL was expected") from None
    odd = not text.isascii() or not text.isprintable() or " " in text
    if odd or not host or parts.username is not None or parts.fragment:
        raise ValueError("an https:// URL without a user was expected")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise ValueError("an https:// URL was expected; http:// is for this machine only")
    return text


def _address(text: str) -> str:
    local, at, domain = text.rpartition("@")
    plain = text.isascii() and text.isprintable() and not set(text) & set(' ,;<>"\\')
    if not (local and at and domain and plain):
        raise ValueError("a plain e-mail address was expected")
    return text


_Url = Annotated[str, AfterValidator(checked_url)]
_Address = Annotated[str, AfterValidator(_address)]
_Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]


class _Channel(BaseModel, frozen=True, extra="forbid"):
    """What all have.

    Attributes:
        name: operators' own, to give it a secret or try it by.
        events: types that are told; empty for all.
    """

    name: _Name
    events: tuple[Event, ...] = ()


class WebhookChannel(_Channel, frozen=True, extra="forbid"):
    """A program that takes events as Tailscale sends them."""

    kind: Literal["webhook"]
    url: _Url

    @property
    def place(self) -> str:
        """What its secret is bound to, and is shown to operators."""
        return self.url


class SlackChannel(_Channel, frozen=True, extra="forbid"):
    """An incoming webhook of Slack or what understands the same; its URL is the secret."""

    kind: Literal["slack"]

    @property
    def place(self) -> str:
        """What its secret is bound to, and is shown to operators."""
        return "slack"


class MailChannel(_Channel, frozen=True, extra="forbid"):
    """People who get mail.

    Attributes:
        security: TLS from the start, or after STARTTLS, or none; that to this machine only.
        user: to log in as, with the secret as password; empty for no login.
        sender: in ``From``, and to whom bounces go.
        to: who gets it.
    """

    kind: Literal["email"]
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]+$")]
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    sender: _Address
    to: Annotated[tuple[_Address, ...], Field(min_length=1, max_length=50)]

    @property
    def place(self) -> str:
        """What its secret is bound to, and is shown to operators."""
        who = f"{self.user} at " if self.user else ""
        return f"{who}{self.host}:{self.port}"

    @model_validator(mode="after")
    def _safe(self) -> MailChannel:
        if self.security == "none" and not is_loopback(self.host):
            raise ValueError('security "none" is for this machine only')
        return self


Channel = Annotated[WebhookChannel | SlackChannel | MailChannel, Field(discriminator="kind")]
#: LIMIT: channels of one repository.
MAX_CHANNELS: Final = 20


def distinct(channels: tuple[Channel, ...]) -> tuple[Channel, ...]:
    """Return the channels, whose names are distinct.

    Raises:
        ValueError: they are not.
    """
    names = [one.name for one in channels]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f'two channels are called "{name}"')
    return channels


Channels = Annotated[tuple[Channel, ...], Field(max_length=MAX_CHANNELS), AfterValidator(distinct)]

"""Events as Tailscale's webhooks send them, so that what consumes those consumes these."""

from __future__ import annotations

import hmac
from typing import Final

from mergescale.gitops.notices.events import Notice
from mergescale.gitops.notices.posting import post

SIGNATURE: Final = "Tailscale-Webhook-Signature"


def signature(secret: str, body: bytes, now_s: int) -> str:
    """Return the header's value.

    SPEC(Tailscale, webhooks): ``t=<unix seconds>,v1=<hex>``, the HMAC-SHA256 of ``<t>.<body>``.
    Consumers refuse a time that is more than five minutes away.
    """
    made = hmac.digest(secret.encode(), f"{now_s}.".encode() + body, "sha256").hex()
    return f"t={now_s},v1={made}"


async def send(url: str, secret: str, notice: Notice) -> None:
    """Deliver it.

    Raises:
        Retry: it may work later.
        Undeliverable: it will not.
    """
    body = notice.as_json()
    headers = {
        "content-type": "application/json",
        "user-agent": "mergescale",
        SIGNATURE: signature(secret, body, int(notice.at.timestamp())),
    }
    await post(url, body, headers, notice.at)

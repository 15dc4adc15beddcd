"""One POST to a configured place, and what its answer means.

Nothing that is answered is repeated, and neither is the place: for Slack it is the secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from mergescale.gitops.notices.configured import checked_url
from mergescale.gitops.outbox import Retry, Undeliverable
from mergescale.gitops.outside import Outside, Unreachable

#: LIMIT: what is read of an answer; none of it is used.
MAX_ANSWER_BYTES: Final = 64 << 10
#: LIMIT: one delivery, from connecting to the last byte.
POST_S: Final = 20.0
#: Statuses below 500 that say later, and not never.
_LATER: Final = frozenset({408, 425, 429})


async def post(url: str, body: bytes, headers: Mapping[str, str], now: datetime) -> None:
    """Send it; returns when the receiver has taken it.

    Raises:
        Retry: it may work later.
        Undeliverable: it will not.
    """
    try:
        checked_url(url)
    except ValueError:
        raise Retry("the stored URL cannot be used; give it again", everything=True) from None
    # Connections are not kept: there are hours between two.
    receiver = Outside(most_bytes=MAX_ANSWER_BYTES, within_s=POST_S)
    try:
        answer = await receiver.ask("POST", url, headers=headers, body=body)
    except Unreachable:
        raise Retry("the receiver could not be reached", everything=True) from None
    finally:
        await receiver.close()
    if answer.is_fine:
        return
    if answer.status >= 500 or answer.status in _LATER:
        message = f"the receiver asks for another time ({answer.status})"
        raise Retry(message, after_s=answer.wait_s(now), everything=True)
    if 300 <= answer.status < 400:
        raise Undeliverable("the receiver sends elsewhere, which is not followed")
    raise Undeliverable(f"the receiver does not take it ({answer.status})")

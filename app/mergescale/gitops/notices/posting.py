"""One POST to a configured place, and what its answer means.

Nothing that is answered is repeated, and neither is the place: for Slack it is the secret.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import httpx

from mergescale.gitops.notices.configured import checked_url
from mergescale.gitops.outbox import Retry, Undeliverable

#: LIMIT: what is read of an answer; none of it is used.
MAX_ANSWER_BYTES: Final = 64 << 10
#: LIMIT: one delivery, from connecting to the last byte.
POST_S: Final = 20.0
_TIMEOUT: Final = httpx.Timeout(10.0, connect=5.0)
#: Statuses below 500 that say later, and not never.
_LATER: Final = frozenset({408, 425, 429})


async def post(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Send it; returns when the receiver has taken it.

    Raises:
        Retry: it may work later.
        Undeliverable: it will not.
    """
    try:
        checked_url(url)
    except ValueError:
        raise Retry("the stored URL cannot be used; give it again", everything=True) from None
    try:
        async with asyncio.timeout(POST_S):
            status, after = await _exchange(url, body, headers)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError):
        raise Retry("the receiver could not be reached", everything=True) from None
    if 200 <= status < 300:
        return
    if status >= 500 or status in _LATER:
        after_s = float(after[:6]) if after.isascii() and after.isdecimal() else None
        message = f"the receiver asks for another time ({status})"
        raise Retry(message, after_s=after_s, everything=True)
    if 300 <= status < 400:
        raise Undeliverable("the receiver sends elsewhere, which is not followed")
    raise Undeliverable(f"the receiver does not take it ({status})")


async def _exchange(url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
    """Return the status and for how long not to come again."""
    # A client for each: there are hours between two, and proxies of the environment do not count.
    async with (
        httpx.AsyncClient(timeout=_TIMEOUT, follow_redirects=False, trust_env=False) as client,
        client.stream("POST", url, content=body, headers=dict(headers)) as answer,
    ):
        size = 0
        async for part in answer.aiter_raw():
            size += len(part)
            if size > MAX_ANSWER_BYTES:
                break
        return answer.status_code, answer.headers.get("retry-after", "").strip()

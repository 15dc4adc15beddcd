"""Requests over HTTP to others: a forge's API, a receiver of notifications.

Each has an end in seconds and in bytes, follows no redirect, and goes by no proxy of the
environment. What was answered may hold what was sent, so nobody repeats it in an error.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import httpx
import msgspec

from mergescale.gitops.waits import asked_s
from mergescale.kernel.errors import MergescaleError

_TIMEOUT: Final = httpx.Timeout(10.0, connect=5.0)
_LIMITED: Final = "rate limit"


class Unreachable(MergescaleError):
    """Raised when there was no answer, or none in time."""

    code = "gitops.unreachable"


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered.

    Attributes:
        status: of HTTP.
        value: the JSON, decoded; None if it is none.
        headers: of the answer; names in any case.
        whole: whether there was an end to it.
    """

    status: int
    value: Any
    headers: Mapping[str, str]
    whole: bool = True

    @property
    def is_fine(self) -> bool:
        """Whether it was done."""
        return 200 <= self.status < 300

    @property
    def is_limited(self) -> bool:
        """Whether it is about how often we ask.

        SPEC(GitHub, rate limits): 403 or 429; with ``retry-after``, or nothing left of the hour, or
        else it says so in its message.
        """
        if self.status == httpx.codes.TOO_MANY_REQUESTS:
            return True
        if self.status != httpx.codes.FORBIDDEN:
            return False
        left = self.headers.get("x-ratelimit-remaining") or self.headers.get("ratelimit-remaining")
        said = self.value.get("message") if isinstance(self.value, dict) else ""
        return (
            "retry-after" in self.headers
            or left == "0"
            or (isinstance(said, str) and _LIMITED in said.lower())
        )

    def wait_s(self, now: datetime) -> float | None:
        """Return the seconds that it asks to wait, at least one; None if it asks for none."""
        after_s = asked_s(self.headers.get("retry-after", ""), now.timestamp())
        if after_s is not None:
            return max(after_s, 1.0)
        # GitHub says with every answer when the hour ends, asked to wait or not.
        for name in ("x-ratelimit-reset", "ratelimit-reset") if self.is_limited else ():
            reset = self.headers.get(name, "")
            if reset.isdecimal() and reset.isascii():
                return max(float(reset[:12]) - now.timestamp(), 1.0)
        return None


class Outside:
    """Whoever is asked; connections are kept until `close`.

    Args:
        most_bytes: what is read of one answer.
        within_s: seconds for one, from connecting to the last byte.
        ca_file: certificates of authorities believed instead of the system's; empty for those.
    """

    def __init__(self, *, most_bytes: int, within_s: float, ca_file: str = "") -> None:
        self._most_bytes = most_bytes
        self._within_s = within_s
        self._ca_file = ca_file
        self._believed: ssl.SSLContext | None = None
        self._client: httpx.AsyncClient | None = None

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | bytes | None = None,
    ) -> Answer:
        """Send a request.

        Args:
            method: of HTTP.
            url: whole.
            headers: sent along.
            query: of the URL.
            body: bytes as they are, or what becomes JSON.

        Raises:
            Unreachable: there is no answer.
        """
        words = {"content": body} if isinstance(body, bytes) else {"json": body}
        try:
            async with asyncio.timeout(self._within_s):
                client = await self._opened()
                request = client.build_request(
                    method, url, params=query, headers=dict(headers), **words
                )
                answer = await client.send(request, stream=True)
                try:
                    return await self._read(answer)
                finally:
                    await answer.aclose()
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError):
            raise Unreachable("there was no answer") from None

    async def close(self) -> None:
        """Let go of connections; the next request makes new ones."""
        client, self._client, self._believed = self._client, None, None
        if client is not None:
            await client.aclose()

    async def _opened(self) -> httpx.AsyncClient:
        if self._believed is None:
            # To read all authorities takes 30 ms, in which the loop would serve nobody.
            cafile = self._ca_file or None
            self._believed = await asyncio.to_thread(ssl.create_default_context, cafile=cafile)
        if self._client is None:
            self._client = httpx.AsyncClient(
                timeout=_TIMEOUT, follow_redirects=False, trust_env=False, verify=self._believed
            )
        return self._client

    async def _read(self, answer: httpx.Response) -> Answer:
        parts, size = list[bytes](), 0
        async for part in answer.aiter_bytes():
            parts.append(part)
            size += len(part)
            if size > self._most_bytes:
                return Answer(answer.status_code, None, answer.headers, whole=False)
        return Answer(answer.status_code, _decoded(b"".join(parts)), answer.headers)


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None

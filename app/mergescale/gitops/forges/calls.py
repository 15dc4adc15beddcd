"""One call of a forge's API, and what its answer means for who may call again.

Nothing of what a forge answers is repeated in an error: it may hold what the caller sent.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx
import msgspec

from mergescale.gitops.outbox import Retry, Undeliverable
from mergescale.kernel.clock import Clock

#: LIMIT: one answer; a hundred comments of 64 KB fit.
MAX_ANSWER_BYTES: Final = 16 << 20
#: LIMIT: one call, from connecting to the last byte.
CALL_S: Final = 30.0
_TIMEOUT: Final = httpx.Timeout(10.0, connect=5.0)
#: SPEC(GitHub, secondary rate limits): without another word, at least a minute.
_DEFAULT_WAIT_S: Final = 60.0
_LIMITED: Final = b"rate limit"

#: What says that a comment is gone, or is somebody else's.
NOT_OURS: Final = frozenset({403, 404, 410})

#: Returns what opens the API, as headers of a request.
Opens = Callable[[], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a forge answered.

    Attributes:
        value: its JSON, decoded; None if it is none.
    """

    status: int
    value: Any
    headers: Mapping[str, str]


class Calls:
    """Calls of one API.

    Args:
        api_url: where it begins.
        opens: called before each call, so that a token can change at any time.
        clock: for answers that name a moment.
        headers: sent each time.
        ca_file: certificates of authorities believed instead of the system's; empty for those.
    """

    def __init__(
        self, api_url: str, opens: Opens, clock: Clock, headers: Mapping[str, str], ca_file: str
    ) -> None:
        self._api_url = api_url
        self._opens = opens
        self._clock = clock
        self._headers = dict(headers)
        self._ca_file = ca_file
        self._client: httpx.AsyncClient | None = None

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        fine: frozenset[int] = frozenset(),
    ) -> Answer:
        """Make a call.

        Args:
            method: of HTTP.
            path: below the API's address; its parts are quoted.
            query: of the URL.
            body: sent as JSON.
            fine: statuses besides 2xx that the caller wants to judge itself.

        Raises:
            Retry: it may work later.
            Undeliverable: it will not.
        """
        headers = {**self._headers, **await self._opens()}
        try:
            async with asyncio.timeout(CALL_S):
                answer = await self._exchange(method, path, query, body, headers)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError):
            raise Retry("the forge could not be reached", everything=True) from None
        if 200 <= answer.status < 300:
            return answer
        if answer.status in fine and not self._is_limited(answer):
            return answer
        raise self._meaning(answer)

    async def close(self) -> None:
        """Let go of connections; the next call makes new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> Answer:
        if self._client is None:
            believed = ssl.create_default_context(cafile=self._ca_file or None)
            self._client = httpx.AsyncClient(
                timeout=_TIMEOUT, follow_redirects=False, trust_env=False, verify=believed
            )
        url = self._api_url + path
        request = self._client.build_request(method, url, params=query, json=body, headers=headers)
        answer = await self._client.send(request, stream=True)
        try:
            return Answer(answer.status_code, _decoded(await _capped(answer)), answer.headers)
        finally:
            await answer.aclose()

    def _meaning(self, answer: Answer) -> Retry | Undeliverable:
        match answer.status:
            case 429 | 403 if self._is_limited(answer):
                return Retry(
                    "the forge asks to wait", after_s=self._wait_s(answer), everything=True
                )
            case 401 | 403:
                return Retry(f"the forge refuses the token ({answer.status})", everything=True)
            case 404:
                return Retry("the forge does not know it, or not to this token (404)")
            case 408 | 409 | 423 | 425:
                return Retry(f"the forge is busy with it ({answer.status})")
            case status if 300 <= status < 400:
                return Retry("the forge sends elsewhere, which is not followed", everything=True)
            case status if status >= 500:
                after_s = self._wait_s(answer) if "retry-after" in answer.headers else None
                trouble = f"the forge is in trouble ({status})"
                return Retry(trouble, after_s=after_s, everything=True)
            case status:
                return Undeliverable(f"the forge does not take it ({status})")

    def _is_limited(self, answer: Answer) -> bool:
        """Say whether it is about how often we ask.

        SPEC(GitHub, rate limits): 403 or 429; with ``retry-after``, or nothing left of the hour, or
        else it says so in its message.
        """
        if answer.status == httpx.codes.TOO_MANY_REQUESTS or "retry-after" in answer.headers:
            return True
        left = answer.headers.get("x-ratelimit-remaining") or answer.headers.get(
            "ratelimit-remaining"
        )
        said = answer.value.get("message") if isinstance(answer.value, dict) else ""
        return left == "0" or (isinstance(said, str) and _LIMITED in said.lower().encode())

    def _wait_s(self, answer: Answer) -> float:
        now = self._clock.now()
        after = answer.headers.get("retry-after", "").strip()
        if after.isdecimal() and after.isascii():
            return max(float(after[:9]), 1.0)
        if after:
            try:
                moment = parsedate_to_datetime(after)
            except ValueError:
                return _DEFAULT_WAIT_S
            moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
            return max((moment - now).total_seconds(), 1.0)
        for name in ("x-ratelimit-reset", "ratelimit-reset"):
            reset = answer.headers.get(name, "")
            if reset.isdecimal() and reset.isascii():
                return max(float(reset[:12]) - now.timestamp(), 1.0)
        return _DEFAULT_WAIT_S


async def _capped(answer: httpx.Response) -> bytes:
    parts, size = list[bytes](), 0
    async for part in answer.aiter_bytes():
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise Retry("the forge answers without an end", everything=True)
    return b"".join(parts)


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def nonsense() -> Retry:
    """Return what is to be raised for an answer that the documentation does not know."""
    return Retry("the forge did not answer as its documentation says", everything=True)


def listed(answer: Answer) -> list[dict[str, Any]]:
    """Return the objects of a list.

    Raises:
        Retry: it is none.
    """
    if not isinstance(answer.value, list):
        raise nonsense()
    return [one for one in answer.value if isinstance(one, dict)]


def cut(text: str, most: int) -> str:
    """Return one line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"

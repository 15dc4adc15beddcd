"""One call of a forge's API, and what its answer means for who may call again.

Nothing of what a forge answers is repeated in an error: it may hold what the caller sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from mergescale.gitops.outbox import Retry, Undeliverable
from mergescale.gitops.outside import Answer, Outside, Unreachable
from mergescale.gitops.waits import USUAL_S
from mergescale.kernel.clock import Clock

#: LIMIT: one answer; a hundred comments of 64 KB fit.
MAX_ANSWER_BYTES: Final = 16 << 20
#: LIMIT: one call, from connecting to the last byte.
CALL_S: Final = 30.0
#: LIMIT: seconds after which a token that was refused is shown again, or the next one.
_REFUSED_S: Final = 30.0

#: What says that a comment is gone, or is somebody else's.
NOT_OURS: Final = frozenset({403, 404, 410})

#: Returns what opens the API, as headers of a request.
Opens = Callable[[], Awaitable[Mapping[str, str]]]


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
        self._forge = Outside(most_bytes=MAX_ANSWER_BYTES, within_s=CALL_S, ca_file=ca_file)

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
            answer = await self._forge.ask(
                method, self._api_url + path, headers=headers, query=query, body=body
            )
        except Unreachable:
            raise Retry("the forge could not be reached", everything=True) from None
        if not answer.whole:
            raise Retry("the forge answers without an end", everything=True)
        if answer.is_fine or (answer.status in fine and not answer.is_limited):
            return answer
        raise self._meaning(answer)

    async def close(self) -> None:
        """Let go of connections; the next call makes new ones."""
        await self._forge.close()

    def _meaning(self, answer: Answer) -> Retry | Undeliverable:
        wait_s = answer.wait_s(self._clock.now())
        match answer.status:
            case _ if answer.is_limited:
                # SPEC(GitHub, secondary rate limits): without another word, at least a minute.
                wait_s = USUAL_S if wait_s is None else wait_s
                return Retry("the forge asks to wait", after_s=wait_s, everything=True)
            case 401:
                refused = "the forge refuses the token (401)"
                return Retry(refused, everything=True, longest_s=_REFUSED_S)
            case 403:
                # It may do other things: e.g. comment, but set no status of a protected branch.
                return Retry("the forge refuses it to this token (403)")
            case 404:
                return Retry("the forge does not know it, or not to this token (404)")
            case 408 | 409 | 423 | 425:
                return Retry(f"the forge is busy with it ({answer.status})")
            case status if 300 <= status < 400:
                moved = f"the forge sends elsewhere ({answer.status}), which is not followed"
                return Retry(moved, everything=True)
            case status if status >= 500:
                trouble = f"the forge is in trouble ({status})"
                return Retry(trouble, after_s=wait_s, everything=True)
            case status:
                return Undeliverable(f"the forge does not take it ({status})")


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

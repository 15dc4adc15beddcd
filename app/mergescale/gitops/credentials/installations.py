"""Tokens of a GitHub App: an hour each, for reading one repository.

    POST <api>/app/installations/<installation id>/access_tokens
    Authorization: Bearer <JWT, RS256: iss = app id, at most ten minutes>

The address of the API follows from the repository's own, so the app's signature goes to no host that
the configuration does not name: ``api.github.com`` for github.com, ``api.<sub>.ghe.com`` likewise,
``/api/v3`` on any other host (GitHub Enterprise Server).
"""

from __future__ import annotations

import ssl
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec
from joserfc import jwt
from joserfc.jwk import RSAKey

from mergescale.gitops.credentials.kinds import GithubApp, repository_name
from mergescale.gitops.errors import ReconcileError, Stalled, Transient, Waiting
from mergescale.gitops.git.source import Source
from mergescale.kernel.clock import Clock

#: SPEC(GitHub Apps, JWT): at most ten minutes; a minute back for clocks that differ.
_JWT_S: Final = 540
_BACKDATED_S: Final = 60
#: A token that ends sooner could end during the fetch.
_SPARE_S: Final = 300.0
_TIMEOUT_S: Final = 20.0
#: LIMIT: GitHub's answer has about 1 KB.
_LONGEST_ANSWER: Final = 64 << 10
#: LIMIT: what a remote may make us wait for.
_LONGEST_WAIT_S: Final = 3600.0
_DEFAULT_WAIT_S: Final = 60.0


class Installations:
    """Makes tokens for the app of one repository, and keeps the newest one until it nears its end.

    Args:
        source: the repository.
        clock: for signatures and for the end of tokens.
        ca_file: certificates of authorities believed instead of the system's; empty for those.
    """

    def __init__(self, source: Source, clock: Clock, ca_file: str = "") -> None:
        self._source = source
        self._clock = clock
        self._ca_file = ca_file
        self._made: tuple[GithubApp, str, datetime] | None = None

    async def token(self, app: GithubApp) -> str:
        """Return a token that lasts for another five minutes at least.

        Raises:
            Stalled: the app may not have one.
            Waiting: GitHub said how long to wait.
            Transient: it may work later.
        """
        if self._made is not None:
            of, token, ends = self._made
            if of == app and ends - self._clock.now() > timedelta(seconds=_SPARE_S):
                return token
        self._made = None
        token, ends = _read(await self._asked(app))
        self._made = app, token, ends
        return token

    def forget(self) -> None:
        """Make a new token next time: somebody may have revoked the one there is."""
        self._made = None

    async def _asked(self, app: GithubApp) -> dict[str, Any]:
        url = f"{api_of(self._source)}/app/installations/{app.installation_id}/access_tokens"
        headers = {
            "authorization": f"Bearer {self._signed(app)}",
            "accept": "application/vnd.github+json",
            "x-github-api-version": "2022-11-28",
        }
        # Least privilege: whatever the app may do elsewhere, this token reads this one repository.
        wanted = {
            "repositories": [repository_name(self._source)],
            "permissions": {"contents": "read"},
        }
        try:
            async with (
                httpx.AsyncClient(
                    timeout=_TIMEOUT_S,
                    follow_redirects=False,
                    trust_env=False,
                    verify=ssl.create_default_context(cafile=self._ca_file or None),
                ) as client,
                client.stream("POST", url, headers=headers, json=wanted) as answer,
            ):
                if answer.status_code != httpx.codes.CREATED:
                    raise _refused(answer)
                return _decoded(await _capped(answer))
        except (httpx.HTTPError, httpx.InvalidURL, OSError):
            raise Transient(
                "Unreachable",
                "the forge's API, which makes tokens of the GitHub App, could not be reached",
                help="the policy in force stays; it is tried again",
            ) from None

    def _signed(self, app: GithubApp) -> str:
        now_s = int(self._clock.now().timestamp())
        claims = {
            "iss": str(app.app_id),
            "iat": now_s - _BACKDATED_S,
            "exp": now_s - _BACKDATED_S + _JWT_S,
        }
        return jwt.encode({"alg": "RS256"}, claims, RSAKey.import_key(app.private_key))


def api_of(source: Source) -> str:
    """Return the base address of the API at the repository's own forge."""
    place = urlsplit(source.url).netloc.lower()
    if place in {"github.com", "www.github.com"}:
        return "https://api.github.com"
    if place.endswith(".ghe.com"):
        return f"https://api.{place}"
    return f"https://{place}/api/v3"


async def _capped(answer: httpx.Response) -> bytes:
    parts = b""
    async for part in answer.aiter_bytes():
        parts += part
        if len(parts) > _LONGEST_ANSWER:
            raise _nonsense()
    return parts


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except msgspec.DecodeError:
        raise _nonsense() from None
    if not isinstance(found, dict):
        raise _nonsense()
    return found


def _read(answer: dict[str, Any]) -> tuple[str, datetime]:
    """Return token and end of ``{"token": "ghs_…", "expires_at": "2026-01-01T00:00:00Z"}``."""
    token, ends = answer.get("token"), answer.get("expires_at")
    try:
        moment = datetime.fromisoformat(str(ends))
    except ValueError:
        raise _nonsense() from None
    if not isinstance(token, str) or not token.isascii() or not token or moment.tzinfo is None:
        raise _nonsense()
    return token, moment


def _nonsense() -> Transient:
    return Transient(
        "BadAnswer", "the forge's API did not answer as GitHub's does", help="it is tried again"
    )


def _refused(answer: httpx.Response) -> ReconcileError:
    """Say what an answer means without repeating any of it."""
    status, headers = answer.status_code, answer.headers
    # SPEC(GitHub, rate limits): 403 or 429 with retry-after, or with nothing left of the hour.
    if status == httpx.codes.TOO_MANY_REQUESTS or (
        status == httpx.codes.FORBIDDEN
        and ("retry-after" in headers or headers.get("x-ratelimit-remaining") == "0")
    ):
        return Waiting(
            "RateLimited",
            "the forge's API asks to wait",
            retry_after_s=waiting_s(headers.get("retry-after", "")),
            help="the policy in force stays; it is tried again",
        )
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return Transient(
            "Unreachable",
            f"the forge's API answered {status}",
            help="the policy in force stays; it is tried again",
        )
    if status >= httpx.codes.BAD_REQUEST:
        return Stalled(
            "Denied",
            f"the forge's API gave the GitHub App no token ({status})",
            help="check app id, installation id and key, and that the app may read this repository",
        )
    if status < httpx.codes.MULTIPLE_CHOICES:
        return _nonsense()
    return Stalled(
        "Redirected",
        f"the forge's API sends elsewhere ({status}), which is not followed",
        help="configure the address that the repository has now",
    )


def waiting_s(retry_after: str) -> float:
    """Return the seconds of a ``Retry-After``, a minute if it says none, an hour at most."""
    if not retry_after.isdecimal() or not retry_after.isascii():
        return _DEFAULT_WAIT_S
    return min(max(float(retry_after[:9]), 1.0), _LONGEST_WAIT_S)

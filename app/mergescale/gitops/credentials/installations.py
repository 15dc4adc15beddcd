"""Tokens of a GitHub App: an hour each, for one repository and for what is needed of it.

POST <api>/app/installations/<installation id>/access_tokens
Authorization: Bearer <JWT, RS256: iss = app id, at most ten minutes>
{"repositories": ["policy"], "permissions": {"contents": "read"}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from joserfc import jwt
from joserfc.jwk import RSAKey

from mergescale.gitops.credentials.kinds import GithubApp
from mergescale.gitops.errors import ReconcileError, Stalled, Transient, Waiting
from mergescale.gitops.outside import Answer, Outside, Unreachable
from mergescale.gitops.waits import bounded_s
from mergescale.kernel.clock import Clock

#: What GitHub's API is sent each time.
HEADERS: Final = {
    "accept": "application/vnd.github+json",
    "x-github-api-version": "2022-11-28",
    "user-agent": "mergescale",
}
#: SPEC(GitHub Apps, JWT): at most ten minutes; a minute back for clocks that differ.
_JWT_S: Final = 540
_BACKDATED_S: Final = 60
#: A token that ends sooner could end while it is used.
_SPARE: Final = timedelta(minutes=5)
_TIMEOUT_S: Final = 20.0
#: LIMIT: GitHub's answer has about 1 KB.
_LONGEST_ANSWER: Final = 64 << 10
_AGAIN: Final = "the policy in force stays; it is tried again"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What tokens are for; whatever the app may do elsewhere, they open nothing more.

    Attributes:
        api_url: where the forge's API begins, without a slash at the end.
        repository: its name without the owner.
        permissions: as GitHub names them, to ``read`` or ``write``.
    """

    api_url: str
    repository: str
    permissions: Mapping[str, str]


class Installations:
    """Makes tokens for one purpose, and keeps the newest one until it nears its end.

    Args:
        clock: for signatures and for the end of tokens.
        ca_file: certificates of authorities believed instead of the system's; empty for those.
    """

    def __init__(self, clock: Clock, ca_file: str = "") -> None:
        self._clock = clock
        self._ca_file = ca_file
        self._made: tuple[GithubApp, str, datetime] | None = None

    async def token(self, app: GithubApp, wanted: Wanted) -> str:
        """Return a token that lasts for another five minutes at least.

        Raises:
            Stalled: the app may not have one.
            Waiting: GitHub said how long to wait.
            Transient: it may work later.
        """
        if self._made is not None:
            of, token, ends = self._made
            if of == app and ends - self._clock.now() > _SPARE:
                return token
        self._made = None
        token, ends = _read(await self._asked(app, wanted))
        self._made = app, token, ends
        return token

    def forget(self) -> None:
        """Make a new token next time: somebody may have revoked the one there is."""
        self._made = None

    async def _asked(self, app: GithubApp, wanted: Wanted) -> Answer:
        url = f"{wanted.api_url}/app/installations/{app.installation_id}/access_tokens"
        headers = {**HEADERS, "authorization": f"Bearer {self._signed(app)}"}
        body = {"repositories": [wanted.repository], "permissions": dict(wanted.permissions)}
        api = Outside(most_bytes=_LONGEST_ANSWER, within_s=_TIMEOUT_S, ca_file=self._ca_file)
        try:
            answer = await api.ask("POST", url, headers=headers, body=body)
        except Unreachable:
            raise Transient(
                "Unreachable",
                "the forge's API, which makes tokens of the GitHub App, could not be reached",
                help=_AGAIN,
            ) from None
        finally:
            await api.close()
        if answer.status >= 300:
            raise self._refused(answer)
        return answer

    def _signed(self, app: GithubApp) -> str:
        started_s = int(self._clock.now().timestamp()) - _BACKDATED_S
        claims = {"iss": str(app.app_id), "iat": started_s, "exp": started_s + _JWT_S}
        return jwt.encode({"alg": "RS256"}, claims, RSAKey.import_key(app.private_key))

    def _refused(self, answer: Answer) -> ReconcileError:
        """Say what an answer means without repeating any of it."""
        status = answer.status
        if answer.is_limited:
            wait_s = bounded_s(answer.wait_s(self._clock.now()))
            asks = "the forge's API asks to wait"
            return Waiting("RateLimited", asks, retry_after_s=wait_s, help=_AGAIN)
        if status >= 500:
            return Transient("Unreachable", f"the forge's API answered {status}", help=_AGAIN)
        if status >= 400:
            return Stalled(
                "Denied",
                f"the forge's API gave the GitHub App no token ({status})",
                help="check app id, installation id and key, and that the app may read this"
                " repository",
            )
        return Stalled(
            "Redirected",
            f"the forge's API sends elsewhere ({status}), which is not followed",
            help="configure the address that the repository has now",
        )


def _read(answer: Answer) -> tuple[str, datetime]:
    """Return token and end of ``{"token": "ghs_…", "expires_at": "2026-01-01T00:00:00Z"}``."""
    match answer.value:
        case {"token": str(token), "expires_at": str(ends)} if token and token.isascii():
            try:
                moment = datetime.fromisoformat(ends)
            except ValueError:
                raise _nonsense() from None
            if token.isprintable() and moment.tzinfo is not None:
                return token, moment
    raise _nonsense()


def _nonsense() -> Transient:
    return Transient(
        "BadAnswer", "the forge's API did not answer as GitHub's does", help="it is tried again"
    )


def api_url(host: str) -> str:
    """Return where the API begins of the GitHub that has this host (with a port of https).

    It follows from the repository's own address, so that a signature goes to no host that the
    configuration does not name.
    """
    if host in {"github.com", "www.github.com", "ssh.github.com"}:
        return "https://api.github.com"
    # SPEC(GitHub Enterprise): with data residency a host of its own, else below /api/v3.
    return f"https://api.{host}" if host.endswith(".ghe.com") else f"https://{host}/api/v3"

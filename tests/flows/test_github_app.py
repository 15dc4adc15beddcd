"""Following a repository as a GitHub App, on a forge that answers as GitHub's API documents it."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.jwk import RSAKey

from mergescale.gitops.credentials.installations import api_url
from mergescale.gitops.errors import Waiting
from mergescale.gitops.git.source import Source
from support.aio import aio
from support.authority import Authority
from support.clock import START
from support.git_https import Asked, Behaviour, Exchange, GitHttps, answers, guarded
from support.remote_looks import Looker, looking
from support.repositories import Repository

FIRST = {"policy.hujson": '{"acls": []}'}
SECOND = {"policy.hujson": '{"acls": [], "groups": {}}'}
KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
APP = {"kind": "github-app", "appId": 7, "installationId": 42, "privateKey": PEM}


@dataclass(slots=True)
class Forge:
    """What stands for GitHub: its API makes tokens, its git takes the newest of them.

    Attributes:
        made: how many tokens.
        lasts: how long the next ones do.
        api: what its API does with a request.
        wanted: claims and body of each request for a token.
    """

    made: int = 0
    lasts: timedelta = timedelta(hours=1)
    api: Behaviour | None = None
    wanted: list[tuple[dict[str, Any], Any]] = field(default_factory=list)

    @property
    def token(self) -> str:
        return f"ghs_canary{self.made}"

    def __call__(self, exchange: Exchange, asked: Asked) -> None:
        if asked.path.startswith("/api/"):
            (self.api or self.make)(exchange, asked)
            return
        right = base64.b64encode(f"x-access-token:{self.token}".encode()).decode()
        guarded(f"Basic {right}")(exchange, asked)

    def make(self, exchange: Exchange, asked: Asked) -> None:
        """Make a token as ``POST /app/installations/{id}/access_tokens`` does."""
        assert asked.path == "/api/v3/app/installations/42/access_tokens"
        scheme, signed = asked.headers["authorization"].split()
        assert scheme == "Bearer"
        known = RSAKey.import_key(PEM)
        claims = jwt.decode(signed, known, algorithms=["RS256"]).claims
        self.wanted.append((claims, json.loads(asked.body)))
        self.made += 1
        body = {"token": self.token, "expires_at": f"{(START + self.lasts):%Y-%m-%dT%H:%M:%SZ}"}
        exchange.give(201, json.dumps(body).encode(), Content_Type="application/json")


@dataclass(slots=True)
class World:
    """A forge, its server, and who follows a repository there."""

    forge: Forge
    remote: GitHttps
    here: Looker
    repository: Repository
    first: str


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """Follow a repository as an app that is installed there."""
    repository = Repository(folder / "served" / "policy.git")
    first = repository.commit(FIRST)
    authority, forge = Authority.made(folder / "authority"), Forge()
    with GitHttps(authority, repository.path) as remote:
        remote.behave = forge
        async with looking(Source.parse(remote.url), folder, ca_file=authority.ca) as here:
            await here.keeper.put(APP, by="a test")
            yield World(forge, remote, here, repository, first)


@aio
async def test_an_app_gets_a_short_token_for_reading_one_repository(tmp_path: Path) -> None:
    """Signed by its key for ten minutes at most; the token is used until it nears its end."""
    async with world(tmp_path) as site:
        assert (await site.here.look(), site.here.applied) == ("", site.first)
        second = site.repository.commit(SECOND)
        assert (await site.here.look(), site.here.applied) == ("", second)
        now = int(START.timestamp())
        assert site.forge.wanted == [
            (
                {"iss": "7", "iat": now - 60, "exp": now + 480},
                {"repositories": ["policy"], "permissions": {"contents": "read"}},
            )
        ]


@aio
async def test_a_token_that_is_about_to_end_is_replaced(tmp_path: Path) -> None:
    """It could end during the fetch."""
    async with world(tmp_path) as site:
        site.forge.lasts = timedelta(minutes=4)
        assert [await site.here.look() for _ in range(2)] == ["", ""]
        assert site.forge.made == 2


@aio
async def test_a_token_that_was_revoked_is_replaced_at_the_next_look(tmp_path: Path) -> None:
    """As is the app's key, when operators exchange it."""
    async with world(tmp_path) as site:
        assert await site.here.look() == ""
        site.forge.made = 10
        assert [await site.here.look() for _ in range(2)] == ["Denied", ""]
        assert site.forge.made == 11
        await site.here.keeper.put({**APP, "appId": 8}, by="a test")
        assert await site.here.look() == ""
        assert [claims["iss"] for claims, _ in site.forge.wanted] == ["7", "7", "8"]


NONSENSE = b'{"token": "canary", "expires_at": "soon"}'


@pytest.mark.parametrize(
    ("api", "reason", "wait_s"),
    [
        (answers(401), "Denied", 0),
        (answers(404), "Denied", 0),
        (answers(422), "Denied", 0),
        (answers(403), "Denied", 0),
        (answers(403, Retry_After="7"), "RateLimited", 7),
        (answers(403, X_RateLimit_Remaining="0"), "RateLimited", 60),
        (answers(429, Retry_After="7"), "RateLimited", 7),
        (answers(503), "Unreachable", 0),
        (answers(200), "BadAnswer", 0),
        (lambda exchange, _: exchange.give(201, NONSENSE), "BadAnswer", 0),
        (lambda exchange, _: exchange.give(201, b"["), "BadAnswer", 0),
        (lambda exchange, _: exchange.give(201, b"x" * (1 << 20)), "BadAnswer", 0),
    ],
)
@aio
async def test_an_api_that_gives_no_token_is_told_apart(
    tmp_path: Path, api: Behaviour, reason: str, wait_s: float
) -> None:
    """Git is not asked without one; what it said is not repeated, and the next look may work."""
    async with world(tmp_path) as site:
        site.forge.api = api
        assert (await site.here.look(), site.here.applied) == (reason, None)
        trouble = site.here.reconciler.trouble
        assert trouble is not None
        assert (trouble.retry_after_s if isinstance(trouble, Waiting) else 0) == wait_s
        assert "canary" not in trouble.message + trouble.help
        assert all(one.path.startswith("/api/") for one in site.remote.asked)
        site.forge.api = None
        assert (await site.here.look(), site.here.applied) == ("", site.first)


@aio
async def test_an_apps_signature_does_not_follow_a_redirect(tmp_path: Path) -> None:
    """Whoever the API names instead is asked nothing."""
    async with world(tmp_path) as site:
        authority = Authority.made(tmp_path / "other")
        with GitHttps(authority, site.repository.path) as elsewhere:
            site.forge.api = answers(307, Location=f"{elsewhere.base}/api/v3/app")
            assert await site.here.look() == "Redirected"
            assert elsewhere.asked == []


@pytest.mark.parametrize(
    ("host", "api"),
    [
        ("github.com", "https://api.github.com"),
        ("acme.ghe.com", "https://api.acme.ghe.com"),
        ("git.example.com:8443", "https://git.example.com:8443/api/v3"),
        ("github.com.evil.example", "https://github.com.evil.example/api/v3"),
        ("evilghe.com", "https://evilghe.com/api/v3"),
    ],
)
def test_the_api_is_the_repositorys_own_forges(host: str, api: str) -> None:
    """Nobody else is sent a signature."""
    assert api_url(host) == api

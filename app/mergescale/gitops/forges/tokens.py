"""What opens a forge's API: a token, or a GitHub App that is given one for an hour at a time.

It is in the vault under the purpose ``forge``, bound to the API's address, as JSON:

    {"kind": "token", "token": "..."}
    {"kind": "github-app", "appId": 1, "installationId": 2, "privateKey": "-----BEGIN ..."}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc import jwt
from joserfc.jwk import RSAKey

from mergescale.gitops.forges.calls import Calls, nonsense
from mergescale.gitops.forges.github import HEADERS
from mergescale.gitops.forges.place import ForgePlace, Kind
from mergescale.gitops.outbox import Retry
from mergescale.gitops.vault import FORGE, HeldDamaged, Vault
from mergescale.kernel.clock import Clock
from mergescale.kernel.errors import Invalid
from mergescale.state.ports import StoreUnavailable

#: LIMIT: no forge's token is longer; an RSA key of 16384 bits in PEM has 13 KB.
_LONGEST_TOKEN: Final = 4096
_LONGEST_KEY: Final = 16 << 10
_PRINTABLE: Final = re.compile(r"[!-~]+")
#: SPEC(GitHub Apps, JWT): at most ten minutes; a minute back for clocks that differ.
_JWT_S: Final = 540
_BACKDATED_S: Final = 60
#: A token that ends sooner could end during a call.
_SPARE: Final = timedelta(minutes=5)
#: What the token of an App may do, and no more.
_PERMISSIONS: Final = {"statuses": "write", "checks": "write", "pull_requests": "write"}

_Number = Annotated[int, msgspec.Meta(ge=1, lt=2**53)]


class _Given(msgspec.Struct, frozen=True, tag_field="kind", rename="camel"):
    """Base of both; what stands for one in a log or a traceback tells nothing."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class Token(_Given, frozen=True, tag="token", forbid_unknown_fields=True):
    """A token of a person or of a robot."""

    token: str


class App(_Given, frozen=True, tag="github-app", forbid_unknown_fields=True):
    """A GitHub App that is installed where the project is; its key is RSA, in PEM."""

    app_id: _Number
    installation_id: _Number
    private_key: str


def given(words: Any, kind: Kind) -> bytes:
    """Check what somebody gave; return it as the vault keeps it.

    Raises:
        Invalid: it is none; nothing of it is repeated.
    """
    try:
        found: Token | App = msgspec.convert(words, type=Token | App)
    except msgspec.ValidationError:
        raise Invalid(
            "this is nothing that opens a forge",
            help='its kind is "token" with "token", or "github-app" with "appId",'
            ' "installationId" and "privateKey"',
        ) from None
    match found:
        case Token(token=token):
            if len(token) > _LONGEST_TOKEN or not _PRINTABLE.fullmatch(token):
                raise Invalid("the token is empty, too long or has characters that no token has")
        case App(private_key=key):
            if kind is not Kind.GITHUB:
                raise Invalid("a GitHub App opens GitHub only")
            _signing(key)
    return msgspec.json.encode(found)


def _signing(pem: str) -> RSAPrivateKey:
    """Read an App's key.

    Raises:
        Invalid: it is none.
    """
    try:
        found = load_pem_private_key(pem[:_LONGEST_KEY].encode(), password=None)
    except (ValueError, TypeError, UnicodeEncodeError):
        found = None
    if not isinstance(found, RSAPrivateKey):
        raise Invalid("the private key is no RSA key in PEM, or has a passphrase")
    return found


class Tokens:
    """Opens one forge's API for one project.

    Args:
        place: whose API.
        vault: has what opens it.
        clock: for signatures and for the end of tokens.
        ca_file: see `Calls`.
    """

    def __init__(self, place: ForgePlace, vault: Vault, clock: Clock, ca_file: str) -> None:
        self._place = place
        self._vault = vault
        self._clock = clock
        self._ca_file = ca_file
        self._made: tuple[App, str, datetime] | None = None

    async def headers(self) -> Mapping[str, str]:
        """Return what opens the API, as headers of a request.

        Raises:
            Retry: there is nothing, or not now.
        """
        match await self._kept():
            case Token(token=token):
                return _spelt(self._place.kind, token)
            case App() as app:
                return _spelt(self._place.kind, await self._installed(app))

    async def is_app(self) -> bool:
        """Say whether it is a GitHub App that opens it.

        Raises:
            Retry: there is nothing, or not now.
        """
        return isinstance(await self._kept(), App)

    async def _kept(self) -> Token | App:
        try:
            kept = await self._vault.find(FORGE, self._place.api_url)
        except StoreUnavailable:
            raise Retry("the database has no answer about the token", everything=True) from None
        except HeldDamaged:
            raise Retry("the stored token of the forge is damaged", everything=True) from None
        if kept is None:
            raise Retry("there is no token of the forge", everything=True)
        try:
            return msgspec.json.decode(kept, type=Token | App)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Retry("the stored token of the forge is damaged", everything=True) from None

    async def _installed(self, app: App) -> str:
        """Return a token of the App's installation that lasts a while yet.

        SPEC(GitHub Apps): POST /app/installations/<id>/access_tokens with a JWT, RS256.
        """
        if self._made is not None:
            of, token, ends = self._made
            if of == app and ends - self._clock.now() > _SPARE:
                return token

        async def signed() -> Mapping[str, str]:
            return {"authorization": f"Bearer {self._signed(app)}"}

        calls = Calls(self._place.api_url, signed, self._clock, HEADERS, self._ca_file)
        path = f"/app/installations/{app.installation_id}/access_tokens"
        project = self._place.project.partition("/")[2]
        wanted = {"repositories": [project], "permissions": _PERMISSIONS}
        try:
            answer = await calls.ask("POST", path, body=wanted)
        finally:
            await calls.close()
        token, ends = _read(answer.value)
        self._made = app, token, ends
        return token

    def _signed(self, app: App) -> str:
        now_s = int(self._clock.now().timestamp())
        started_s = now_s - _BACKDATED_S
        claims = {"iss": str(app.app_id), "iat": started_s, "exp": started_s + _JWT_S}
        return jwt.encode({"alg": "RS256"}, claims, RSAKey.import_key(app.private_key))


def _spelt(kind: Kind, token: str) -> Mapping[str, str]:
    match kind:
        case Kind.GITLAB:
            return {"private-token": token}
        case Kind.GITHUB:
            return {"authorization": f"Bearer {token}"}
        case Kind.GITEA | Kind.FORGEJO:
            return {"authorization": f"token {token}"}


def _read(answer: Any) -> tuple[str, datetime]:
    """Return token and end of ``{"token": "...", "expires_at": "2026-01-01T00:00:00Z"}``."""
    match answer:
        case {"token": str(token), "expires_at": str(ends)} if _PRINTABLE.fullmatch(token):
            try:
                moment = datetime.fromisoformat(ends)
            except ValueError:
                raise nonsense() from None
            if moment.tzinfo is not None:
                return token, moment
    raise nonsense()

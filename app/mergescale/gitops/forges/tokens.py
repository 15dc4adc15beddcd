"""What opens a forge's API: a token, or a GitHub App that is given one for an hour at a time.

It is in the vault under the purpose ``forge``, bound to the API's address, as JSON:

    {"kind": "token", "token": "..."}
    {"kind": "github-app", "appId": 1, "installationId": 2, "privateKey": "-----BEGIN ..."}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from mergescale.gitops.credentials.installations import Installations, Wanted
from mergescale.gitops.credentials.kinds import GithubApp, Opens, checked_token
from mergescale.gitops.credentials.privatekeys import app_key
from mergescale.gitops.errors import ReconcileError, Waiting
from mergescale.gitops.forges.place import ForgePlace, Kind
from mergescale.gitops.outbox import Retry
from mergescale.gitops.vault import FORGE, HeldDamaged, Vault
from mergescale.kernel.clock import Clock
from mergescale.kernel.errors import Invalid
from mergescale.state.ports import StoreUnavailable

#: LIMIT: seconds after which it is looked again for a token that nobody set yet.
_UNSET_S: Final = 2.0
#: What the token of an app may do, and no more.
_PERMISSIONS: Final = {"statuses": "write", "checks": "write", "pull_requests": "write"}


class Token(Opens, frozen=True, tag="token"):
    """A token of a person or of a robot."""

    token: str


def given(words: Any, kind: Kind) -> bytes:
    """Check what somebody gave; return it as the vault keeps it.

    Raises:
        Invalid: it is none; nothing of it is repeated.
    """
    try:
        found: Token | GithubApp = msgspec.convert(words, type=Token | GithubApp)
    except msgspec.ValidationError:
        raise Invalid(
            "this is nothing that opens a forge",
            help='its kind is "token" with "token", or "github-app" with "appId",'
            ' "installationId" and "privateKey"',
        ) from None
    match found:
        case Token(token=token):
            return msgspec.json.encode(Token(checked_token(token)))
        case GithubApp(private_key=key):
            if kind is not Kind.GITHUB:
                raise Invalid("a GitHub App opens GitHub only")
            return msgspec.json.encode(msgspec.structs.replace(found, private_key=app_key(key)))


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
        self._installations = Installations(clock, ca_file)

    async def headers(self) -> Mapping[str, str]:
        """Return what opens the API, as headers of a request.

        Raises:
            Retry: there is nothing, or not now.
        """
        match await self._kept():
            case Token(token=token):
                return _spelt(self._place.kind, token)
            case GithubApp() as app:
                return _spelt(self._place.kind, await self._installed(app))

    async def app(self) -> int | None:
        """Return the number of the GitHub App that opens it, None if it is something else.

        Raises:
            Retry: there is nothing, or not now.
        """
        match await self._kept():
            case GithubApp(app_id=number):
                return number
            case _:
                return None

    async def _kept(self) -> Token | GithubApp:
        try:
            kept = await self._vault.find(FORGE, self._place.api_url)
        except StoreUnavailable:
            raise Retry("the database has no answer about the token", everything=True) from None
        except HeldDamaged:
            raise Retry("the stored token of the forge is damaged", everything=True) from None
        if kept is None:
            # To look for it costs nobody anything.
            raise Retry("there is no token of the forge", everything=True, longest_s=_UNSET_S)
        try:
            return msgspec.json.decode(kept, type=Token | GithubApp)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Retry("the stored token of the forge is damaged", everything=True) from None

    async def _installed(self, app: GithubApp) -> str:
        """Return a token of the app's installation that lasts a while yet."""
        repository = self._place.project.partition("/")[2]
        wanted = Wanted(self._place.api_url, repository, _PERMISSIONS)
        try:
            return await self._installations.token(app, wanted)
        except Waiting as error:
            raise Retry(error.message, after_s=error.retry_after_s, everything=True) from None
        except ReconcileError as error:
            raise Retry(error.message, everything=True) from None


def _spelt(kind: Kind, token: str) -> Mapping[str, str]:
    match kind:
        case Kind.GITLAB:
            return {"private-token": token}
        case Kind.GITHUB:
            return {"authorization": f"Bearer {token}"}
        case Kind.GITEA | Kind.FORGEJO:
            return {"authorization": f"token {token}"}

"""The credential of one repository: taken from operators, lent to git, never given back.

Every look asks for it anew, so a new one is in use from the next look on, at whichever replica
follows the repository. It is kept for exactly one URL (`vault`): a server that is configured with
another one forgets it at its first look, or when anybody asks about it.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import structlog

from mergescale.gitops.credentials import hostkeys
from mergescale.gitops.credentials import kinds as credentials
from mergescale.gitops.credentials.installations import Installations, Wanted, api_url
from mergescale.gitops.credentials.kinds import Credential, DeployKey, GithubApp, Token
from mergescale.gitops.errors import Stalled, Transient
from mergescale.gitops.git.access import Access
from mergescale.gitops.git.source import Source, Transport
from mergescale.gitops.status import time_json
from mergescale.gitops.vault import REPOSITORY, HeldDamaged, Vault
from mergescale.kernel.errors import Conflict, Invalid
from mergescale.state import following
from mergescale.state.engine import Engine, EngineStopped
from mergescale.state.ports import StoreUnavailable

log = structlog.get_logger()

#: As GitHub wants it for a token of an app, and nobody else minds.
_APP_USER: Final = "x-access-token"


class Keeper:
    """Keeps the credential of one tailnet's repository.

    Args:
        engine: of the tailnet.
        source: the repository.
        vault: where it is kept.
        installations: tokens of a GitHub App.
        ca_file: certificates of authorities that https believes instead of the system's; empty
            for those.
    """

    def __init__(
        self,
        engine: Engine,
        source: Source,
        vault: Vault,
        installations: Installations,
        ca_file: str = "",
    ) -> None:
        self._engine = engine
        self._source = source
        self._vault = vault
        self._installations = installations
        self._ca_file = ca_file
        self._settled = False

    async def access(self) -> Access:
        """Return what git may use for the next look; see `access.Lender`.

        Raises:
            Stalled: what is kept cannot be read, or the forge refuses it.
            Waiting: the forge said how long to wait.
            Transient: the database or the forge does not answer.
        """
        if self._source.transport is Transport.FILE and self._settled:
            return Access()
        try:
            credential = await self._credential()
        except StoreUnavailable:
            message = "the database was not there to read the repository's credential from"
            raise Transient("StoreUnavailable", message, help="it is tried again") from None
        except HeldDamaged:
            raise _unusable() from None
        self._settled = True
        return await access_with(credential, self._source, self._installations, self._ca_file)

    def refused(self) -> None:
        """Note that the repository did not accept it."""
        self._installations.forget()

    async def about(self) -> dict[str, Any]:
        """Return what may be told of it, ready for JSON: nothing that opens anything.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        try:
            credential = await self._credential()
            told = {"kind": None} if credential is None else credentials.shown(credential)
        except (HeldDamaged, Stalled):
            told = {"kind": "unreadable"}
        held = (await self._vault.held()).get(REPOSITORY)
        if held is not None:
            told = {"fingerprint": held.fingerprint, "created": time_json(held.created), **told}
        return {"repository": self._source.display, **told}

    async def put(self, words: Mapping[str, Any], *, by: str) -> dict[str, Any]:
        """Keep a credential in the place of the one there is; return what may be told of it.

        Args:
            words: `credentials.Credential` as JSON spells it.
            by: who gives it.

        Raises:
            Invalid: it is none for this repository.
            StoreUnavailable: the database did not take it.
        """
        return await self._keep(credentials.given(words, self._source), by)

    async def generate(self, known_hosts: str, *, by: str) -> dict[str, Any]:
        """Make a deploy key and keep it; return what may be told of it, the public half included.

        Args:
            known_hosts: host keys; empty for those that go with the key there is.
            by: who wants it.

        Raises:
            Conflict: there are no host keys yet.
            Invalid: they are none, or the repository is not reached over ssh.
            StoreUnavailable: the database did not take it.
        """
        if self._source.transport is not Transport.SSH:
            raise Invalid(
                "a deploy key is for a repository with an ssh address",
                help="this one's is of another kind",
            )
        hosts = hostkeys.checked_hosts(known_hosts or await self._known_hosts(), self._source)
        return await self._keep(credentials.generated(hosts), by)

    async def drop(self, *, by: str) -> bool:
        """Forget it; say whether there was one.

        Raises:
            StoreUnavailable: the database did not take it.
        """
        dropped = await self._vault.drop(REPOSITORY)
        if dropped:
            log.info("gitops.credential-dropped", tailnet=self._engine.snapshot.tailnet, by=by)
            await self._tell()
        return dropped

    async def _keep(self, credential: Credential, by: str) -> dict[str, Any]:
        await self._vault.put(REPOSITORY, self._source.url, credentials.encoded(credential))
        about = await self.about()
        log.info(
            "gitops.credential-set",
            tailnet=self._engine.snapshot.tailnet,
            by=by,
            kind=about["kind"],
            fingerprint=about.get("fingerprint"),
        )
        await self._tell()
        return about

    async def _tell(self) -> None:
        """Have whichever replica follows the repository look at it; the next look would do too."""
        with contextlib.suppress(StoreUnavailable, EngineStopped):
            await self._engine.apply(following.ask())

    async def _credential(self) -> Credential | None:
        kept = await self._vault.find(REPOSITORY, self._source.url)
        if kept is None:
            return None
        credential = credentials.decoded(kept)
        if credential is None:
            raise _unusable()
        return credential

    async def _known_hosts(self) -> str:
        try:
            credential = await self._credential()
        except (HeldDamaged, Stalled):
            credential = None
        if isinstance(credential, DeployKey):
            return credential.known_hosts
        raise Conflict(
            "there are no host keys of the repository's ssh server yet",
            help="give lines of known_hosts along; the forge publishes its host keys",
        )


async def access_with(
    credential: Credential | None, source: Source, installations: Installations, ca_file: str
) -> Access:
    """Return what git may use, for a repository that has this credential.

    Raises:
        ReconcileError: a GitHub App got no token.
    """
    ca_file = ca_file if source.transport is Transport.HTTPS else ""
    match credential:
        case None:
            return Access(ca_file=ca_file)
        case Token(token=token, user=user):
            return Access(header=_basic(user, token), ca_file=ca_file)
        case GithubApp() as app:
            token = await installations.token(app, _reading(source))
            return Access(header=_basic(_APP_USER, token), ca_file=ca_file)
        case DeployKey(private_key=key, known_hosts=known_hosts):
            return Access(key=key, known_hosts=known_hosts)


def _reading(source: Source) -> Wanted:
    api = api_url(urlsplit(source.url).netloc.lower())
    return Wanted(api, credentials.repository_name(source), {"contents": "read"})


def _basic(user: str, token: str) -> str:
    return f"Authorization: Basic {base64.b64encode(f'{user}:{token}'.encode()).decode()}"


def _unusable() -> Stalled:
    return Stalled(
        "CredentialUnreadable",
        "the stored credential of the repository cannot be read",
        help="set it again: mergescale gitops credential set",
    )

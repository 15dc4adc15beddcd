"""The configured kind of forge -> what speaks its API."""

from __future__ import annotations

from typing import assert_never

from mergescale.gitops.credentials.installations import HEADERS
from mergescale.gitops.forges.calls import Calls
from mergescale.gitops.forges.gitea import Gitea
from mergescale.gitops.forges.github import GitHub
from mergescale.gitops.forges.gitlab import GitLab
from mergescale.gitops.forges.place import ForgePlace, Kind
from mergescale.gitops.forges.port import Forge
from mergescale.gitops.forges.tokens import Tokens
from mergescale.gitops.vault import Vault
from mergescale.kernel.clock import Clock

_AGENT = {"user-agent": "mergescale", "accept": "application/json"}


def forge_of(place: ForgePlace, vault: Vault, clock: Clock, ca_file: str = "") -> Forge:
    """Return the project on its forge; nothing is asked of it yet.

    Args:
        place: where it is.
        vault: has what opens its API.
        clock: for the age of tokens.
        ca_file: certificates of authorities believed instead of the system's; empty for those.
    """
    tokens = Tokens(place, vault, clock, ca_file)
    headers = HEADERS if place.kind is Kind.GITHUB else _AGENT
    calls = Calls(place.api_url, tokens.headers, clock, headers, ca_file)
    match place.kind:
        case Kind.GITHUB:
            return GitHub(calls, place.project, tokens.app)
        case Kind.GITLAB:
            return GitLab(calls, place.quoted)
        case Kind.GITEA | Kind.FORGEJO:
            return Gitea(calls, place.project)
        case never:
            assert_never(never)

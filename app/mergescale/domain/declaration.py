"""What the repository says at one commit, and the record that it is in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from mergescale.domain.tailnet import Dns, Relays, Settings
from mergescale.domain.user import Role

if TYPE_CHECKING:
    from mergescale.domain.access import Access
    from mergescale.domain.snapshot import Snapshot


class Policy(Protocol):
    """A validated policy, not yet resolved against any node. Compare by identity."""

    def resolve(self, snapshot: Snapshot, before: Access | None = None) -> Access:
        """Compile against the nodes and users of `snapshot`; slow for large tailnets.

        Args:
            snapshot: its nodes and users.
            before: what was in force; objects that come out the same keep their identity.
        """
        ...


@dataclass(frozen=True, slots=True)
class DeclaredUser:
    """One person of ``users.hujson``; groups go into the policy."""

    login: str
    display_name: str
    role: Role
    suspended: bool


@dataclass(frozen=True, slots=True)
class Declaration:
    """The repository at one commit, validated.

    Attributes:
        users: None when there is no ``users.hujson``: then people are not managed by git.
    """

    policy: Policy
    settings: Settings = field(default_factory=Settings)
    dns: Dns = field(default_factory=Dns)
    relays: Relays = field(default_factory=Relays)
    users: tuple[DeclaredUser, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Deployment:
    """A commit in force. The texts are stored, so that it survives a lost remote.

    Attributes:
        commit: full hex object id; of a policy that was set over the API its `fingerprint`.
        files: path -> text of every file that was read.
        declaration: what the texts mean; not stored, read again from the texts at start.
        by: who put it in force; empty for the newest commit of the branch, which puts itself.
        reason: why, where `by` said so.
        approved_by, approved_because: who let it pass gates and freeze windows, and why; empty for
            a commit that nobody approved.
        verified_by: who had signed it, or the commits that came with it, newest first, as it was
            found then: a name of the server's own files, and the key. Empty if none was asked for.
        until: when it goes again by itself; None for never.
    """

    commit: str
    files: Mapping[str, str]
    subject: str
    author: str
    committed: datetime
    applied: datetime
    declaration: Declaration
    by: str = ""
    reason: str = ""
    approved_by: str = ""
    approved_because: str = ""
    verified_by: tuple[str, ...] = ()
    until: datetime | None = None

    @property
    def of_api(self) -> bool:
        """Say whether it was set over the API and is in no repository.

        It needs no record of its own: git's ids are hashes of something else.
        """
        return self.commit in map(fingerprint, self.files.values())


def fingerprint(text: str) -> str:
    """Return what stands in for a commit id where a policy has none: SHA-256, hex."""
    return sha256(text.encode()).hexdigest()

"""Whose commits come into force: what the server's configuration demands, and what was found.

The answer comes from the worker with the commit (``signatures.py``). What is trusted is named by
the configuration only: nothing in the watched repository can add a key or a name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from mergescale.gitops.errors import Stalled, Transient
from mergescale.gitops.status import Status

#: LIMIT: bytes of one file of keys; thousands of them fit.
MAX_STORE_BYTES: Final = 4 << 20
#: Reasons of `Verified` that are about the server's files rather than about the commit.
UNREADABLE: Final = "TrustUnreadable"
_SHOWN: Final = 5


class Signatures(StrEnum):
    """Which commits must carry a good signature.

    `HEAD` is the one that comes into force; `STRICT` is every one that would be in the history of
    what is in force and is not yet.
    """

    OFF = "off"
    HEAD = "head"
    STRICT = "strict"


class Demands(msgspec.Struct, frozen=True, kw_only=True):
    """What a commit must satisfy.

    Attributes:
        ssh_signers: absolute path of an allowed signers file (ssh-keygen(1)); empty for none.
        gpg_keys: absolute path of exported OpenPGP keys, armoured or not; empty for none.
        committers: e-mails, or ``*@domain``; empty for anybody.
        authors: the same for authors.
    """

    signatures: Signatures = Signatures.OFF
    ssh_signers: str = ""
    gpg_keys: str = ""
    committers: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self.signatures is not Signatures.OFF or self.committers or self.authors)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that say which keys are trusted."""
        return tuple(Path(one) for one in (self.ssh_signers, self.gpg_keys) if one)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        reason: why the commit is refused, a word of the condition `Verified`; empty if it is not.
        by: who signed, each once, newest first: the name in the server's file, and the key.
        commits: how many were looked at.
        signatures: the mode.
        first: nothing was in force, so only the newest commit was looked at.
    """

    signatures: Signatures
    reason: str = ""
    message: str = ""
    help: str = ""
    by: tuple[str, ...] = ()
    commits: int = 1
    first: bool = False


class Untrusted(Stalled):
    """Raised for a commit that does not satisfy the demands."""

    code = "gitops.untrusted"


class TrustUnreadable(Transient):
    """Raised while the server cannot read what it is to trust: then nothing is trusted."""

    code = "gitops.trust-unreadable"


def demand(verdict: Verdict | None) -> None:
    """Let pass what satisfies the demands.

    Raises:
        Untrusted: it does not.
        TrustUnreadable: nobody can tell.
    """
    if verdict is not None and verdict.reason:
        family = TrustUnreadable if verdict.reason == UNREADABLE else Untrusted
        raise family(verdict.reason, verdict.message, help=verdict.help)


def told(status: Status, verdict: Verdict | None, now: datetime) -> Status:
    """Return the status with what is known of who vouches for the newest commit."""
    if verdict is None:
        return replace(status.told(now, verified=None, reason="NotReached"), verified_by=())
    if verdict.reason:
        status = status.told(now, verified=False, reason=verdict.reason, message=verdict.message)
    elif verdict.signatures is Signatures.OFF:
        status = status.told(now, verified=None, reason="Off")
    else:
        status = status.told(now, verified=True, reason="Verified", message=_found(verdict))
    return replace(status, verified_by=verdict.by)


def fingerprint(demands: Demands) -> str:
    """Return something that differs once the demands, or what the files hold, have changed."""
    digest = hashlib.sha256(msgspec.json.encode(demands))
    for path in demands.files:
        try:
            with path.open("rb") as file:
                held = file.read(MAX_STORE_BYTES + 1)
        except OSError as error:
            held = f"unreadable {error.errno}".encode()
        digest.update(hashlib.sha256(held).digest())
    return digest.hexdigest()


def admits(patterns: Iterable[str], email: str) -> bool:
    """Say whether an e-mail is one of those listed; case does not matter.

    Args:
        patterns: e-mails, or ``*@domain`` for all of a domain, not of those below it.
        email: as the commit has it.
    """
    plain = email.casefold()
    local, at, domain = plain.partition("@")
    if not local or not at or "@" in domain:
        return False
    return any(one in {plain, f"*@{domain}"} for one in map(str.casefold, patterns))


def _found(verdict: Verdict) -> str:
    names = ", ".join(verdict.by[:_SHOWN])
    if (more := len(verdict.by) - _SHOWN) > 0:
        names += f" and {more} more"
    if verdict.signatures is Signatures.STRICT and verdict.first:
        return f"signed by {names}; nothing was in force, so the commits before it were not asked"
    if verdict.commits > 1:
        return f"{verdict.commits} commits signed by {names}"
    return f"signed by {names}"

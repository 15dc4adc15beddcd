"""Who signed, and wrote, the commits that would come into force: asked of git, in the worker.

Git verifies with ssh-keygen or gpg, told by our options which file of signers or which home to
use. What git reads of the commit itself (e-mails, the kind of signature) is never configuration.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from mergescale.gitops.git.bare import GitFailed, Store
from mergescale.gitops.git.printed import Made
from mergescale.gitops.trust.allowed_signers import written
from mergescale.gitops.trust.demands import UNREADABLE, Demands, Signatures, Verdict, admits
from mergescale.gitops.trust.keys import StoreUnreadable, TrustStore, environment

#: LIMIT: commits of one step in strict mode, each some 20 ms; a merge brings a branch, not a life.
MAX_COMMITS: Final = 1000

#: SPEC(ssh-keygen -Y): what it prints; the name is from our file.
_SSH_GOOD: Final = re.compile(
    r'Good "git" signature for (?P<who>.+) with [A-Z0-9-]+ key (?P<key>SHA256:[A-Za-z0-9+/]+)'
)
_SSH_STRANGER: Final = re.compile(
    r"^No principal matched|not permitted for use in signature", re.MULTILINE
)
_SSH_BROKEN: Final = re.compile(r"Couldn't verify signature|Signature verification failed")
#: SPEC(gnupg doc/DETAILS): status lines.
_GPG_WORD: Final = re.compile(r"^\[GNUPG:\] (?P<word>[A-Z_]+)", re.MULTILINE)
_GPG_GOOD: Final = re.compile(r"^\[GNUPG:\] GOODSIG [0-9A-F]+ (?P<who>.*)$", re.MULTILINE)
_GPG_VALID: Final = re.compile(
    r"^\[GNUPG:\] VALIDSIG [0-9A-F]+ .* (?P<primary>[0-9A-F]{40,64})$", re.MULTILINE
)
#: Git (LC_ALL=C) of a header that is no signature that it knows.
_NO_KIND: Final = "fatal: bad/incompatible signature"
_NOT_ALLOWED: Final = "CommitterNotAllowed"
#: LIMIT(unix): a socket's path has 107 bytes, of which gpg's own names need twenty.
_LONGEST_HOME: Final = 70


@dataclass(frozen=True, slots=True)
class _Refused(Exception):
    """A commit does not satisfy the demands."""

    reason: str
    message: str
    help: str = ""


def verify(
    store: Store, commit: str, *, applied: str, demands: Demands, scratch: Path, now: datetime
) -> Verdict:
    """Look at the commits that would come into force.

    Args:
        store: holds them.
        commit: full id of the newest.
        applied: full id of the one in force; empty, or one that the store does not hold, for none.
        demands: of the server's configuration.
        scratch: a folder of this call's own; removed at its end.
        now: the machine's time, which gpg goes by too.

    Raises:
        GitFailed: git could not tell.
    """
    mode = demands.signatures
    if not demands.any:
        return Verdict(signatures=mode)
    shutil.rmtree(scratch, ignore_errors=True)
    home = _home(scratch)
    try:
        verifier = _Verifier(store, demands, scratch, home / "gnupg", now)
        return _verified(store, commit, applied, verifier)
    except StoreUnreadable as error:
        return Verdict(signatures=mode, reason=UNREADABLE, message=error.message, help=error.help)
    except _Refused as no:
        return Verdict(signatures=mode, reason=no.reason, message=no.message, help=no.help)
    finally:
        for folder in (scratch, home):
            shutil.rmtree(folder, ignore_errors=True)


def _home(scratch: Path) -> Path:
    """Return where gpg is at home; elsewhere if the path is long, as sockets in it need a name."""
    if len(os.fsencode(scratch)) <= _LONGEST_HOME:
        return scratch
    return Path(tempfile.mkdtemp(prefix="mergescale-"))


class _Verifier:
    """Asks git of one commit after the other, with the trust store in `scratch` and `home`."""

    def __init__(
        self, store: Store, demands: Demands, scratch: Path, home: Path, now: datetime
    ) -> None:
        self._store = store
        self.demands = demands
        self._trusted = TrustStore.load(demands, home)
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        good = [one for one in self._trusted.signers if one.is_good(now)]
        self._today, self._ever = scratch / "signers", scratch / "signers-ever"
        self._today.write_text(written(good))
        self._ever.write_text(written(self._trusted.signers, ever=True))

    def signer(self, made: Made) -> str:
        """Return who signed it, a name and a key.

        Raises:
            _Refused: nobody who is trusted did.
        """
        commit = made.oid
        good, said = self._ask(commit, self._today)
        if _GPG_WORD.search(said) and not said.startswith(_NO_KIND):
            return self._of_gpg(commit, said, good=good)
        if good and (found := _SSH_GOOD.search(said)):
            return f"{_line(found['who'])} ({found['key']})"
        if made.certified:
            raise _Refused(
                "UntrustedKey",
                f"commit {commit[:12]} is signed with an X.509 certificate, which is not verified",
                "sign it with an ssh or gpg key that the server's configuration names",
            )
        raise self._ssh_refusal(commit, said)

    def _of_gpg(self, commit: str, said: str, *, good: bool) -> str:
        words = {one["word"] for one in _GPG_WORD.finditer(said)}
        who, valid = _GPG_GOOD.search(said), _GPG_VALID.search(said)
        trusted = {one.fingerprint for one in self._trusted.keys}
        if good and who and valid and valid["primary"] in trusted:
            return f"{_line(who['who'])} ({valid['primary']})"
        if words & {"REVKEYSIG"}:
            raise _stranger(commit, "by a key that was revoked")
        if words & {"EXPKEYSIG", "EXPSIG"}:
            raise _expired(commit)
        if words & {"BADSIG"}:
            raise _broken(commit)
        raise _stranger(commit)

    def _ssh_refusal(self, commit: str, said: str) -> _Refused:
        if not said.strip():
            return _Refused(
                "Unsigned",
                f"commit {commit[:12]} is not signed",
                "sign it with a key that the server's configuration names",
            )
        if said.startswith(_NO_KIND) or _SSH_BROKEN.search(said):
            return _broken(commit)
        if not _SSH_STRANGER.search(said):
            return _broken(commit)
        good, _ = self._ask(commit, self._ever)
        return _expired(commit) if good else _stranger(commit)

    def _ask(self, commit: str, signers: Path) -> tuple[bool, str]:
        status, said = self._store.verified(
            commit, signers=signers, environment=environment(self._trusted.home)
        )
        if status in {0, 1} or said.startswith(_NO_KIND):
            return status == 0, said
        raise GitFailed(said, status)


def _verified(store: Store, commit: str, applied: str, verifier: _Verifier) -> Verdict:
    demands = verifier.demands
    mode = demands.signatures
    first = not (applied and store.holds(applied))
    strict = mode is Signatures.STRICT and commit != applied and not first
    made = store.made(commit, since=applied if strict else None, most=MAX_COMMITS + 1)
    # What the one in force follows from is in its history, and is asked of by itself.
    made = made or store.made(commit, since=None, most=1)
    if len(made) > MAX_COMMITS:
        raise _Refused(
            "TooManyCommits",
            f"more than {MAX_COMMITS} commits since the one in force",
            "move the branch in smaller steps",
        )
    for one in made:
        _admitted(one, demands)
    by: Sequence[str] = ()
    if mode is not Signatures.OFF:
        by = [verifier.signer(one) for one in made]
    return Verdict(
        signatures=mode,
        by=tuple(dict.fromkeys(by)),
        commits=len(made),
        first=first,
    )


def _admitted(made: Made, demands: Demands) -> None:
    lists = (("committer", demands.committers, made.committer),)
    for role, allowed, email in (*lists, ("author", demands.authors, made.author)):
        if allowed and not admits(allowed, email):
            raise _Refused(
                _NOT_ALLOWED,
                f'the {role} of commit {made.oid[:12]}, "{_line(email)}", is not on the list',
                f"the server's configuration says who may be {role}",
            )


def _stranger(commit: str, whose: str = "by a key that is not trusted") -> _Refused:
    return _Refused(
        "UntrustedKey",
        f"commit {commit[:12]} is signed {whose}",
        "keys are trusted by the server's configuration only",
    )


def _expired(commit: str) -> _Refused:
    return _Refused(
        "ExpiredKey",
        f"commit {commit[:12]} is signed by a key that has expired or is not valid yet",
        "sign it again with a key that is good today",
    )


def _broken(commit: str) -> _Refused:
    message = f"the signature of commit {commit[:12]} is not one of that commit"
    return _Refused("BadSignature", message, "sign the commit again")


def _line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)[:200]

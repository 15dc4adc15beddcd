"""What the server trusts, read from its own files: SSH signers, and OpenPGP keys in a home of gpg.

The home is made for one verification and thrown away. No agent is started for it, nothing is
looked up in the network, and nobody's own keys are seen.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from mergescale.gitops.trust.allowed_signers import NotSigners, Signer, parse
from mergescale.gitops.trust.demands import MAX_STORE_BYTES, Demands
from mergescale.kernel.errors import MergescaleError

_GPG_S: Final = 20.0
_CONF: Final = """\
no-autostart
disable-dirmngr
no-auto-key-retrieve
no-auto-key-locate
"""
_ARMOUR_BEGIN: Final = re.compile(rb"^-----BEGIN PGP ", re.MULTILINE)
_ARMOUR: Final = re.compile(
    rb"^-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n.*?^-----END PGP PUBLIC KEY BLOCK-----[^\n]*\n?",
    re.MULTILINE | re.DOTALL,
)
#: SPEC(gnupg doc/DETAILS): field 2 of a key that must not be used any more.
_ENDED: Final = {"e": "expired", "r": "revoked", "i": "invalid", "d": "disabled"}


class StoreUnreadable(MergescaleError):
    """Raised when a file of keys is missing or is not one."""

    code = "gitops.trust-unreadable"


@dataclass(frozen=True, slots=True)
class GpgKey:
    """One primary key.

    Attributes:
        fingerprint: 40 or 64 hex digits.
        ended: why it is no good any more, one word; empty if it is good.
    """

    fingerprint: str
    ended: str


@dataclass(frozen=True, slots=True)
class TrustStore:
    """What is trusted.

    Attributes:
        home: gpg's; holds `keys`.
    """

    home: Path
    signers: tuple[Signer, ...] = ()
    keys: tuple[GpgKey, ...] = ()

    @classmethod
    def load(cls, demands: Demands, home: Path) -> TrustStore:
        """Read the files that the demands name.

        Args:
            demands: name the files.
            home: an empty folder, or one that is not there yet.

        Raises:
            StoreUnreadable: a file, or the program that reads its signatures, is not there or is
                no good.
        """
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (home / "gpg.conf").write_text(_CONF)
        # So that gpg 2.4 keeps them in a file instead of asking a daemon.
        (home / "common.conf").write_text("")
        signers = _signers(Path(demands.ssh_signers)) if demands.ssh_signers else ()
        keys = _keys(Path(demands.gpg_keys), home) if demands.gpg_keys else ()
        return cls(home, signers, keys)


def examined(demands: Demands, now: datetime) -> str:
    """Say what is trusted, as one line for people; nothing is kept.

    Raises:
        StoreUnreadable: a file, or a program, is missing or no good.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = TrustStore.load(demands, Path(folder) / "gnupg")
    ended = sum(not one.is_good(now) for one in store.signers)
    ended += sum(bool(one.ended) for one in store.keys)
    parts = [f"signatures {demands.signatures}"]
    parts += [f"{len(store.signers)} ssh signers"] if demands.ssh_signers else []
    parts += [f"{len(store.keys)} gpg keys"] if demands.gpg_keys else []
    parts += [f"{ended} of them not good today"] if ended else []
    for role, allowed in (("committers", demands.committers), ("authors", demands.authors)):
        parts += [f"{role}: {', '.join(allowed)}"] if allowed else []
    return ", ".join(parts)


def environment(home: Path) -> Mapping[str, str]:
    """Return the variables that make gpg use this home only."""
    return {"GNUPGHOME": str(home), "HOME": str(home), "LC_ALL": "C"}


def _signers(path: Path) -> tuple[Signer, ...]:
    _needs("ssh-keygen", "OpenSSH's client")
    what = "allowed signers"
    try:
        return parse(_read(path, what).decode("utf-8"))
    except UnicodeDecodeError:
        raise StoreUnreadable(f'the file of {what} "{path}" is not text') from None
    except NotSigners as error:
        raise StoreUnreadable(
            f'the file of {what} "{path}" is not read: {error}',
            help="a line is: ana@example.com ssh-ed25519 AAAA…",
        ) from None


def _keys(path: Path, home: Path) -> tuple[GpgKey, ...]:
    _needs("gpg", "GnuPG")
    if any(_gpg(home, "--import", stdin=one) is None for one in _blocks(_read(path, "gpg keys"))):
        raise StoreUnreadable(
            f'gpg does not read the keys in "{path}"',
            help="write it with `gpg --export --armor KEY…`",
        )
    listing = _gpg(home, "--with-colons", "--fixed-list-mode", "--list-keys") or b""
    found = tuple(_listed(listing.decode(errors="replace")))
    if not found:
        raise StoreUnreadable(f'the file of gpg keys "{path}" holds none')
    return found


def _blocks(held: bytes) -> list[bytes]:
    """Return armoured keys and revocations one by one: gpg ends a file's reading after some."""
    begun = len(_ARMOUR_BEGIN.findall(held))
    found = _ARMOUR.findall(held)
    # What has a beginning and no end is for gpg to complain about.
    return found if begun and begun == len(found) else [held]


def _listed(listing: str) -> Iterator[GpgKey]:
    """Read ``gpg --with-colons``: a line for a primary key, then one with its fingerprint."""
    ended: str | None = None
    for line in listing.splitlines():
        fields = line.split(":")
        if fields[0] == "pub":
            ended = _ENDED.get(fields[1], "")
        elif fields[0] == "fpr" and ended is not None:
            yield GpgKey(fields[9], ended)
            ended = None


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            held = file.read(MAX_STORE_BYTES + 1)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise StoreUnreadable(
            f'the file of {what} "{path}" cannot be read: {why}',
            help="until it can no commit comes into force; what is in force stays",
        ) from None
    if len(held) > MAX_STORE_BYTES:
        raise StoreUnreadable(f'the file of {what} "{path}" has more than {MAX_STORE_BYTES} bytes')
    return held


def _gpg(home: Path, *words: str, stdin: bytes = b"") -> bytes | None:
    """Run gpg; return what it printed, None when it was not content."""
    try:
        done = subprocess.run(
            ["gpg", "--batch", "--no-tty", "--quiet", *words],
            input=stdin,
            capture_output=True,
            env={"PATH": os.environ.get("PATH", os.defpath), **environment(home)},
            timeout=_GPG_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _needs(program: str, package: str) -> None:
    if shutil.which(program) is None:
        message = f"the program {program} was not found"
        raise StoreUnreadable(message, help=f"install {package} on the server")

"""How a credential reaches git in the child process, and how nothing of it stays behind.

It comes with the request on stdin, so it is in no argument vector and in no log. Git gets a token as
a header in its environment, which names the one URL that it is for:

    GIT_CONFIG_KEY_0    http.<url>.extraHeader
    GIT_CONFIG_VALUE_0  Authorization: Basic …

and ssh gets a key in a file, since it takes one in no other way. The file lies in a folder of its
own, which is removed after the look, by the server if the worker was killed, and at the next start
if the server was killed too.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import msgspec

_KEY: Final = "key"
_HOSTS: Final = "known_hosts"
#: SPEC(git GIT_SSH_COMMAND): a shell runs it and appends the arguments. The folder comes in by a
#: variable, because ssh reads quotes, ``%`` and ``$`` in the names of its files in ways of its own.
_SSH_COMMAND: Final = (
    f'cd "$MERGESCALE_ACCESS" && exec ssh -F /dev/null -i ./{_KEY}'
    f" -oUserKnownHostsFile=./{_HOSTS} -oGlobalKnownHostsFile=/dev/null -oUpdateHostKeys=no"
    " -oStrictHostKeyChecking=yes -oIdentitiesOnly=yes -oIdentityAgent=none"
    " -oPreferredAuthentications=publickey -oBatchMode=yes -oForwardAgent=no"
    " -oClearAllForwardings=yes -oPermitLocalCommand=no -oControlPath=none"
    " -oConnectTimeout=10 -oServerAliveInterval=10 -oServerAliveCountMax=2"
)


class Access(msgspec.Struct, frozen=True, omit_defaults=True):
    """What git may use for one look.

    Attributes:
        header: ``Authorization: …`` for the repository's https address; empty for none.
        ca_file: certificates of authorities that https believes instead of the system's.
        key: a private key in OpenSSH's format; empty: ssh uses what the account has.
        known_hosts: lines; the only host keys that are believed beside `key`.
    """

    header: str = ""
    ca_file: str = ""
    key: str = ""
    known_hosts: str = ""

    def __repr__(self) -> str:
        return "<Access>"


class Lender(Protocol):
    """Knows what opens the repository; `keeper.Keeper` is the real one."""

    async def access(self) -> Access:
        """Return what git may use for the next look.

        Raises:
            ReconcileError: it cannot be had.
        """
        ...

    def refused(self) -> None:
        """Note that the repository did not accept it."""
        ...


def folder_of(store: Path) -> Path:
    """Return where what git needs in files lies during a look, beside the store."""
    return store.with_suffix(".access")


@contextmanager
def lent(access: Access, url: str, folder: Path) -> Iterator[dict[str, str]]:
    """Return the variables that make git use it; take away what lies in the folder afterwards.

    Args:
        access: what came with the request.
        url: of the repository; nothing is sent to another one.
        folder: of our own; removed at the end, and what a killed worker left in it before.

    Raises:
        OSError: the folder cannot be written.
    """
    cleared(folder)
    try:
        yield _configured(access, url) | (_with_key(access, folder) if access.key else {})
    finally:
        cleared(folder)


def cleared(folder: Path) -> None:
    """Remove whatever somebody who was killed left there."""
    shutil.rmtree(folder, ignore_errors=True)


def _configured(access: Access, url: str) -> dict[str, str]:
    """Return configuration that is in no file and no argument (git-config GIT_CONFIG_COUNT)."""
    pairs = [
        (f"http.{url}.{name}", value)
        for name, value in (("extraHeader", access.header), ("sslCAInfo", access.ca_file))
        if value
    ]
    if not pairs:
        return {}
    variables = {"GIT_CONFIG_COUNT": str(len(pairs))}
    for number, (key, value) in enumerate(pairs):
        variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return variables


def _with_key(access: Access, folder: Path) -> dict[str, str]:
    folder.mkdir(mode=0o700, parents=True)
    for name, text in ((_KEY, access.key), (_HOSTS, access.known_hosts)):
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    return {"GIT_SSH_COMMAND": _SSH_COMMAND, "MERGESCALE_ACCESS": str(folder)}

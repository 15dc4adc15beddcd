"""Which repository to follow: the grammar of URLs, refs and folders.

Our own parser, because git and GitPython read options, transports (``ext::``) and environment
variables into such texts. What passes here is handed to git as one literal argument.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mergescale.gitops.git.limits import Limits
from mergescale.gitops.git.revisions import Followed
from mergescale.kernel.errors import Invalid

#: LIMIT: what forges accept for a URL.
_LONGEST = 1024
#: A local ref is looked at by stat, so often is cheap.
LOCAL_POLL_S: Final = 0.25
REMOTE_POLL_S: Final = 30.0
DEFAULT_TIMEOUT_S: Final = 60.0

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?"
_USER = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_SCP = re.compile(
    rf"(?!(?:file|git|ssh|https?|ftps?):)(?:{_USER}@)?{_HOST}:[A-Za-z0-9_~./][A-Za-z0-9_~./+-]*"
)
_SSH = re.compile(rf"ssh://(?:{_USER}@)?{_HOST}(?::[0-9]{{1,5}})?/[A-Za-z0-9_~./+-]+")
#: What is spelled out stays so, but control characters have no place in an address at all.
_HTTPS = re.compile(
    rf"https://{_HOST}(?::[0-9]{{1,5}})?/(?:[A-Za-z0-9_~./+-]|%(?![01]|7[Ff])[0-9A-Fa-f]{{2}})+"
)
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):")
_FOLDER = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._/-]*")


class Transport(StrEnum):
    """How git reaches the repository; also the word in ``GIT_ALLOW_PROTOCOL``."""

    HTTPS = "https"
    SSH = "ssh"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Source:
    """What of a repository is followed and a folder in it; make one with `parse`.

    Attributes:
        url: what git is given: an https or ssh URL, or an absolute path.
        followed: a branch, a tag, a range of versions or a commit.
        folder: path of the watched folder inside the repository; empty for its root.
        poll_s: pause between two looks.
        timeout_s: after that many seconds a fetch is killed.
        limits: how much of it is accepted.
    """

    url: str = field(repr=False)
    transport: Transport
    followed: Followed
    folder: str
    poll_s: float
    timeout_s: float
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def parse(
        cls,
        url: str,
        *,
        ref: str | Followed = "main",
        folder: str = "",
        poll_s: float | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        limits: Limits | None = None,
    ) -> Source:
        """Check the configuration's words.

        Args:
            url: ``https://…``, ``ssh://…``, ``user@host:path``, ``file:///…`` or a path that
                starts with ``/`` or ``.``.
            ref: a branch, any full name below ``refs/``, or what `Followed.parse` made.
            folder: path of the watched folder inside the repository.
            poll_s: `LOCAL_POLL_S` or `REMOTE_POLL_S` when not said.
            timeout_s: wall clock of one fetch.
            limits: the usual ones when not said.

        Raises:
            Invalid: one of them is not acceptable; credentials are not echoed.
        """
        transport, place = _place(url)
        default_s = LOCAL_POLL_S if transport is Transport.FILE else REMOTE_POLL_S
        chosen_s = default_s if poll_s is None else poll_s
        if not 0 < chosen_s <= 86_400 or not 0 < timeout_s <= 3_600:
            raise Invalid("a poll interval is at most a day and a time limit at most an hour")
        followed = ref if isinstance(ref, Followed) else Followed.parse(branch=ref)
        plain = _folder(folder)
        return cls(place, transport, followed, plain, chosen_s, timeout_s, limits or Limits())

    @property
    def local(self) -> Path | None:
        """Path of a repository on this machine, None for the others."""
        return Path(self.url) if self.transport is Transport.FILE else None

    @property
    def display(self) -> str:
        """Return what people are shown; `parse` let no secret in."""
        return self.url

    @property
    def branch(self) -> str:
        """What is followed, as people say it."""
        return self.followed.name


def _place(url: str) -> tuple[Transport, str]:
    """Return how git reaches the repository and what it is given as its name."""
    if not url or len(url) > _LONGEST or not url.isprintable() or url != url.strip():
        raise Invalid("the repository's address is empty, too long or not printable")
    if url.startswith(("/", "./", "../")) or url in {".", ".."}:
        return Transport.FILE, str(Path(url).absolute())
    if url.lower().startswith("file://"):
        path = url[len("file://") :]
        if not path.startswith("/") or "%" in path or "?" in path:
            raise Invalid("a file URL is file:// and an absolute path")
        return Transport.FILE, path
    if _HTTPS.fullmatch(url):
        return Transport.HTTPS, url
    if _SSH.fullmatch(url) or ("://" not in url and "::" not in url and _SCP.fullmatch(url)):
        return Transport.SSH, url
    raise _refused(url)


def _refused(url: str) -> Invalid:
    """Say why an address is not accepted, without repeating what may be a secret."""
    if url.lower().startswith("https://"):
        if "@" in urlsplit(url).netloc:
            return Invalid(
                "an https address holds no user name or password",
                help="leave it out, and set a token: mergescale gitops credential set",
            )
        return Invalid("the https address has no path or holds characters that are not accepted")
    if url.lower().startswith("ssh://"):
        return Invalid(
            "the ssh address has no path or holds characters that are not accepted",
            help="it is ssh://user@host/path; the server's credential opens it",
        )
    found = _SCHEME.match(url)
    if found and ("://" in url or "::" in url):
        return Invalid(
            f"repositories are not fetched over `{found['scheme'].lower()[:20]}`",
            help="use https://, ssh://, user@host:path or an absolute path",
        )
    return Invalid(
        "the repository's address is neither an https or ssh address nor a path",
        help="a path starts with / or ./; variables and ~ are not expanded",
    )


def _folder(folder: str) -> str:
    """Return the folder without slashes at its ends."""
    if folder.strip("/") in {"", "."}:
        return ""
    plain = folder.rstrip("/").removeprefix("./")
    parts = plain.split("/")
    if not _FOLDER.fullmatch(plain) or any(part in {"", ".", "..", ".git"} for part in parts):
        raise Invalid("the folder inside the repository is a plain relative path")
    return plain

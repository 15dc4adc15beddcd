"""Where a forge's API is and what the project is called there, from configuration only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Final
from urllib.parse import quote, urlsplit

from mergescale.gitops.credentials import installations
from mergescale.gitops.git.source import Source, Transport
from mergescale.kernel.errors import Invalid


class Kind(StrEnum):
    """The forges whose APIs are spoken."""

    GITHUB = "github"
    GITLAB = "gitlab"
    GITEA = "gitea"
    FORGEJO = "forgejo"


_PATHS: Final = {Kind.GITLAB: "/api/v4", Kind.GITEA: "/api/v1", Kind.FORGEJO: "/api/v1"}
_SCP: Final = re.compile(r"(?:[^@/]+@)?(?P<host>[^:/]+):(?P<path>.+)")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
#: LIMIT: GitLab nests groups at most twenty deep.
_DEEPEST: Final = 21


@dataclass(frozen=True, slots=True)
class ForgePlace:
    """A project on a forge; make one with `parse`.

    Attributes:
        api_url: where the API begins, without a slash at the end.
        project: its full name, e.g. ``team/policy``.
    """

    kind: Kind
    api_url: str
    project: str

    @classmethod
    def parse(
        cls, kind: Kind, source: Source, *, api_url: str = "", project: str = "", loopback: bool
    ) -> ForgePlace:
        """Take what the configuration says, and for the rest what the repository's URL says.

        Args:
            kind: which forge.
            source: the watched repository.
            api_url: empty for that of the repository's host.
            project: empty for the path of the repository's URL.
            loopback: let ``http://`` to this machine pass.

        Raises:
            Invalid: it is not said where, or not over https.
        """
        host, path = _told(source)
        if not host and not (api_url and project):
            raise Invalid(
                "a repository on this machine says nothing of its forge",
                help="set forge.api_url and forge.project",
            )
        return cls(
            kind,
            _checked(api_url, loopback=loopback) if api_url else _api(kind, host),
            _project(kind, project or path),
        )

    @property
    def quoted(self) -> str:
        """The project as one segment of a path."""
        return quote(self.project, safe="")


def _told(source: Source) -> tuple[str, str]:
    """Return host (with the port of https) and path of a repository's URL."""
    match source.transport:
        case Transport.HTTPS:
            parts = urlsplit(source.url)
            return parts.netloc.lower(), parts.path
        case Transport.SSH if source.url.startswith("ssh://"):
            parts = urlsplit(source.url)
            return (parts.hostname or "").lower(), parts.path
        case Transport.SSH:
            found = _SCP.fullmatch(source.url)
            return (found["host"].lower(), found["path"]) if found else ("", "")
        case _:
            return "", ""


def _api(kind: Kind, host: str) -> str:
    return installations.api_url(host) if kind is Kind.GITHUB else f"https://{host}{_PATHS[kind]}"


def _checked(url: str, *, loopback: bool) -> str:
    parts = urlsplit(url)
    if not parts.hostname or parts.username or parts.password or parts.query or parts.fragment:
        raise Invalid("forge.api_url is an https address without user name, query and fragment")
    if parts.scheme == "https" or (
        parts.scheme == "http" and loopback and _is_loopback(parts.hostname)
    ):
        return url.rstrip("/")
    raise Invalid(
        "forge.api_url is not an https address",
        help="a token is not sent in the clear; forge.loopback_http lets this machine pass",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _project(kind: Kind, path: str) -> str:
    plain = path.strip("/").removeprefix("~/").removesuffix(".git").strip("/")
    segments = plain.split("/")
    deepest = _DEEPEST if kind is Kind.GITLAB else 2
    odd = any(not _SEGMENT.fullmatch(one) or ".." in one for one in segments)
    if odd or not 2 <= len(segments) <= deepest:
        raise Invalid(
            "the forge's project is not a name like owner/repository",
            help="set forge.project",
        )
    return plain

"""Lines of OpenSSH's ``known_hosts``: the only way that an ssh server is known by.

[@cert-authority|@revoked] <names, patterns or |1|hash> <key type> <base64> [comment]
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final
from urllib.parse import urlsplit

from mergescale.gitops.credentials.privatekeys import LONGEST_KEY, fingerprint
from mergescale.gitops.git.source import Source
from mergescale.kernel.errors import Invalid

_MAX_HOST_KEYS: Final = 32
_SSH_PORT: Final = 22
_HOST_KEY: Final = re.compile(
    r"(?:(?P<marker>@cert-authority|@revoked)[ \t]+)?(?P<hosts>[!-~]+)[ \t]+"
    r"(?P<type>[a-z0-9@.-]+)[ \t]+(?P<key>[A-Za-z0-9+/]+={0,2})(?:[ \t][ -~\t]*)?"
)
#: Host keys that OpenSSH accepts today; it has given up DSA.
_HOST_KEY_TYPES: Final = frozenset(
    {
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)


def checked_hosts(known_hosts: str, source: Source) -> str:
    """Return lines of ``known_hosts`` without comments and empty lines.

    Raises:
        Invalid: they are none, or none of them is the repository's host's.
    """
    lines = [line.strip() for line in known_hosts.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines or len(lines) > _MAX_HOST_KEYS or len(known_hosts) > LONGEST_KEY:
        raise Invalid(
            "knownHosts has no lines of the ssh host, or too many",
            help="the forge publishes its host keys; ssh-keyscan HOST prints what you then compare",
        )
    found = [_HOST_KEY.fullmatch(line) for line in lines]
    for number, match in enumerate(found, 1):
        if match is None or not _is_host_key(match):
            raise Invalid(
                f"knownHosts: line {number} is no line of known_hosts",
                help="each is host names, key type and key; DSA keys are not accepted",
            )
    names = _host_names(source)
    good = (match for match in found if match is not None and match["marker"] != "@revoked")
    if not any(_is_for(match["hosts"], names) for match in good):
        raise Invalid(
            "knownHosts has no line of the repository's host",
            help=f"a line for it begins with {names[0]}",
        )
    return "\n".join(lines) + "\n"


def told(known_hosts: str) -> list[str]:
    """Return what people compare: names, type and fingerprint of each line."""
    return [_told(line) for line in known_hosts.splitlines()]


def _is_host_key(match: re.Match[str]) -> bool:
    """Say whether the key is one of the type that the line says."""
    if match["type"] not in _HOST_KEY_TYPES:
        return False
    try:
        raw = base64.b64decode(match["key"], validate=True)
    except binascii.Error:
        return False
    size = int.from_bytes(raw[:4], "big")
    return raw[4 : 4 + size] == match["type"].encode()


def _host_names(source: Source) -> tuple[str, ...]:
    """Return the names under which OpenSSH looks for the host, the usual one first."""
    if source.url.startswith("ssh://"):
        parts = urlsplit(source.url)
        host, port = parts.hostname or "", parts.port or _SSH_PORT
    else:
        host, port = source.url.split(":", 1)[0].rpartition("@")[2].lower(), _SSH_PORT
    return (host,) if port == _SSH_PORT else (f"[{host}]:{port}", host)


def _is_for(hosts: str, names: tuple[str, ...]) -> bool:
    """Say whether a line may be for one of the names; a hashed one may be for anybody."""
    if hosts.startswith("|1|"):
        return True
    return any(
        re.fullmatch(re.escape(pattern.lower()).replace(r"\*", ".*").replace(r"\?", "."), name)
        for pattern in hosts.split(",")
        for name in names
        if not pattern.startswith("!")
    )


def _told(line: str) -> str:
    """Return what is told of a line: names, type and fingerprint."""
    match = _HOST_KEY.fullmatch(line)
    if match is None:
        return ""
    marker = f"{match['marker']} " if match["marker"] else ""
    key = base64.b64decode(match["key"])
    return f"{marker}{match['hosts']} {match['type']} {fingerprint(key)}"

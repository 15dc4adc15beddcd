"""What git, and whatever git starts, is told whatever it is asked: configuration and environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

#: Configuration of every call. No hook, filter, helper or transport of anybody else is ever run.
HARDENED: Final[tuple[str, ...]] = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.askPass=",
    "credential.helper=",
    "fetch.fsckObjects=true",
    "transfer.fsckObjects=true",
    # Always a pack: its size is bounded while it grows, and it is moved as a whole.
    "fetch.unpackLimit=1",
    "transfer.unpackLimit=1",
    # No object is streamed past the limit on what is allocated.
    "core.bigFileThreshold=1024g",
    "fetch.recurseSubmodules=false",
    "fetch.writeCommitGraph=false",
    "submodule.recurse=false",
    "http.followRedirects=false",
    # Whichever curl there is: of HTTP/2 it traces headers in ways that some git does not redact.
    "http.version=HTTP/1.1",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=20",
    "gc.auto=0",
    "gc.autoDetach=false",
    "gc.packRefs=false",
    "maintenance.auto=false",
    "maintenance.autoDetach=false",
    # Of files that were removed and added in a pull request, each is compared with each.
    "merge.renameLimit=1000",
    "pack.threads=1",
    "pack.windowMemory=64m",
    "protocol.allow=never",
    "protocol.version=2",
    "safe.bareRepository=explicit",
)
#: Signatures are verified by these programs and by no other, whatever they are made with.
VERIFYING: Final[tuple[str, ...]] = (
    "gpg.program=gpg",
    "gpg.openpgp.program=gpg",
    "gpg.ssh.program=ssh-keygen",
    "gpg.x509.program=false",
    "gpg.minTrustLevel=undefined",
)


def child_environment(scratch: Path, transport: str, url: str) -> Mapping[str, str]:
    """Return the variables that git, and what git starts, may see besides PATH.

    Args:
        scratch: an empty folder; becomes HOME and holds git's only configuration file.
        transport: the one protocol that is let through.
        url: a local repository may belong to another account; configuration names it, so it is
            trusted to be read (git-config safe.directory).
    """
    config = scratch / "gitconfig"
    lines = ["[safe]"]
    if transport == "file":
        quoted = url.replace("\\", "\\\\").replace('"', '\\"')
        lines += [f'\tdirectory = "{quoted}"', f'\tdirectory = "{quoted}/.git"']
    config.write_text("\n".join(lines) + "\n")
    return {
        "HOME": str(scratch),
        "LC_ALL": "C",
        "TZ": "UTC",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(config),
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": transport,
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_SSH_COMMAND": "ssh -F /dev/null -oBatchMode=yes -oStrictHostKeyChecking=yes"
        " -oForwardAgent=no -oClearAllForwardings=yes -oPermitLocalCommand=no -oConnectTimeout=10",
        "GIT_SSH_VARIANT": "ssh",
    }

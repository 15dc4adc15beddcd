"""What happens once in the life of a server: the administrator token, and words on how to go on."""

from __future__ import annotations

import os
from pathlib import Path

from mergescale.identity.secrets import MINT_BYTES, Kind, Minted, mint
from mergescale.kernel.clock import Entropy
from mergescale.kernel.errors import MergescaleError
from mergescale.kernel.ids import ApiKeyId
from mergescale.server.settings import Settings
from mergescale.server.watched import followed
from mergescale.state import apikeys
from mergescale.state.engine import Engine


class TokenFileFailed(MergescaleError):
    """Raised when the administrator token could not be kept; the server does not start."""

    code = "server.token-file"


async def ensure_administrator(engine: Engine, settings: Settings, entropy: Entropy) -> bool:
    """Make the administrator token if the tailnet has no token at all; return whether it did.

    That is the case at the first start, and again after the last token was deleted: whoever can
    restart the server and read its files is an administrator anyway.

    The file is durable before the token opens anything, so a crash between the two leaves a file
    that opens nothing and is written anew, never a token that nobody knows.
    """
    if any(not key.is_client for key in engine.snapshot.api_keys.values()):
        return False
    minted = mint(Kind.API, entropy.bytes(MINT_BYTES))
    _keep(settings.admin_token_file, minted)
    description = "administrator, made at the first start"
    key_id = ApiKeyId(minted.id)
    await engine.apply(apikeys.create(key_id, minted.secret_hash, description, life=None))
    return True


def _keep(path: Path, minted: Minted) -> None:
    """Write the token where only this user can read it."""
    fresh = path.with_suffix(".new")
    try:
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(minted.text + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise TokenFileFailed(
            f'the administrator token could not be written to "{path}": {error.strerror}'
        ) from error


def greeting(settings: Settings, url: str, *, first: bool) -> str:
    """Return what ``serve`` prints once it is up."""
    watched = [
        f"  {name:<11}{repository.url} ({followed(repository)})"
        for name, repository in settings.repositories.items()
        if repository is not None
    ]
    lines = [f"Mergescale serves {url}"]
    if watched:
        lines += ["Watched repositories:", *watched]
    else:
        lines.append(_BY_API if settings.policy_by_api else _NO_REPOSITORY)
    if first:
        lines.append(_JOIN.format(url=url, token=settings.admin_token_file))
    return "\n".join(lines)


_NO_REPOSITORY = """\
No repository is watched, so nobody reaches anybody. Make one out of an example, and say where it is:

  cp -r policy_examples/01-start-up ~/policy && git -C ~/policy init -b main
  git -C ~/policy add -A && git -C ~/policy commit -m "a first policy"
  MERGESCALE_REPOSITORY=~/policy make serve"""

_BY_API = """\
No repository is watched: the policy is set with POST /api/v2/tailnet/-/acl, as gitops-pusher does."""

_JOIN = """\
An administrator token was written to {token} (only this user can read it).
Join a device, from another terminal in this folder:

  mergescale users create you@example.com         unless users.hujson names you
  mergescale authkeys create --user you@example.com
  tailscale up --login-server={url} --auth-key=mskey-auth-…

or without a key, approved by hand:

  tailscale up --login-server={url}
  mergescale auth approve <id> --user you@example.com"""

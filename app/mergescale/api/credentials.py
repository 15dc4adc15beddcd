"""The credential of the watched repository: goes in, is described, never comes out.

An extension in the style of the rest. Looking takes `all:read`, everything else `all`: a client that
may change policies must not be able to choose what the server shows to another host.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from litestar import delete, get, post, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from mergescale.api.callers import Caller, needs
from mergescale.api.openapi import Nothing
from mergescale.api.watched import ACTS, LOOKS, PATH, repository_of
from mergescale.domain.scopes import Scope
from mergescale.kernel.errors import NotFound

_PATH: Final = f"{PATH}/credential"
_Text = Annotated[str, msgspec.Meta(max_length=32 << 10)]


class SetCredential(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What opens the repository; which members there are depends on `kind`.

    Attributes:
        kind: `token` and `github-app` for an https address, `ssh` for an ssh one.
        user: with `token`; forges that look at the token alone take any.
        token: with `token`.
        app_id: with `github-app`.
        installation_id: with `github-app`.
        private_key: with `github-app` and `ssh`; PEM or OpenSSH, without passphrase.
        known_hosts: with `ssh`: lines of `known_hosts`, the only host keys that are believed.
    """

    # Not a choice of three: the decoder would repeat what somebody pasted into the wrong place.
    kind: Annotated[str, msgspec.Meta(max_length=20)]
    user: Annotated[str, msgspec.Meta(max_length=255)] = ""
    token: _Text = ""
    app_id: Annotated[int, msgspec.Meta(ge=0, lt=2**53)] = 0
    installation_id: Annotated[int, msgspec.Meta(ge=0, lt=2**53)] = 0
    private_key: _Text = ""
    known_hosts: _Text = ""

    def __repr__(self) -> str:
        return "<SetCredential>"


class MakeDeployKey(msgspec.Struct, frozen=True, rename="camel"):
    """The ssh host's keys; those that go with the deploy key there is if it is empty."""

    known_hosts: _Text = ""


@get(_PATH, **{**LOOKS, "opt": needs(Scope.ALL_READ)})
async def get_credential(caller: Caller) -> dict[str, Any]:
    """Show the kind, fingerprint, age and address of the repository's credential.

    `kind` is null where there is none. The public half of a deploy key is `publicKey`.
    """
    return await repository_of(caller).credential.about()


@put(_PATH, **ACTS)
async def set_credential(caller: Caller, data: JSONBody[SetCredential]) -> dict[str, Any]:
    """Keep what opens the repository; the next look uses it, and nobody is ever shown it again.

    It is for the address that the repository has now, and forgotten once that is another one.
    """
    words: dict[str, Any] = msgspec.to_builtins(data)
    keeps = repository_of(caller).credential
    return await keeps.put({"kind": data.kind, **words}, by=caller.principal.name)


@delete(_PATH, **ACTS)
async def drop_credential(caller: Caller) -> Nothing:
    """Forget what opens the repository; what is in force stays."""
    if not await repository_of(caller).credential.drop(by=caller.principal.name):
        raise NotFound("this repository has no credential")
    return Nothing()


@post(f"{_PATH}/deploy-key", **ACTS)
async def make_deploy_key(caller: Caller, data: JSONBody[MakeDeployKey]) -> dict[str, Any]:
    """Make a deploy key in the place of the credential there is; answers with its public half.

    The private half never leaves the server. Until the forge knows the public one it refuses the
    server, and what is in force stays.
    """
    keeps = repository_of(caller).credential
    return await keeps.generate(data.known_hosts, by=caller.principal.name)


HANDLERS: Final[list[HTTPRouteHandler]] = [
    get_credential,
    set_credential,
    drop_credential,
    make_deploy_key,
]

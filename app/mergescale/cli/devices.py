"""``--inventory FILE`` or ``--server``: the devices that an offline command asks about."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final

import click

from mergescale.cli.client import Client
from mergescale.cli.errors import CommandFailed
from mergescale.cli.node import label
from mergescale.cli.options import Decorator, given_before, shared_options, tailnet_of
from mergescale.cli.policy_files import STDIN
from mergescale.cli.screen import Screen
from mergescale.cli.target import Given, Url, find

if TYPE_CHECKING:
    from mergescale.netmap.inventory import Inventory

#: LIMIT: bytes of an inventory; 100 000 devices have a tenth of it.
_INVENTORY_BYTES: Final = 256 << 20

_option: Final[Decorator] = click.option(
    "--inventory",
    metavar="FILE",
    help="Users and devices, as `mergescale inventory export` writes them; - for standard input."
    " Else those of the server, if --server or --state-dir name one.",
)


@dataclass(frozen=True, slots=True)
class Devices:
    """Where a command learns which devices there are.

    Attributes:
        given: the shared options.
        file: of ``--inventory``.
    """

    given: Given
    file: str | None

    def read(self, policy: str) -> Inventory | None:
        """Return the devices, None when nobody said where to learn of them.

        Args:
            policy: the path of the policy, which may be standard input as well.

        Raises:
            CommandFailed, Invalid: there is no inventory, or it is not one.
        """
        if self.file is not None:
            if self.file == policy == STDIN:
                raise click.UsageError("only one of PATH and --inventory can be standard input")
            return _file(self.file)
        # The environment alone does not make an offline command ask anybody.
        if self.given.server is None and self.given.state_dir is None:
            return None
        return exported(Client(find(self.given, os.environ), tailnet_of(self.given)))


def about_devices(
    function: Callable[Concatenate[Screen, Devices, ...], None],
) -> Callable[..., None]:
    """Let a command know devices: give it ``--inventory``, all shared options, and `Devices`."""

    @functools.wraps(function)
    @click.pass_context
    def command(
        context: click.Context,
        /,
        output: str | None,
        server: str | None,
        token: str | None,
        tailnet: str | None,
        state_dir: Path | None,
        inventory: str | None,
        **own: Any,
    ) -> None:
        given = Given(output, server, token, tailnet, state_dir).over(given_before(context))
        function(Screen.standard(given.output), Devices(given, inventory), **own)

    return _option(shared_options(command))


def exported(server: Client) -> Inventory:
    """Return the inventory of a server."""
    from mergescale.netmap.inventory import read_inventory

    return read_inventory(as_inventory(server))


def as_inventory(server: Client) -> dict[str, Any]:
    """Ask a server for its users and devices; return the JSON of ``netmap.inventory``."""
    users = server.inside("GET", "users")["users"]
    devices = server.inside("GET", "devices", query={"fields": "all"})["devices"]
    return {
        "server_url": str(server.target) if isinstance(server.target, Url) else "",
        "users": [_user(one) for one in users],
        "nodes": [_node(one) for one in devices],
    }


def _user(user: dict[str, Any]) -> dict[str, Any]:
    told = {"login_name": user["loginName"], "name": user["displayName"], "role": user["role"]}
    return {**told, "suspended": True} if user["status"] == "suspended" else told


def _node(device: dict[str, Any]) -> dict[str, Any]:
    ipv4, ipv6 = device["addresses"]
    owner = {"tags": device["tags"]} if device["tags"] else {"user": device["user"]}
    told = {
        "name": label(device),
        "ipv4": ipv4,
        "ipv6": ipv6,
        **owner,
        "advertised_routes": device["advertisedRoutes"],
        "approved_routes": device["enabledRoutes"],
        "created": device["created"],
        "os": device["os"],
        "client_version": device["clientVersion"],
    }
    return told if device["authorized"] else {**told, "authorized": False}


def _file(path: str) -> Inventory:
    from mergescale.kernel.errors import Invalid
    from mergescale.netmap.inventory import read_inventory

    try:
        if path == STDIN:
            raw = sys.stdin.buffer.read(_INVENTORY_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                raw = file.read(_INVENTORY_BYTES + 1)
    except OSError as error:
        raise CommandFailed(f'"{path}" cannot be read: {error.strerror}') from error
    if len(raw) > _INVENTORY_BYTES:
        raise CommandFailed(f'"{path}" is larger than {_INVENTORY_BYTES >> 20} MiB')
    try:
        return read_inventory(raw)
    except Invalid as error:
        raise CommandFailed(
            f'"{path}": {error.message}', help="`mergescale inventory export` writes one"
        ) from None

"""Settings of a tailnet, as far as Tailscale's API knows them.

Almost all of them are declared in the repository's ``tailnet.hujson``, so none is changed here. The
two of interest say that the policy is managed elsewhere, and where: tools that see them leave it alone.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from litestar import get, patch
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody
from msgspec import UNSET, Struct, UnsetType, structs

from mergescale.api.callers import Authenticated, Caller, needs
from mergescale.api.openapi import ERRORS
from mergescale.domain.scopes import Scope
from mergescale.kernel.errors import Conflict

_PATH: Final = "/tailnet/{tailnet:str}/settings"
_DAY: Final = timedelta(days=1)


class TailnetSettings(Struct, frozen=True, kw_only=True):
    """What holds; the names are Tailscale's.

    Attributes:
        aclsExternallyManagedOn: the policy is in a repository; nothing else changes it.
        aclsExternalLink: the repository, never with credentials; empty for none.
        devicesKeyDurationDays: 0 where keys do not expire.
    """

    aclsExternallyManagedOn: bool  # noqa: N815 - `ACLs…` has no camel case of its own
    aclsExternalLink: str  # noqa: N815
    devicesApprovalOn: bool  # noqa: N815
    devicesAutoUpdatesOn: bool = False  # noqa: N815
    devicesKeyDurationDays: int  # noqa: N815
    usersApprovalOn: bool = False  # noqa: N815
    usersRoleAllowedToJoinExternalTailnets: str = "none"  # noqa: N815
    networkFlowLoggingOn: bool = False  # noqa: N815
    regionalRoutingOn: bool = False  # noqa: N815
    postureIdentityCollectionOn: bool = False  # noqa: N815
    httpsEnabled: bool = False  # noqa: N815


class ChangeSettings(Struct, frozen=True):
    """What is to hold; null or absent for whatever does."""

    aclsExternallyManagedOn: bool | UnsetType | None = UNSET  # noqa: N815
    aclsExternalLink: str | UnsetType | None = UNSET  # noqa: N815
    devicesApprovalOn: bool | UnsetType | None = UNSET  # noqa: N815
    devicesAutoUpdatesOn: bool | UnsetType | None = UNSET  # noqa: N815
    devicesKeyDurationDays: int | UnsetType | None = UNSET  # noqa: N815
    usersApprovalOn: bool | UnsetType | None = UNSET  # noqa: N815
    usersRoleAllowedToJoinExternalTailnets: str | UnsetType | None = UNSET  # noqa: N815
    networkFlowLoggingOn: bool | UnsetType | None = UNSET  # noqa: N815
    regionalRoutingOn: bool | UnsetType | None = UNSET  # noqa: N815
    postureIdentityCollectionOn: bool | UnsetType | None = UNSET  # noqa: N815
    httpsEnabled: bool | UnsetType | None = UNSET  # noqa: N815


@get(_PATH, responses=ERRORS, tags=["Settings"], opt=needs(Scope.POLICY_READ), sync_to_thread=False)
def get_settings(caller: Caller) -> TailnetSettings:
    """Show the settings."""
    return _settings(caller)


@patch(
    _PATH,
    status_code=200,
    responses=ERRORS,
    tags=["Settings"],
    opt=needs(Scope.POLICY),
    sync_to_thread=False,
)
def change_settings(caller: Caller, data: JSONBody[ChangeSettings]) -> TailnetSettings:
    """Take what holds already, and refuse everything else: a 409 says where it is declared."""
    held = _settings(caller)
    for name, wanted in structs.asdict(data).items():
        if wanted not in (UNSET, None, getattr(held, name)):
            raise _declared(caller, name)
    return held


HANDLERS: Final[list[HTTPRouteHandler]] = [get_settings, change_settings]


def _settings(caller: Authenticated) -> TailnetSettings:
    declared = caller.snapshot.settings
    link = managed_at(caller)
    return TailnetSettings(
        aclsExternallyManagedOn=link is not None,
        aclsExternalLink=link or "",
        devicesApprovalOn=declared.device_approval,
        devicesKeyDurationDays=(declared.key_expiry or timedelta(0)) // _DAY,
    )


def managed_at(caller: Authenticated) -> str | None:
    """Return the repository that the caller's tailnet follows, None for none."""
    if caller.repository is None:
        return None
    status: dict[str, Any] = dict(caller.repository.status())
    return str(status.get("repository", ""))


def _declared(caller: Authenticated, name: str) -> Conflict:
    where = managed_at(caller)
    if where is None:
        return Conflict(f"{name} is not changed over the API of this server")
    return Conflict(
        f"{name} is not changed over the API of this server",
        help=f"the settings of this tailnet are declared in {where}",
    )

from __future__ import annotations

from typing import Any

from mergescale.kernel.ids import TailnetName
from support.aio import aio
from support.rest import MemoryRepository, served
from support.worlds import world

SETTINGS = "/api/v2/tailnet/-/settings"
LINK = "https://git.example.com/net/policy"


class Followed(MemoryRepository):
    """A watched repository."""

    def status(self) -> dict[str, Any]:
        return {"repository": LINK}

    async def sync(self, *, retry: bool = False) -> None:
        raise AssertionError("nobody asked for it")


def shown(*, on: bool, link: str) -> dict[str, Any]:
    return {
        "aclsExternallyManagedOn": on,
        "aclsExternalLink": link,
        "devicesApprovalOn": False,
        "devicesAutoUpdatesOn": False,
        "devicesKeyDurationDays": 180,
        "usersApprovalOn": False,
        "usersRoleAllowedToJoinExternalTailnets": "none",
        "networkFlowLoggingOn": False,
        "regionalRoutingOn": False,
        "postureIdentityCollectionOn": False,
        "httpsEnabled": False,
    }


@aio
async def test_a_watched_repository_is_told_as_external_management() -> None:
    """Tools see that the policy is elsewhere, and where."""
    async with served(world(""), repositories={TailnetName("default"): Followed()}) as site:
        answer = await site.operator.get(SETTINGS)
        assert (answer.status_code, answer.json()) == (200, shown(on=True, link=LINK))
    async with served(world(""), by_api=True) as site:
        assert (await site.operator.get(SETTINGS)).json() == shown(on=False, link="")


@aio
async def test_settings_are_declared_and_not_sent() -> None:
    """What holds already is taken, as is null; anything else is refused and says where to go."""
    async with served(world(""), repositories={TailnetName("default"): Followed()}) as site:
        same = {"aclsExternallyManagedOn": True, "aclsExternalLink": None, "httpsEnabled": False}
        answer = await site.operator.patch(SETTINGS, json=same)
        assert (answer.status_code, answer.json()) == (200, shown(on=True, link=LINK))
        for change in ({"aclsExternallyManagedOn": False}, {"devicesKeyDurationDays": 90}):
            name = next(iter(change))
            answer = await site.operator.patch(SETTINGS, json={**same, **change})
            assert (answer.status_code, answer.json()) == (
                409,
                {
                    "message": f"{name} is not changed over the API of this server;"
                    f" the settings of this tailnet are declared in {LINK}"
                },
            )

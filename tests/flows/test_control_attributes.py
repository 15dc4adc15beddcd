"""``PATCH /machine/set-device-attr`` over real Noise and HTTP/2."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mergescale.domain.posture import CustomAttribute
from mergescale.kernel.keys import NodeKey
from support.aio import aio
from support.control_world import Control, Device, controlled, people

pytestmark = pytest.mark.enable_socket

POLICY = """{"acls": [], "attrConfig": {
    "custom:mode": {"type": "string", "allowSetByNode": true}, "custom:score": {}}}"""


async def asked(device: Device, update: object, **members: Any) -> int:
    """Send the request as Go does; return the status of the answer."""
    request = {"Version": 130, "NodeKey": str(device.node_key()), "Update": update, **members}
    body = json.dumps(request).encode()
    return (await device.noise.request("PATCH", "/machine/set-device-attr", body)).status


def custom(control: Control) -> tuple[CustomAttribute, ...]:
    [node] = control.snapshot.nodes.values()
    return node.custom


@aio
async def test_a_device_sets_its_own_attributes_where_the_policy_lets_it() -> None:
    """Set, kept while others are refused, and taken away again by null."""
    async with (
        controlled(people("alice@example.com: ", policy_text=POLICY)) as control,
        control.device("laptop") as laptop,
    ):
        await laptop.join(await control.auth_key())
        assert await asked(laptop, {"custom:mode": "kiosk"}) == 200
        assert custom(control) == (CustomAttribute("custom:mode", "kiosk"),)

        assert await asked(laptop, {"custom:mode": None, "custom:score": 1}) == 403
        assert await asked(laptop, {"custom:mode": 7}) == 400
        assert await asked(laptop, ["custom:mode"]) == 400
        assert await asked(laptop, {"custom:mode": {"a": 1}}) == 400
        assert custom(control) == (CustomAttribute("custom:mode", "kiosk"),)

        assert await asked(laptop, {"custom:mode": None}) == 200
        assert custom(control) == ()


@aio
async def test_nobody_sets_attributes_of_others() -> None:
    """A node key that is another machine's, or nobody's, is not found."""
    async with (
        controlled(people("alice@example.com: ", policy_text=POLICY)) as control,
        control.device("laptop") as laptop,
        control.device("phone") as phone,
    ):
        await laptop.join(await control.auth_key())
        update = {"custom:mode": "kiosk"}
        assert await asked(phone, update, NodeKey=str(laptop.node_key())) == 404
        assert await asked(laptop, update, NodeKey=str(NodeKey(bytes(range(32))))) == 404
        assert custom(control) == ()

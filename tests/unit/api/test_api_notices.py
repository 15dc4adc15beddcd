"""Operators list channels, give them secrets and try them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from mergescale.gitops.notices import configured
from mergescale.gitops.notices.channels import Channels
from mergescale.kernel.ids import TailnetName
from support.aio import aio
from support.clock import FakeClock, FakeEntropy
from support.receivers import receiving
from support.rest import bearer, client, served
from support.vault import MemoryVault
from support.worlds import world

PATH = "/api/v2/tailnet/-/gitops/notify"


@pytest.mark.enable_socket
@aio
async def test_a_channel_is_set_up_and_tried() -> None:
    """A test without a secret says what to do; with one it arrives."""
    tailnets = world("alice@example.com: "), world("bob@example.com: ", tailnet="two")
    with receiving() as receiver:
        name, adapter = TailnetName("default"), TypeAdapter[Any](configured.Channels)
        wanted = adapter.validate_python(
            [{"kind": "webhook", "name": "ops", "url": f"{receiver.url}/x"}]
        )
        here = Channels(name, wanted, MemoryVault(), FakeClock(), FakeEntropy())
        async with served(*tailnets, channels={name: here}) as site:
            early = await site.operator.post(f"{PATH}/ops/test")
            assert (early.status_code, early.json()) == (
                409,
                {
                    "message": '"ops": the channel has no secret: '
                    "mergescale gitops notify secret ops"
                },
            )
            made = await site.operator.post(f"{PATH}/ops/secret", json={})
            assert made.status_code == 200
            secret = made.json()["secret"]
            assert secret.startswith("mskey-webhook-")
            tried = await site.operator.post(f"{PATH}/ops/test")
            assert (tried.status_code, tried.json(), len(receiver.took)) == (200, {}, 1)
            told = (await site.operator.get(PATH)).json()
            assert told == {
                "channels": [
                    {
                        "name": "ops",
                        "kind": "webhook",
                        "place": f"{receiver.url}/x",
                        "events": [],
                        "secretSince": "2026-01-01T00:00:00Z",
                    }
                ]
            }
            given = await site.operator.post(f"{PATH}/ops/secret", json={"secret": "mine"})
            assert given.json() == {"secret": None}
            assert (await site.operator.post(f"{PATH}/nobody/test")).status_code == 404
            bob = client(site.app, headers=bearer(site.tokens["two"]))
            assert (await bob.get(PATH)).status_code == 404
            assert (await site.anybody.post(f"{PATH}/ops/test")).status_code == 401

"""What the server's own relay is called in maps, as the composition root makes it."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mergescale.server.settings import Settings
from mergescale.server.wiring import wire
from mergescale.wire.mapframe import LENGTH_BYTES, Compression
from support.aio import aio
from support.clock import START
from support.control_world import people
from support.worlds import named


def test_the_servers_own_relay_promises_only_what_it_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """35, 36, 53: one region that clients can use, with an id that fits, and nothing on port 80."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MERGESCALE_CONFIG", raising=False)

    @aio
    async def reading() -> None:
        settings = Settings(state_dir=tmp_path / "var", repository=str(tmp_path))
        async with AsyncExitStack() as resources:
            server = await wire(settings, resources)
            snapshot = people("alice@example.com: laptop")
            viewer = named(snapshot, "laptop").id
            encoder = server.parts[0].hub.encoder
            first = encoder.full(snapshot, viewer, Compression.NONE, START)
            again = encoder.full(snapshot, viewer, Compression.ZSTD, START)
            assert first != again
            [(number, region)] = json.loads(first[LENGTH_BYTES:])["DERPMap"]["Regions"].items()
            assert (number, region["RegionID"]) == ("999", 999)
            [relay] = region["Nodes"]
            assert relay["RegionID"] == 999
            assert relay["STUNPort"] == 3478
            assert relay["CertName"].startswith("sha256-raw:")
            assert "CanPort80" not in relay
            assert "STUNOnly" not in relay
            # 52: it listens on IPv4 only here, so it must not promise IPv6.
            assert (relay["IPv4"], relay["IPv6"]) == ("127.0.0.1", "none")

    reading()

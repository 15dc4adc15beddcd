"""What strangers make the server keep: caches, long texts."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from mergescale.kernel.errors import RemoteProtocolError
from mergescale.wire.tailcfg.hostinfo import MAX_HOSTINFO_BYTES, decode_hostinfo
from mergescale.wire.tailcfg.map_request import decode_map_request
from mergescale.wire.tailcfg.register import decode_register_request
from support.aio import aio
from support.control_world import controlled


def test_a_long_hostinfo_is_refused() -> None:
    """It is kept as long as its node or login, so what is kept has a bound."""
    fits = {"Hostname": "a", "App": "x" * (MAX_HOSTINFO_BYTES - 100)}
    assert len(decode_hostinfo(json.dumps(fits).encode()).raw) <= MAX_HOSTINFO_BYTES
    over = {"Hostname": "a", "Unknown": ["x" * MAX_HOSTINFO_BYTES]}
    for decode, body in (
        (decode_hostinfo, over),
        (decode_register_request, {"Hostinfo": over}),
        (decode_map_request, {"hostinfo": over}),
    ):
        with pytest.raises(RemoteProtocolError, match="a hostinfo is too long"):
            decode(json.dumps(body).encode())


def test_what_strangers_send_is_not_cached() -> None:
    """Endpoints and prefixes that are none leave nothing behind, however many and long."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(200):
            text = f"{number}" + "x" * 100_000
            decode_map_request(json.dumps({"Endpoints": [text]}).encode())
            with pytest.raises(RemoteProtocolError):
                decode_hostinfo(json.dumps({"RoutableIPs": [text]}).encode())
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2 << 20


@pytest.mark.enable_socket
@aio
async def test_a_machine_with_a_long_hostinfo_is_told() -> None:
    """Over the wire it is a 400 with a reason, and nothing is stored."""
    async with controlled() as control, control.device("laptop") as laptop:
        body = laptop.register_request(Hostinfo={"App": "x" * MAX_HOSTINFO_BYTES})
        answer = await laptop.post("/machine/register", body)
        assert (answer.status, answer.body) == (400, b"a hostinfo is too long")
        assert control.snapshot.logins == {}
        told = await laptop.register()
        assert told["AuthURL"]

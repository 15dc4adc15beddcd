"""A million machines that ask to be let in: what is kept has a bound, and who waited goes on waiting."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest

from mergescale.kernel.ids import LoginId
from mergescale.kernel.keys import MachineKey, NodeKey
from mergescale.state import registration, upkeep
from mergescale.state.logins import LIFE, MAX_LOGINS
from mergescale.state.registration import LoginNeeded, Request
from mergescale.state.throttle import (
    LOGIN_NETWORK,
    LOGIN_PLACE,
    Throttle,
    TooManyAttempts,
    neighbourhood,
    place,
)
from mergescale.wire.tailcfg.hostinfo import MAX_HOSTINFO_BYTES
from support.aio import aio
from support.clock import START, FakeClock
from support.control_world import Control, Device, controlled, login_in, registered
from support.failures import MemoryFailures
from support.machines import Machine, decided, hostinfo
from support.worlds import world

MILLION = 1_000_000
#: Of the million, those who get as far as to a decision; the others are turned away before it.
DECIDED = 20_000
#: What all of them together may leave behind: MAX_LOGINS of 2 kB each, and their indexes.
RSS_BYTES = 16 << 20
BUSY, QUIET = "198.51.100.7", "203.0.113.9"
TEXT = "x" * 2000


def stranger(number: int) -> Request:
    """Return what one machine of very many asks."""
    raw = (number + 1).to_bytes(32, "big")
    asks = Machine("stranger").asks(hostinfo=hostinfo(f"h{number}", App=TEXT))
    fresh = replace(asks.fresh, login_id=LoginId(str(number)))
    return replace(asks, machine_key=MachineKey(raw), node_key=NodeKey(raw), fresh=fresh)


def resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_what_pending_logins_leave_behind_is_bounded() -> None:
    """Each from a place of its own, all of them let through: the newest 1,024 are kept.

    With the longest Hostinfo that is accepted they would be 64 MiB.
    """
    snapshot = world("alice@example.com: laptop")
    before = resident_bytes()
    for number in range(DECIDED):
        snapshot, answer = decided(snapshot, registration.register(stranger(number)), START)
        assert answer == LoginNeeded(LoginId(str(number)))
    kept = [LoginId(str(number)) for number in range(DECIDED - MAX_LOGINS, DECIDED)]
    assert list(snapshot.logins) == kept
    assert sorted(one for held in snapshot.asking.values() for one in held) == sorted(kept)
    assert resident_bytes() - before < RSS_BYTES
    assert MAX_LOGINS * MAX_HOSTINFO_BYTES <= 64 << 20


@aio
async def test_a_million_attempts_are_a_few_logins() -> None:
    """In an hour one address begins 120 logins, a site with 65,536 networks 480, at one replica."""
    clock, before = FakeClock(), resident_bytes()
    throttle = Throttle(MemoryFailures(), clock)
    site = int(IPv6Address("2001:db8::"))
    hosts = [BUSY] + [str(IPv6Address(site + (number << 64))) for number in range(4095)]
    places = [(place(host), neighbourhood(host)) for host in hosts]
    let_in = dict.fromkeys((near for _, near in places), 0)
    for number in range(MILLION):
        if number % (MILLION // 3600) == 0:
            clock.advance(timedelta(seconds=1))
        where, near = places[0 if number % 2 else number // 2 % len(places)]
        try:
            await throttle.take((LOGIN_PLACE, where), (LOGIN_NETWORK, near))
        except TooManyAttempts:
            continue
        let_in[near] += 1
    hour_s = LIFE.total_seconds()
    one, many = (let_in[neighbourhood(host)] for host in hosts[:2])
    assert one == pytest.approx(LOGIN_PLACE.burst + hour_s / LOGIN_PLACE.every_s, abs=2)
    assert many == pytest.approx(LOGIN_NETWORK.burst + hour_s / LOGIN_NETWORK.every_s, abs=2)
    assert resident_bytes() - before < RSS_BYTES


async def waits(control: Control, name: str, host: str) -> str:
    """Let a machine ask from an address; return the AuthURL it was given."""
    async with control.device(name, forwarded_for=host) as device:
        url: str = (await device.register())["AuthURL"]
        return url


@pytest.mark.enable_socket
@aio
async def test_a_flood_of_logins_drives_out_nobody() -> None:
    """3,000 node keys of 100 machines at one address: who waited before is approved behind it.

    The flood is answered 429 with the time to wait; others begin logins as ever.
    """
    proxied = controlled(failures=MemoryFailures(), trusted_proxies=["127.0.0.1"])
    async with proxied as control:
        early, near = await waits(control, "early", QUIET), await waits(control, "near", BUSY)

        async def flood(number: int) -> list[tuple[int, str]]:
            async with control.device(f"f{number}", version=137, forwarded_for=BUSY) as device:
                return [await status(device, number=key) for key in range(30)]

        told = [one for batch in range(10) for one in await ten(flood, batch)]
        assert sum(code == 200 for code, _ in told) == LOGIN_PLACE.burst - 1
        refused = {one for one in told if one[0] != 200}
        assert refused == {(429, "60")}
        assert len(control.snapshot.logins) < LOGIN_PLACE.burst + 1
        assert await waits(control, "late", QUIET)
        for name, url in (("early", early), ("near", near)):
            assert await waits(control, name, BUSY) == url
            async with control.device(name, forwarded_for=BUSY) as device:
                call = await device.following(url)
                await control.waited_at(url)
                await control.approve(url)
                assert registered(await call.answer())["MachineAuthorized"] is True


async def ten(flood: Any, batch: int) -> list[tuple[int, str]]:
    done = await asyncio.gather(*(flood(batch * 10 + number) for number in range(10)))
    return [one for told in done for one in told]


async def status(device: Device, **members: Any) -> tuple[int, str]:
    """Register; return the status, and when to come back."""
    answer = await device.post("/machine/register", device.register_request(**members))
    return answer.status, answer.headers.get("retry-after", "")


@pytest.mark.enable_socket
@aio
async def test_who_had_to_wait_gets_in_later() -> None:
    """An old client is shown a text, a new one is told to wait; both then get their address."""
    proxied = controlled(failures=MemoryFailures(), trusted_proxies=["127.0.0.1"])
    async with proxied as control:
        for number in range(LOGIN_PLACE.burst):
            await waits(control, f"first-{number}", BUSY)
        old = control.device("old", version=130, forwarded_for=BUSY)
        new = control.device("new", version=137, forwarded_for=BUSY)
        async with old as old_device, new as new_device:
            text = (await old_device.register())["Error"]
            assert text == "too many new logins from this address, try again in 60 s"
            assert await status(new_device) == (429, "60")
            assert len(control.snapshot.logins) == LOGIN_PLACE.burst
            for device in (old_device, new_device):
                control.clock.advance(timedelta(seconds=60))
                assert login_in((await device.register())["AuthURL"]) in control.snapshot.logins


@pytest.mark.enable_socket
@aio
async def test_a_login_that_is_gone_is_begun_again_within_the_bound() -> None:
    """Who followed up a login that was driven out counts like anybody who comes anew."""
    proxied = controlled(failures=MemoryFailures(), trusted_proxies=["127.0.0.1"])
    async with proxied as control:
        for number in range(LOGIN_PLACE.burst - 1):
            await waits(control, f"first-{number}", BUSY)
        async with control.device("last", version=137, forwarded_for=BUSY) as device:
            url = (await device.register())["AuthURL"]
            call = await device.following(url)
            await control.waited_at(url)
            assert (await device.register())["AuthURL"] == url  # the follow-up looked before this
            control.clock.advance(LIFE)
            for number in range(LOGIN_PLACE.burst):
                await waits(control, f"second-{number}", BUSY)
            await control.apply(upkeep.sweep())
            assert login_in(url) not in control.snapshot.logins
            assert (await call.answer()).status == 429

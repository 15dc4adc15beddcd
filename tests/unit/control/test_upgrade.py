from __future__ import annotations

import asyncio
import base64

import pytest

from mergescale.control.channel import Channel, Service
from mergescale.control.limits import Limits
from mergescale.control.upgrade import Door, Farewell, Outdated, Ts2021
from mergescale.kernel.keys import PrivateKey
from mergescale.wire.httphead import Rejection, RequestHead, split_target
from mergescale.wire.noise import Accepted, initiate, public_key
from support.aio import aio
from support.bridged import echo

SERVER = PrivateKey(b"\x01" * 32)
MACHINE = PrivateKey(b"\x02" * 32)


class FixedEntropy:
    def bytes(self, count: int) -> bytes:
        return b"\x04" * count


class Pipe:
    def __init__(self) -> None:
        self.aborted = False

    def write(self, data: bytes) -> None:
        assert not self.aborted

    def abort(self) -> None:
        self.aborted = True

    def get_extra_info(self, name: str) -> None:
        return None


class Registry:
    def __init__(self) -> None:
        self.connections: set[object] = set()
        self.tasks: set[asyncio.Task[None]] = set()


def door(limits: Limits | None = None) -> Door:
    return Door(SERVER, FixedEntropy(), Service(echo, limits or Limits()))


def initiation(version: int = 130, server: PrivateKey = SERVER) -> bytes:
    started = initiate(
        version=version,
        static=MACHINE,
        ephemeral=PrivateKey(b"\x03" * 32),
        server=public_key(server),
    )
    return base64.b64encode(started.message)


def head(handshake: bytes | None) -> RequestHead:
    headers: tuple[tuple[bytes, bytes], ...] = ((b"host", b"x"),)
    if handshake is not None:
        headers = (*headers, (b"x-tailscale-handshake", handshake))
    return RequestHead("POST", "/ts2021", b"", headers)


def test_the_specifications_vector_is_accepted() -> None:
    """The header value of spec 2.5 gives its response, peer and version."""
    told = (
        b"AIIBAGBd/t07a9R/b6KO4V2WnVuw6lN3TUiL2vnfHG4BJLPvIufgD8ofgUbwGwvgkSIwvBo924naoqWxX5p3HA+"
        b"YJ4IjXyNEBDRag0FUQvbLzG6w6oi+lF9IcJZfBy+wyZqOIXw="
    )
    assert initiation() == told
    accepted = door().answer(told)
    assert isinstance(accepted, Accepted)
    assert accepted.version == 130
    assert accepted.peer == public_key(MACHINE)
    assert accepted.response.hex() == (
        "020030ac01b2209e86354fb853237b5de0f4fab13c7fcbf433a61c019369617fecf10b"
        "116e7a9dcdc8d0e1f224ed3456b9543f"
    )


@pytest.mark.parametrize(
    ("handshake", "text"),
    [
        (None, "the tailscale handshake is missing"),
        (b"", "the tailscale handshake is missing"),
        (b"%%%", "the tailscale handshake is not base64"),
        (b"\xff\xfe", "the tailscale handshake is not base64"),
        (base64.b64encode(b"short"), "a handshake initiation has 101 bytes"),
        (base64.b64encode(b"\0" * 101), "not a handshake initiation"),
        (initiation(server=MACHINE), None),
    ],
)
def test_what_is_no_handshake_is_a_400(handshake: bytes | None, text: str | None) -> None:
    """Missing, mis-encoded, short, random or for another server: 400 with a text."""
    answer = door().answer(handshake)
    assert isinstance(answer, Rejection)
    assert answer.status == 400
    assert text is None or answer.text == text
    assert answer.encode().startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_url_safe_base64_is_not_standard_base64() -> None:
    """Only the standard alphabet is on the wire; the other one is a mistake worth telling."""
    wrong = initiation().replace(b"/", b"_").replace(b"+", b"-")
    assert door().answer(wrong) == Rejection(400, "the tailscale handshake is not base64")


@pytest.mark.parametrize(("version", "served"), [(105, False), (106, True), (9999, True)])
def test_old_clients_are_told_the_minimum(version: int, served: bool) -> None:
    """Below 106 the Noise response is replaced by an error frame that names 106."""
    answer = door().answer(initiation(version))
    if served:
        assert isinstance(answer, Accepted)
    else:
        assert isinstance(answer, Outdated)
        assert answer.frame[0] == 3
        assert b"capability version 106" in answer.frame


@aio
async def test_pending_handshakes_are_capped() -> None:
    """One silent peer more than the cap cuts the oldest; newcomers are always let in."""
    guarded = door(Limits(pending_handshakes=2))
    pipes = []
    for _ in range(4):
        accepted = guarded.answer(initiation())
        assert isinstance(accepted, Accepted)
        channel = guarded.channel(accepted, Registry())
        pipes.append(Pipe())
        channel.connection_made(pipes[-1])
    assert [pipe.aborted for pipe in pipes] == [True, True, False, False]
    assert guarded.pending == 2
    channel.connection_lost(None)
    assert guarded.pending == 1


def test_a_takeover_gives_each_answer_its_protocol() -> None:
    """Accepted is a channel, outdated a farewell, anything else a rejection."""
    takeover = Ts2021(door())
    assert isinstance(takeover(head(initiation()), Registry()), Channel)
    assert isinstance(takeover(head(initiation(90)), Registry()), Farewell)
    assert isinstance(takeover(head(None), Registry()), Rejection)


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"/key?v=1", (b"", b"/key?v=1")),
        (b"https://h:1/key?v=1", (b"h:1", b"/key?v=1")),
        (b"http://h", (b"h", b"/")),
        (b"http://h?v=1", (b"h", b"/?v=1")),
        (b"/redirect?to=https://h/x", (b"", b"/redirect?to=https://h/x")),
        (b"*", (b"", b"*")),
    ],
)
def test_targets_lose_their_origin(target: bytes, parts: tuple[bytes, bytes]) -> None:
    """Absolute targets become origin form; nothing else changes."""
    assert split_target(target) == parts

"""What fuzzing feeds: one function a protocol, bytes in, nothing out.

A target raises only where the code is wrong: a peer's fault is a `RemoteProtocolError`, and
everything else is an error of ours. The first byte of an input chooses what the rest is for, so
that one corpus serves a whole protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import ip_address

from mergescale.kernel.errors import RemoteProtocolError
from mergescale.kernel.keys import PrivateKey
from mergescale.policy.diagnostics import render
from mergescale.wire import stun
from mergescale.wire.derp import (
    ClientInfo,
    ClientInfoReceived,
    ClientSession,
    PacketsReceived,
    PingReceived,
    Relay,
    ServerSession,
    frames,
    node_key,
)
from mergescale.wire.derp.boxes import seal_client_info
from mergescale.wire.derp.frames import FrameType
from mergescale.wire.noise import Transport, initiate, public_key, respond
from mergescale.wire.tailcfg.derpmap import decode_admit_request
from mergescale.wire.tailcfg.hostinfo import Hostinfo, canonical, decode_hostinfo
from mergescale.wire.tailcfg.map_request import MAX_ENDPOINTS, decode_map_request
from mergescale.wire.tailcfg.register import decode_register_request
from support.hujson_claims import assert_rewritten_well
from support.policies import diagnose

SERVER, MACHINE = PrivateKey(b"\x01" * 32), PrivateKey(b"\x02" * 32)
KEY, NONCE = b"\x07" * 32, b"\x22" * 24
#: How much of an honest stream is spoilt at a time: its position, and what is mixed into it.
SPOIL_BYTES = 3
CLIENT_INFO = frames.encode(
    FrameType.CLIENT_INFO,
    seal_client_info(ClientInfo(), private=MACHINE, server=node_key(SERVER), nonce=NONCE),
)


def noise(data: bytes) -> None:
    """Take initiations, responses and records: raw, or honest ones with a few bytes spoilt."""
    with suppress(RemoteProtocolError):
        match data[:1]:
            case b"\0":
                accepted = respond(data[1:], static=SERVER, ephemeral=PrivateKey(KEY))
                assert 0 <= accepted.version <= 0xFFFF
            case b"\1":
                started = initiate(
                    version=130,
                    static=MACHINE,
                    ephemeral=PrivateKey(KEY),
                    server=public_key(SERVER),
                )
                started.finish(data[1:])
            case b"\2":
                _in_pieces(data[1:], Transport(send_key=KEY, receive_key=KEY).receive)
            case _:
                _spoilt_records(data[1:])


def _spoilt_records(plan: bytes) -> None:
    """Whatever is done to records, what comes out is a beginning of what went in."""
    plaintext = bytes(range(256)) * 20
    records = bytearray(Transport(send_key=KEY, receive_key=KEY).seal(plaintext))
    for start in range(0, len(plan) - SPOIL_BYTES + 1, SPOIL_BYTES):
        at = int.from_bytes(plan[start : start + 2], "big") % len(records)
        records[at] ^= plan[start + 2]
    opened = b""
    receiver = Transport(send_key=KEY, receive_key=KEY)
    with suppress(RemoteProtocolError):
        for start in range(0, len(records), 1000):
            opened += receiver.receive(bytes(records[start : start + 1000]))
    assert plaintext.startswith(opened)


def tailcfg(data: bytes) -> None:
    """Take bodies of register, map and admission requests, and a Hostinfo."""
    with suppress(RemoteProtocolError):
        match data[:1]:
            case b"\0":
                _is_canonical(decode_register_request(data[1:]).hostinfo)
            case b"\1":
                request = decode_map_request(data[1:])
                assert len(request.endpoints) <= MAX_ENDPOINTS
                if request.hostinfo is not None:
                    _is_canonical(request.hostinfo)
            case b"\2":
                decode_admit_request(data[1:])
            case _:
                _is_canonical(decode_hostinfo(data[1:]))


def _is_canonical(hostinfo: Hostinfo) -> None:
    """What is stored reads as itself, and gives the same view again."""
    try:
        assert canonical(hostinfo.raw) == hostinfo.raw
        assert decode_hostinfo(hostinfo.raw) == hostinfo
    except RemoteProtocolError as error:
        raise AssertionError("what was accepted is not accepted again") from error


def derp(data: bytes) -> None:
    """Take frames before the admission, behind it, and at a client."""
    with suppress(RemoteProtocolError):
        match data[:1]:
            case b"\0":
                _in_pieces(data[1:], ServerSession(SERVER).receive)
            case b"\1":
                client = ClientSession(MACHINE, NONCE)
                _in_pieces(data[1:], client.receive)
            case _:
                _admitted(data[1:])


def _admitted(data: bytes) -> None:
    session, relay = ServerSession(SERVER), Relay()
    connection = relay.register(node_key(MACHINE))
    other = relay.register(node_key(SERVER))
    relay.pause(other)
    [introduced] = session.receive(CLIENT_INFO)
    assert isinstance(introduced, ClientInfoReceived)
    events = session.admit(NONCE)

    def feed(piece: bytes) -> None:
        for event in [*events, *session.receive(piece)]:
            match event:
                case PacketsReceived(payloads=payloads):
                    relay.forward(connection, payloads, 0.0)
                case PingReceived(data=ping):
                    relay.ping(connection, ping)
                case _:
                    pass
        assert all(to is not other for to, _ in relay.drain())

    _in_pieces(data, feed)
    relay.resume(other)
    for _, out in relay.drain():
        _in_pieces(out, frames.FrameReader({}).feed)


def stun_datagram(data: bytes) -> None:
    """Take a datagram as server and as client; what is answered can be read and is no longer."""
    with suppress(RemoteProtocolError):
        mapped = stun.parse_response(data)
        assert 0 <= mapped.port <= 0xFFFF
    with suppress(RemoteProtocolError):
        transaction = stun.parse_request(data)
        address = ip_address("192.0.2.1")
        answer = stun.response(transaction, address, 4321)
        assert stun.parse_response(answer) == stun.Mapped(transaction, address, 4321)
        assert len(answer) <= len(data)


def hujson(data: bytes) -> None:
    """Read any text and rewrite it: what is promised holds, or the text is refused."""
    assert_rewritten_well(data.decode("utf-8", "surrogateescape"))


def policy(data: bytes) -> None:
    """Load any text as a policy: there is one, or it is said why not, at places of the text."""
    text = data.decode("utf-8", "surrogateescape")
    loaded, found = diagnose(text)
    assert loaded is not None or found
    for one in found:
        span = one.span
        assert 0 <= span.offset_start <= span.offset_end <= len(text)
        assert text.count("\n", 0, span.offset_start) == span.start_line - 1
        assert render(one, text)


def _in_pieces(data: bytes, take: Callable[[bytes], object]) -> None:
    """Feed in pieces whose sizes are as odd as the data."""
    start = 0
    while start < len(data):
        end = start + 1 + data[start] % 61
        take(data[start:end])
        start = end


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "noise": noise,
    "tailcfg": tailcfg,
    "derp": derp,
    "stun": stun_datagram,
    "hujson": hujson,
    "policy": policy,
}

"""Who gets which packet, and what is dropped."""

from __future__ import annotations

import pytest

from mergescale.kernel.errors import LocalProtocolError
from mergescale.kernel.keys import NodeKey
from mergescale.wire.derp import Connection, Counters, PeerGoneReason, Relay, frames

A, B, C = (NodeKey(bytes([number]) * 32) for number in (0xAA, 0xBB, 0xCC))
NOBODY = NodeKey(b"\xee" * 32)
DISCO = "TS💬".encode() + bytes(56)
NOT_HERE = frames.peer_gone(NOBODY.raw, PeerGoneReason.NOT_HERE)


def to(key: NodeKey, packet: bytes) -> bytes:
    return key.raw + packet


def got(source: NodeKey, packet: bytes) -> bytes:
    """Return the frame by which somebody gets `packet`."""
    return b"\x05" + (32 + len(packet)).to_bytes(4, "big") + source.raw + packet


def drained(relay: Relay) -> dict[Connection, bytes]:
    writes = relay.drain()
    assert len(dict(writes)) == len(writes), "one write per connection"
    return dict(writes)


def test_packets_reach_their_destinations_in_order() -> None:
    """Each receiver gets its packets, in order, under the sender's key, in one write."""
    relay = Relay()
    a, b, c = map(relay.register, (A, B, C))
    relay.forward(a, [to(B, b"1"), to(C, b"2"), to(B, b""), to(A, b"self")], now=0)
    relay.forward(c, [to(B, b"4")], now=0)
    assert drained(relay) == {
        b: got(A, b"1") + got(A, b"") + got(C, b"4"),
        c: got(A, b"2"),
        a: got(A, b"self"),
    }
    assert drained(relay) == {}
    assert relay.counters == Counters(packets=5, packet_bytes=7)


def test_newest_connection_of_a_key_gets_its_packets() -> None:
    """A second connection takes over, and the last writer takes back."""
    relay = Relay()
    a, old, new = relay.register(A), relay.register(B), relay.register(B)
    assert relay.connections(B) == (old, new)
    relay.forward(a, [to(B, b"1")], now=0)
    assert drained(relay) == {new: got(A, b"1")}
    relay.forward(old, [], now=0)
    relay.forward(a, [to(B, b"2")], now=0)
    assert drained(relay) == {old: got(A, b"2")}
    relay.ping(new, b"12345678")
    relay.forward(a, [to(B, b"3")], now=0)
    assert drained(relay) == {new: frames.pong(b"12345678") + got(A, b"3")}
    relay.touch(old)
    relay.forward(a, [to(B, b"4")], now=0)
    assert drained(relay) == {old: got(A, b"4")}


def test_older_connection_takes_over_when_the_newer_leaves() -> None:
    """The key stays reachable while one connection is left, and nobody is told it is gone."""
    relay = Relay()
    a, old, new = relay.register(A), relay.register(B), relay.register(B)
    relay.forward(new, [to(A, b"hello")], now=0)
    relay.drain()
    relay.unregister(new)
    relay.forward(a, [to(B, b"1")], now=0)
    assert drained(relay) == {old: got(A, b"1")}


def test_inactive_connection_leaves_quietly() -> None:
    """When the inactive one of two leaves, the active one stays active."""
    relay = Relay()
    a, old, new = relay.register(A), relay.register(B), relay.register(B)
    relay.unregister(old)
    relay.forward(a, [to(B, b"1")], now=0)
    assert drained(relay) == {new: got(A, b"1")}


def test_those_who_heard_a_leaver_are_told() -> None:
    """PeerGone 0 goes to receivers of the leaver's packets, once, and to nobody else."""
    relay = Relay()
    a, b, c = map(relay.register, (A, B, C))
    relay.forward(a, [to(B, b"1"), to(B, b"2")], now=0)
    relay.forward(c, [to(A, b"3")], now=0)
    relay.drain()
    relay.unregister(a)
    gone = frames.peer_gone(A.raw, PeerGoneReason.DISCONNECTED)
    assert drained(relay) == {b: gone}
    relay.unregister(relay.register(A))
    assert drained(relay) == {}
    relay.unregister(c)
    assert drained(relay) == {}


def test_leaver_who_heard_others_is_forgotten() -> None:
    """Nothing is written to a connection that left, nor kept about it."""
    relay = Relay()
    a, b = relay.register(A), relay.register(B)
    relay.forward(a, [to(B, b"1")], now=0)
    relay.unregister(b)
    relay.unregister(a)
    assert drained(relay) == {}
    assert relay.connections(A) == relay.connections(B) == ()


def test_unknown_destination_is_told_for_disco_only() -> None:
    """A WireGuard packet for nobody vanishes; a disco packet is answered with reason 1."""
    relay = Relay()
    a = relay.register(A)
    relay.forward(a, [to(NOBODY, bytes(148))], now=0)
    assert drained(relay) == {}
    relay.forward(a, [to(NOBODY, DISCO)], now=0)
    assert drained(relay) == {a: NOT_HERE}
    assert relay.counters == Counters(dropped_unknown=2)


@pytest.mark.parametrize("start", [0.0, 1e6])
def test_not_here_is_told_once_a_second(start: float) -> None:
    """Three answers at once, then one a second, per client, whatever the clock's origin."""
    relay = Relay()
    a, b = relay.register(A), relay.register(B)
    many = [to(NOBODY, DISCO)] * 10
    answers = []
    for elapsed in (0.0, 0.5, 1.0, 1.5, 2.0, 60.0):
        relay.forward(a, many, now=start + elapsed)
        answers.append(drained(relay).get(a, b"").count(NOT_HERE))
    assert answers == [3, 0, 1, 0, 1, 3]
    relay.forward(b, many, now=start)
    assert drained(relay) == {b: NOT_HERE * 3}


def test_paused_client_keeps_the_newest_packets() -> None:
    """Of what a slow client misses, the newest 32 packets and 32 disco packets are kept."""
    relay = Relay()
    a, b = relay.register(A), relay.register(B)
    relay.pause(b)
    for number in range(40):
        stamp = bytes([number])
        relay.forward(a, [to(B, b"wg" + stamp), to(B, DISCO + stamp)], now=0)
    assert (b.paused, drained(relay)) == (True, {})
    assert relay.counters.dropped_full == 16
    relay.resume(b)
    newest = [bytes([number]) for number in range(8, 40)]
    expected = [got(A, DISCO + stamp) for stamp in newest]
    expected += [got(A, b"wg" + stamp) for stamp in newest]
    assert (b.paused, drained(relay)) == (False, {b: b"".join(expected)})
    relay.forward(a, [to(B, b"now")], now=0)
    assert drained(relay) == {b: got(A, b"now")}


def test_paused_client_gets_one_pong_and_all_departures() -> None:
    """Pings of a client that does not read cost one pong; departures are never lost."""
    relay = Relay()
    a, b, c = map(relay.register, (A, B, C))
    relay.forward(a, [to(B, b"1")], now=0)
    relay.forward(c, [to(B, b"2")], now=0)
    relay.drain()
    relay.pause(b)
    relay.ping(b, b"11111111")
    relay.ping(b, b"22222222")
    relay.keep_alive(b)
    relay.unregister(a)
    relay.unregister(c)
    assert drained(relay) == {}
    relay.resume(b)
    gone = [frames.peer_gone(key.raw, PeerGoneReason.DISCONNECTED) for key in (A, C)]
    assert drained(relay) == {b: b"".join(gone) + frames.pong(b"22222222")}
    relay.resume(b)
    assert drained(relay) == {}


def test_slow_client_costs_others_nothing() -> None:
    """While one receiver is paused, the others get everything."""
    relay = Relay()
    a, b, c = map(relay.register, (A, B, C))
    relay.pause(b)
    relay.forward(a, [to(B, b"x"), to(C, b"y")] * 100, now=0)
    assert drained(relay) == {c: got(A, b"y") * 100}


def test_keep_alive_goes_to_flowing_clients() -> None:
    """A KeepAlive is five bytes in the next write."""
    relay = Relay()
    a = relay.register(A)
    relay.keep_alive(a)
    assert drained(relay) == {a: b"\x06\0\0\0\0"}


def test_connection_that_left_may_not_be_used() -> None:
    """Using a connection after unregistering it is our own mistake."""
    relay = Relay()
    a = relay.register(A)
    relay.register(A)
    relay.unregister(a)
    with pytest.raises(LocalProtocolError):
        relay.unregister(a)
    with pytest.raises(LocalProtocolError):
        relay.forward(a, [], now=0)
    with pytest.raises(LocalProtocolError):
        relay.ping(a, b"12345678")
    for use in (relay.touch, relay.keep_alive, relay.pause, relay.resume):
        with pytest.raises(LocalProtocolError):
            use(a)

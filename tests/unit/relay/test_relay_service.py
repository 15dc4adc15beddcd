from __future__ import annotations

from structlog.testing import capture_logs

from mergescale.kernel.keys import NodeKey, PrivateKey
from mergescale.relay.limits import Limits
from mergescale.relay.service import DerpService, Doors
from mergescale.wire.derp import node_key
from mergescale.wire.derp.client import PacketReceived
from support.fake_time import in_fake_time
from support.relayed import Client, FixedEntropy

RELAY = PrivateKey(b"\x11" * 32)
ALICE = PrivateKey(b"\x22" * 32)
BOB = PrivateKey(b"\x33" * 32)


class Known:
    """An admission that can be changed and broken."""

    def __init__(self, *nodes: PrivateKey) -> None:
        self.keys = {node_key(node) for node in nodes}
        self.asked: list[NodeKey] = []
        self.broken = False

    def __call__(self, key: NodeKey) -> bool:
        self.asked.append(key)
        if self.broken:
            raise KeyError("broken")
        return key in self.keys


def relay(known: Known, limits: Limits | None = None) -> DerpService:
    return DerpService(RELAY, known, FixedEntropy(), limits)


@in_fake_time
async def test_an_unknown_key_is_closed_before_server_info() -> None:
    """Who is not known gets ServerKey and the end, and is counted."""
    service = relay(Known(ALICE))
    bob = Client(service, BOB)
    assert bob.exchange() == []
    assert [how for _, how in bob.pipe.ended] == ["close"]
    assert service.connected == 0
    assert service.doors == Doors(pending=0, admitted=0, refused=1)


@in_fake_time
async def test_an_admission_that_fails_lets_nobody_in() -> None:
    """An exception is a no, for this client, and is logged without a word of its text to it."""
    known = Known(ALICE)
    known.broken = True
    service = relay(known)
    alice = Client(service, ALICE)
    with capture_logs() as logs:
        assert alice.exchange() == []
    assert [entry["event"] for entry in logs] == ["relay.admission-failed", "relay.refused"]
    assert [how for _, how in alice.pipe.ended] == ["close"]
    known.broken = False
    again = Client(service, ALICE)
    assert len(again.exchange()) == 1
    assert service.doors == Doors(pending=0, admitted=1, refused=1)


@in_fake_time
async def test_only_true_lets_in() -> None:
    """An admission that answers anything but a boolean has a bug, and nobody passes by it."""
    service = DerpService(RELAY, lambda _: "yes", FixedEntropy())  # type: ignore[arg-type,return-value]
    assert service.admits(node_key(ALICE)) is False


@in_fake_time
async def test_dropping_a_key_ends_all_its_connections() -> None:
    """A deleted node loses the relay at once, others keep it."""
    service = relay(Known(ALICE, BOB))
    one, two, bob = Client(service, ALICE), Client(service, ALICE), Client(service, BOB)
    for client in (one, two, bob):
        client.exchange()
    assert service.drop(node_key(ALICE)) == 2
    assert service.drop(node_key(ALICE)) == 0
    ended = [[how for _, how in client.pipe.ended] for client in (one, two, bob)]
    assert ended == [["abort"], ["abort"], []]
    assert service.connected == 1


@in_fake_time
async def test_a_recheck_ends_who_is_not_known_any_more() -> None:
    """Each key is asked for once; those refused now are gone, with all their connections."""
    known = Known(ALICE, BOB)
    service = relay(known)
    clients = [Client(service, private) for private in (ALICE, ALICE, BOB)]
    for client in clients:
        client.exchange()
    known.asked.clear()
    assert service.recheck() == 0
    assert sorted(known.asked, key=str) == sorted(known.keys, key=str)
    known.keys.discard(node_key(ALICE))
    assert service.recheck() == 2
    assert service.connected == 1
    known.broken = True
    assert service.recheck() == 1


@in_fake_time
async def test_the_same_key_twice_is_served_where_it_last_wrote() -> None:
    """The newest connection gets the packets, until another one of the key sends something."""
    service = relay(Known(ALICE, BOB))
    alice, old = Client(service, ALICE), Client(service, BOB)
    alice.exchange()
    old.exchange()
    new = Client(service, BOB)
    new.exchange()
    alice.send(new, b"one")
    assert (old.exchange(), new.exchange()) == ([], [PacketReceived(alice.key, b"one")])
    old.session.prefer(home=True)
    old.exchange()
    alice.send(new, b"two")
    assert (old.exchange(), new.exchange()) == ([PacketReceived(alice.key, b"two")], [])
    old.channel.connection_lost(None)
    alice.send(new, b"three")
    assert new.exchange() == [PacketReceived(alice.key, b"three")]
    assert alice.exchange() == []


@in_fake_time
async def test_a_key_has_a_bounded_number_of_connections() -> None:
    """One more than the limit ends the oldest."""
    service = relay(Known(ALICE), Limits(connections_per_key=2))
    clients = []
    for _ in range(3):
        clients.append(Client(service, ALICE))
        clients[-1].exchange()
    assert [[how for _, how in client.pipe.ended] for client in clients] == [["abort"], [], []]
    assert service.connected == 2


@in_fake_time
async def test_strangers_are_bounded_and_the_oldest_makes_room() -> None:
    """One more that did not say who it is cuts the oldest; the admitted do not count."""
    service = relay(Known(ALICE), Limits(pending=2))
    admitted = Client(service, ALICE)
    admitted.exchange()
    strangers = [Client(service, BOB) for _ in range(4)]
    cut = [[how for _, how in one.pipe.ended] for one in strangers]
    assert cut == [["abort"], ["abort"], [], []]
    assert (service.doors.pending, admitted.pipe.ended) == (2, [])
    strangers[3].channel.connection_lost(None)
    assert service.doors.pending == 1

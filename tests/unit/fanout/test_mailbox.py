"""The ledger of one client."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mergescale.domain.change import Change
from mergescale.domain.snapshot import Snapshot
from mergescale.fanout.mailbox import Mailbox, Step
from mergescale.kernel.errors import LocalProtocolError
from mergescale.kernel.ids import NodeId, Revision
from support.worlds import world

BASE = world("alice@example.com: laptop")


def revision(number: int) -> Snapshot:
    return replace(BASE, revision=Revision(number))


def change(node: int) -> Change:
    return Change(nodes=frozenset({NodeId(node)}))


ONE, TWO, THREE = revision(1), revision(2), revision(3)


def settled(snapshot: Snapshot) -> Mailbox:
    """Return the mailbox of a client that holds the full map of the snapshot."""
    mailbox = Mailbox(snapshot)
    mailbox.first()
    mailbox.delivered()
    return mailbox


def test_the_first_map_is_the_newest() -> None:
    """What was published before the client asked is in its first map, not in a delta."""
    mailbox = Mailbox(ONE)
    assert mailbox.post(TWO, change(1), concerned=True) is False
    assert mailbox.first() is TWO
    mailbox.delivered()
    assert not mailbox.waiting


def test_a_settled_client_wakes_once() -> None:
    """Further publications fold into the one step that is pending."""
    mailbox = settled(ONE)
    assert mailbox.post(TWO, change(1), concerned=True) is True
    assert mailbox.post(THREE, change(2), concerned=True) is False
    assert mailbox.take() == Step(ONE, THREE, change(1) | change(2))


def test_a_settled_client_that_is_not_concerned_moves_on_silently() -> None:
    """It holds the newest map already, so later steps start there."""
    mailbox = settled(ONE)
    assert mailbox.post(TWO, change(1), concerned=False) is False
    assert not mailbox.waiting
    mailbox.post(THREE, change(2), concerned=True)
    assert mailbox.take() == Step(TWO, THREE, change(2))


def test_what_comes_while_a_message_is_under_way_waits_for_it() -> None:
    """INVARIANT(ledger): the next step starts at what was delivered, and names all since."""
    mailbox = settled(ONE)
    mailbox.post(TWO, change(1), concerned=True)
    mailbox.take()
    assert mailbox.post(THREE, change(2), concerned=False) is False
    assert not mailbox.waiting
    mailbox.delivered()
    assert mailbox.waiting
    assert mailbox.take() == Step(TWO, THREE, change(2))


def test_what_comes_during_the_first_write_is_the_first_delta() -> None:
    """The full map may take long to write; nothing published meanwhile is lost."""
    mailbox = Mailbox(ONE)
    mailbox.first()
    assert mailbox.post(TWO, change(1), concerned=False) is False
    mailbox.delivered()
    assert mailbox.take() == Step(ONE, TWO, change(1))


def test_one_message_at_a_time() -> None:
    """Taking before the last one was delivered is a mistake of ours."""
    mailbox = Mailbox(ONE)
    with pytest.raises(LocalProtocolError):
        mailbox.take()
    mailbox.first()
    with pytest.raises(LocalProtocolError):
        mailbox.first()
    with pytest.raises(LocalProtocolError):
        mailbox.take()

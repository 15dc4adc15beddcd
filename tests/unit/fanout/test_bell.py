"""Who is woken when a login is decided."""

from __future__ import annotations

from mergescale.domain.change import Change
from mergescale.fanout.bell import LoginBell
from mergescale.kernel.ids import LoginId
from support.worlds import world

ONE, OTHER = LoginId("one"), LoginId("other")
SNAPSHOT = world("")


def ring(bell: LoginBell, *logins: LoginId) -> None:
    bell.publish(SNAPSHOT, SNAPSHOT, Change(logins=frozenset(logins)))


def test_everybody_at_a_login_is_woken_and_nobody_else() -> None:
    """Two may wait at one login: a connection that broke, and the one after it."""
    bell = LoginBell()
    with bell.at(ONE) as first, bell.at(ONE) as second, bell.at(OTHER) as other:
        ring(bell, ONE)
        assert [event.is_set() for event in (first, second, other)] == [True, True, False]
        ring(bell, OTHER, LoginId("nobody's"))
        assert other.is_set()


def test_what_happened_before_is_not_heard() -> None:
    """Whoever listens looks at the snapshot after it began to."""
    bell = LoginBell()
    ring(bell, ONE)
    with bell.at(ONE) as late:
        assert not late.is_set()


def test_who_left_is_forgotten() -> None:
    """One who leaves takes nobody along, and the last leaves nothing behind."""
    bell = LoginBell()
    with bell.at(ONE) as stays:
        with bell.at(ONE):
            pass
        ring(bell, ONE)
        assert stays.is_set()
    assert bell._waiting == {}

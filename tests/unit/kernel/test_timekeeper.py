"""What the server takes for the time when the system's clock steps."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergescale.kernel.timekeeper import CONFIRM_S, DOWNTIME, TOLERANCE, Timekeeper
from support.clock import START

HOUR, TEN_YEARS = timedelta(hours=1), timedelta(days=3650)
STEPS = [HOUR, TEN_YEARS]


class Machine:
    """A machine with a server on it; `step` is an administrator, `run` is time."""

    def __init__(self, stored: datetime | None = None, confirm_s: float = CONFIRM_S) -> None:
        self.wall, self.steady_s = START, 1000.0
        self.keeper = Timekeeper(self.wall, self.steady_s, stored=stored, confirm_s=confirm_s)

    def step(self, by: timedelta) -> datetime:
        self.wall += by
        return self.keeper.read(self.wall, self.steady_s)

    def run(self, seconds: float) -> datetime:
        self.wall += timedelta(seconds=seconds)
        self.steady_s += seconds
        return self.keeper.read(self.wall, self.steady_s)


def test_without_a_step_it_is_the_systems_clock() -> None:
    """An hour, a leap second and a correction of an NTP client later."""
    machine = Machine()
    assert machine.run(3600) == machine.wall
    assert machine.step(timedelta(seconds=1)) == machine.wall
    assert machine.step(TOLERANCE) == machine.wall
    assert not machine.keeper.doubted


@pytest.mark.parametrize("by", STEPS, ids=str)
def test_a_step_forward_waits_for_its_confirmation(by: timedelta) -> None:
    """Time goes on by the seconds that passed, and follows once the window is over."""
    machine = Machine()
    assert machine.step(by) == START
    assert machine.keeper.ahead == by
    assert machine.run(CONFIRM_S - 1) == START + timedelta(seconds=CONFIRM_S - 1)
    assert machine.keeper.doubted
    assert machine.run(1) == START + by + timedelta(seconds=CONFIRM_S)
    assert not machine.keeper.doubted


@pytest.mark.parametrize("by", STEPS, ids=str)
def test_a_step_forward_that_is_taken_back_never_was(by: timedelta) -> None:
    """Within the window; another one after it has a window of its own."""
    machine = Machine()
    machine.step(by)
    machine.run(CONFIRM_S - 1)
    assert machine.step(-by) == machine.wall
    assert not machine.keeper.doubted
    before = machine.step(by)
    assert machine.run(CONFIRM_S - 1) == before + timedelta(seconds=CONFIRM_S - 1)


def test_a_clock_that_keeps_stepping_is_never_believed() -> None:
    """Each step begins the window anew: what jumps about is no clock."""
    machine = Machine()
    for number in range(5):
        machine.step(HOUR)
        seconds = (number + 1) * (CONFIRM_S - 1)
        assert machine.run(CONFIRM_S - 1) == START + timedelta(seconds=seconds)


@pytest.mark.parametrize("by", STEPS, ids=str)
def test_a_step_back_slows_time_down(by: timedelta) -> None:
    """It never goes back, goes on at half speed, and is the system's clock when that catches up."""
    machine = Machine()
    assert machine.step(-by) == START
    assert machine.keeper.ahead == -by
    assert machine.run(600) == START + timedelta(seconds=300)
    assert machine.run(2 * by.total_seconds() - 600) == machine.wall == START + by
    assert not machine.keeper.doubted


def test_a_restart_goes_on_from_what_is_stored() -> None:
    """A clock that is behind the newest stored moment does not bring back what had expired."""
    machine = Machine(stored=START + HOUR)
    assert machine.run(60) == START + HOUR + timedelta(seconds=30)


def test_a_start_after_an_ordinary_downtime_believes_the_clock() -> None:
    """A weekend, or a month, is what a server is off for."""
    machine = Machine(stored=START - DOWNTIME)
    assert machine.run(1) == machine.wall


def test_a_start_years_later_waits_for_its_confirmation() -> None:
    """A machine whose clock is wrong at boot expires nothing before it was put right."""
    stored = START - TEN_YEARS
    machine = Machine(stored=stored)
    assert machine.run(5) == stored + timedelta(seconds=5)
    assert machine.step(-TEN_YEARS) == machine.wall


def test_who_wants_no_window_has_none() -> None:
    """With a confirmation of no seconds every step forward counts at once."""
    machine = Machine(confirm_s=0)
    assert machine.step(TEN_YEARS) == machine.wall


@given(
    st.lists(
        st.tuples(
            st.sampled_from([-TEN_YEARS, -HOUR, -TOLERANCE, timedelta(), TOLERANCE, HOUR]),
            st.floats(0, 2 * CONFIRM_S),
        ),
        max_size=20,
    )
)
def test_time_only_grows_and_never_by_more_than_was_confirmed(
    story: list[tuple[timedelta, float]],
) -> None:
    """Whatever becomes of the clock: no answer before an earlier one, none ahead of both clocks."""
    machine = Machine()
    last = START
    for by, seconds in story:
        for now in (machine.step(by), machine.run(seconds)):
            assert last <= now <= max(machine.wall, last + timedelta(seconds=seconds))
            last = now

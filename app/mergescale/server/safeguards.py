"""What an operator demands of commits: the settings of gates and freeze windows."""

from __future__ import annotations

from datetime import UTC, date, time, tzinfo
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mergescale.gitops.freeze import Window
from mergescale.gitops.gates import Safeguards
from mergescale.plan.gates import Demand, Limits

_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
Day = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


def _lowered(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _time(value: Any) -> Any:
    """Take the end of a day as it is written, too."""
    return "00:00" if value == "24:00" else value


def _plain(value: time) -> time:
    if value.tzinfo is not None:
        raise ValueError("a time without a zone was expected; the zone is `timezone`")
    return value


def _zone(name: str) -> str:
    zone_of(name)
    return name


def zone_of(name: str) -> tzinfo:
    """Return a time zone of the IANA database; UTC is known without it.

    Raises:
        ValueError: there is none of that name.
    """
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (LookupError, OSError, ValueError):
        raise ValueError(f'"{name}" is no time zone of this machine') from None


WallTime = Annotated[time, BeforeValidator(_time), AfterValidator(_plain)]


class GateSettings(BaseModel, frozen=True, extra="forbid"):
    """Which gates there are; see `plan.gates.Limits`, whose defaults they have."""

    empty: bool = Limits().empty
    lockout: bool = Limits().lockout
    blast_percent: float = Field(default=Limits().blast_percent, ge=0, le=100)
    tests: Demand = Limits().tests

    @property
    def limits(self) -> Limits:
        """The same for the gates."""
        return Limits(self.empty, self.lockout, self.blast_percent, self.tests)


class FreezeSettings(BaseModel):
    """A freeze window.

    Attributes:
        days: on which it begins; none named: every day.
        start, end: ``from`` and ``to`` in the configuration: times of the wall clock.
        timezone: whose wall clock.
        first, last: days of the calendar, both included.
        reason: shown with the status.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    days: tuple[Annotated[Day, BeforeValidator(_lowered)], ...] = ()
    start: WallTime = Field(default=time(0), alias="from")
    end: WallTime = Field(default=time(0), alias="to")
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    first: date | None = None
    last: date | None = None
    reason: str = Field(default="", max_length=200)

    @model_validator(mode="after")
    def _holds_at_all(self) -> FreezeSettings:
        if self.first is None or self.last is None:
            return self
        # Every day of the week comes within seven.
        begin = self.first.toordinal()
        week = range(begin, min(self.last.toordinal(), begin + 6) + 1)
        if self.window.days.isdisjoint(date.fromordinal(day).weekday() for day in week):
            raise ValueError("none of `days` is between `first` and `last`")
        return self

    @property
    def window(self) -> Window:
        """The same for whoever asks it about a moment."""
        return Window(
            days=frozenset(map(_DAYS.index, self.days or _DAYS)),
            start=self.start,
            end=self.end,
            zone=zone_of(self.timezone),
            reason=self.reason,
            first=self.first,
            last=self.last,
        )


def safeguards(gates: GateSettings, freeze: tuple[FreezeSettings, ...]) -> Safeguards:
    """Return what the reconciler asks."""
    return Safeguards(gates.limits, tuple(one.window for one in freeze))

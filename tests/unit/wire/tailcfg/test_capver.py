"""Whom we serve (spec 8)."""

from __future__ import annotations

from mergescale.wire.tailcfg import capver


def test_clients_from_106_on_are_served() -> None:
    """The minimum is included; versions newer than any we read are served too."""
    assert [capver.is_supported(v) for v in (0, 105, 106, 145, 400)] == [
        False,
        False,
        True,
        True,
        True,
    ]


def test_the_refusal_names_the_minimum() -> None:
    """The user reads which release to update to."""
    assert capver.refuse_text(90) == (
        "this client is too old (capability version 90): "
        "update to Tailscale 1.74 (capability version 106) or later"
    )


def test_thresholds_lie_between_minimum_and_current() -> None:
    """A name for what every served version understands would be dead."""
    thresholds = {
        name: value
        for name, value in vars(capver).items()
        if isinstance(value, int) and name not in {"MINIMUM", "CURRENT"}
    }
    assert thresholds
    assert [n for n, v in thresholds.items() if not capver.MINIMUM < v <= capver.CURRENT] == []

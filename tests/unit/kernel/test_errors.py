from __future__ import annotations

from mergescale.kernel import errors
from mergescale.kernel.errors import MergescaleError, NotFound, Refusal


def test_error_carries_message_and_help() -> None:
    """An error has a text for people, one sentence on what to do, and a stable code."""
    error = NotFound("no such node", help="list them")
    assert (str(error), error.message, error.help, error.code) == (
        "no such node",
        "no such node",
        "list them",
        "not-found",
    )
    assert isinstance(error, Refusal)


def test_codes_tell_errors_apart() -> None:
    """Every class has a code of its own, lower case and dotted."""
    classes = [
        thing
        for thing in vars(errors).values()
        if isinstance(thing, type) and issubclass(thing, MergescaleError)
    ]
    codes = [thing.code for thing in classes]
    assert len(set(codes)) == len(codes) >= 9
    assert all(code == code.lower() and " " not in code for code in codes)

"""How long remotes are left alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from msgspec import structs

from mergescale.gitops.git.limits import Limits
from mergescale.gitops.git.messages import Failed, Request
from mergescale.gitops.git.patience import patient, recall, remember, traced

UNREACHABLE = Failed(retry=True, reason="Unreachable", message="the repository is out of reach")
TOO_LARGE = Failed(retry=False, reason="TooLarge", message="too much")
REQUEST = Request(
    url="https://git.example.com/x",
    transport="https",
    ref="refs/heads/main",
    folder="",
    store="/srv/policy.git",
    known="",
    applied="",
    timeout_s=60,
)
_SAID = "fatal: unable to access 'https://h/': The requested URL returned error: "


def waits(folder: Path, code: int, *headers: str) -> float:
    """Return how long is waited after an answer with these headers."""
    trace = folder / "headers"
    start = "10:00:00.000001 http.c:698              "
    trace.write_text("".join(f"{start}<= Recv header: {one}\n" for one in headers))
    return patient(UNREACHABLE, f"{_SAID}{code}\n", trace).retry_after_s


@pytest.mark.parametrize(
    ("code", "headers", "expected"),
    [
        (429, ["HTTP/1.1 429 Too Many Requests", "Retry-After: 120"], 120),
        (429, ["HTTP/2 429", "retry-after: 7"], 7),
        (429, ["Retry-After: 5", "Retry-After: 9"], 9),
        (429, [], 60),
        (429, ["Retry-After: soon"], 60),
        (429, ["Retry-After: -5"], 60),
        (429, ["Retry-After: 0"], 1),
        (429, ["Retry-After: 99999999"], 3600),
        (429, ["Retry-After: Thu, 01 Jan 1970 00:00:00 GMT"], 1),
        (429, ["X-Retry-After: 7"], 60),
        (503, ["Retry-After: 30"], 30),
        (503, [], 0),
        (500, ["Retry-After: 30"], 0),
    ],
)
def test_what_the_server_asks_for_is_read_from_the_headers(
    tmp_path: Path, code: int, headers: list[str], expected: float
) -> None:
    """Within an hour, and never less than a second; a minute where it does not say."""
    assert waits(tmp_path, code, *headers) == expected


def test_a_date_is_a_time_to_wait_for(tmp_path: Path) -> None:
    """RFC 9110 allows both."""
    later = datetime.now(UTC) + timedelta(seconds=600)  # noqa: TID251 - what the worker goes by
    wait_s = waits(tmp_path, 429, f"Retry-After: {format_datetime(later, usegmt=True)}")
    assert 500 < wait_s <= 600


def test_without_headers_nothing_is_made_up(tmp_path: Path) -> None:
    """Other failures stay what they are."""
    assert patient(UNREACHABLE, "fatal: early EOF", tmp_path / "none") is UNREACHABLE


def test_git_leaves_credentials_out_of_what_it_writes(tmp_path: Path) -> None:
    """Its own switch for that is on, and bodies are not written."""
    assert traced(tmp_path) == {
        "GIT_TRACE_CURL": str(tmp_path),
        "GIT_TRACE_CURL_NO_DATA": "1",
        "GIT_TRACE_REDACT": "1",
    }


def test_what_was_too_large_is_remembered_for_this_commit_and_these_limits(tmp_path: Path) -> None:
    """The address is not in the file, as it may name what nobody else should know."""
    place = tmp_path / "refused"
    assert recall(place, REQUEST, "1" * 40) is None
    assert remember(place, REQUEST, "1" * 40, TOO_LARGE) is TOO_LARGE
    assert recall(place, REQUEST, "1" * 40) == TOO_LARGE
    assert recall(place, REQUEST, "2" * 40) is None
    assert recall(place, structs.replace(REQUEST, limits=Limits(files=1)), "1" * 40) is None
    assert "example" not in place.read_text()
    place.write_bytes(b"{")
    assert recall(place, REQUEST, "1" * 40) is None

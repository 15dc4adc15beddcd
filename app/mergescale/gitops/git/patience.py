"""How long a remote asks to be left alone, and what it would be of no use to ask it again.

Git says that an https server refused, but not for how long. Its trace of the headers does; it goes
to a file that is removed with the look, with credentials left out by git itself (GIT_TRACE_REDACT).
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import structs

from mergescale.gitops.git.messages import Failed, Request
from mergescale.gitops.waits import asked_s, bounded_s

#: LIMIT: seconds for which something too large is not transferred again.
_TRUSTED_S: Final = 3600.0
_MOST_TRACED: Final = 1 << 20

_HEADER: Final = re.compile(rb"<= Recv header: retry-after: ([^\r\n]{1,64})", re.IGNORECASE)
_LIMITED: Final = re.compile(r"returned error: 429")
_BUSY: Final = re.compile(r"returned error: 503")


def traced(trace: Path) -> Mapping[str, str]:
    """Return the variables that have git write the headers of answers to a file."""
    return {
        "GIT_TRACE_CURL": str(trace),
        "GIT_TRACE_CURL_NO_DATA": "1",
        "GIT_TRACE_REDACT": "1",
    }


def patient(failed: Failed, stderr: str, trace: Path) -> Failed:
    """Say how long to wait, if the remote asked for that.

    Args:
        failed: what is said of the failure otherwise.
        stderr: git's words.
        trace: where the headers are, if there were any.
    """
    limited = _LIMITED.search(stderr) is not None
    wanted_s = _traced_s(trace) if limited or _BUSY.search(stderr) else None
    if wanted_s is None and not limited:
        return failed
    wait_s = bounded_s(wanted_s)
    return Failed(
        retry=True,
        reason="RateLimited" if limited else failed.reason,
        message=f"the repository's server asks to be left alone for {wait_s:.0f} s",
        help="the policy in force stays; look less often (poll_s) if this lasts",
        retry_after_s=wait_s,
    )


def _traced_s(trace: Path) -> float | None:
    """Return what the last answer asks for."""
    try:
        with trace.open("rb") as headers:
            found = _HEADER.findall(headers.read(_MOST_TRACED))
    except OSError:
        return None
    if not found:
        return None
    return asked_s(found[-1].decode("latin-1"), time.time())  # noqa: TID251 - the worker's


class _Refused(msgspec.Struct, frozen=True):
    """What was too large, and until when that is believed (seconds since 1970)."""

    of: str
    until: float
    failed: Failed


def recall(place: Path, request: Request, commit: str) -> Failed | None:
    """Return what was said of a commit that was too large to be transferred; None if it was not.

    Args:
        place: where it is kept.
        request: under other limits it may be something else.
        commit: its id.
    """
    try:
        kept = msgspec.json.decode(place.read_bytes(), type=_Refused)
    except (OSError, msgspec.DecodeError):
        return None
    good = kept.of == _named(request, commit) and time.time() < kept.until  # noqa: TID251 - as above
    return kept.failed if good else None


def remember(place: Path, request: Request, commit: str, failed: Failed) -> Failed:
    """Keep that a commit was too large; return what is said of it."""
    until = time.time() + _TRUSTED_S  # noqa: TID251 - as above
    place.write_bytes(msgspec.json.encode(_Refused(_named(request, commit), until, failed)))
    return failed


def _named(request: Request, commit: str) -> str:
    """Return what stands for a commit under these limits, without telling the address."""
    facts = (request.url, commit, structs.asdict(request.limits))
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()

"""Why a commit could not be brought into force, sorted by what to do next.

Messages are our own words: what git or the remote printed is never repeated in them, because it
may hold URLs, credentials or terminal sequences.
"""

from __future__ import annotations

from mergescale.kernel.errors import MergescaleError


class ReconcileError(MergescaleError):
    """Root of the family.

    Attributes:
        reason: one CamelCase word for conditions, metrics and alerts.
    """

    code = "gitops"

    def __init__(self, reason: str, message: str, *, help: str = "") -> None:  # noqa: A002
        super().__init__(message, help=help)
        self.reason = reason


class Stalled(ReconcileError):
    """Raised when only a new commit or a changed configuration helps; no quick retries."""

    code = "gitops.stalled"


class HeldBack(Stalled):
    """Raised when a good commit is not to come into force by itself, by what operators said.

    Its reason is ``Overridden``, ``Pinned``, ``Suspended``, ``Skipped``, ``GateRefused`` or
    ``Frozen``.
    """

    code = "gitops.held-back"


class Waiting(ReconcileError):
    """Raised when somebody said how long to wait.

    Attributes:
        retry_after_s: seconds until the next attempt makes sense.
    """

    code = "gitops.waiting"

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        retry_after_s: float,
        help: str = "",  # noqa: A002
    ) -> None:
        super().__init__(reason, message, help=help)
        self.retry_after_s = retry_after_s


class Transient(ReconcileError):
    """Raised when the same attempt may well succeed later; retried with growing pauses."""

    code = "gitops.transient"

"""The root error and the three families below it.

* Protocol errors say whose fault a broken conversation was (``RemoteProtocolError``,
  ``LocalProtocolError``). What the peer sent is never echoed in the message.
* Refusals are the domain saying no. ``api.problems`` maps them to HTTP in one table.
* Reconcile errors say what to do next; they live in ``gitops.errors``.

A message is lower case, has no full stop, quotes user input in backticks or quotes, and never
holds a secret or a query string.
"""

from __future__ import annotations


class MergescaleError(Exception):
    """Root of all errors that Mergescale raises on purpose.

    Attributes:
        code: stable, dotted, lower case; part of the public API.
        help: one sentence on what to do, or empty.
    """

    code = "error"

    def __init__(self, message: str, *, help: str = "") -> None:  # noqa: A002 - the field's word
        super().__init__(message)
        self.message = message
        self.help = help


class ProtocolError(MergescaleError):
    """A conversation that cannot go on."""

    code = "protocol"


class RemoteProtocolError(ProtocolError):
    """Raised when the peer broke the protocol; close the connection."""

    code = "protocol.remote"


class LocalProtocolError(ProtocolError):
    """Raised when our own code used a state machine wrongly; a bug here."""

    code = "protocol.local"


class Refusal(MergescaleError):
    """Raised when the domain says no; nothing changed."""

    code = "refused"


class NotFound(Refusal):
    """Raised when the thing named does not exist (or the caller may not know of it)."""

    code = "not-found"


class Conflict(Refusal):
    """Raised when the thing exists already or is in use."""

    code = "conflict"


class Invalid(Refusal):
    """Raised when a value asked for is not acceptable."""

    code = "invalid"


class Unauthorized(Refusal):
    """Raised when the caller did not prove who it is."""

    code = "unauthorized"


class Forbidden(Refusal):
    """Raised when the caller is known and may not do this."""

    code = "forbidden"

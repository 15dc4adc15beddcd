"""Entries of ``ssh`` and ``sshTests`` as they were written, typed and with places."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from mergescale.policy.diagnostics import Span
from mergescale.policy.selectors import Selector

ROOT: Final = "root"
#: Every local user but root.
NONROOT: Final = "autogroup:nonroot"


@dataclass(frozen=True, slots=True)
class Logins:
    """As whom the sources of a rule may log in.

    Attributes:
        named: local users, in order.
        nonroot: any local user but root.
        domain: everybody of this domain as the part of the own login before the ``@``; empty for
            nobody.
    """

    named: tuple[str, ...]
    nonroot: bool = False
    domain: str = ""

    def mapping(self) -> dict[str, str]:
        """Return what does not depend on the source: requested user -> local user.

        SPEC(hosted service): root is always there; empty says that this rule does not match it.
        """
        found = {ROOT: ""} | {name: name for name in self.named}
        return found | {"*": "="} if self.nonroot else found

    def local_part(self, login: str) -> str:
        """Return the user that a login of the domain stands for, empty for any other login."""
        name, _, domain = login.partition("@")
        return name if self.domain and domain.casefold() == self.domain.casefold() else ""


def admits(mapping: dict[str, str], user: str) -> bool:
    """Say whether a client lets the requested user in under this mapping (spec 5.2)."""
    return mapping.get(user, mapping.get("*", "")) != ""


@dataclass(frozen=True, slots=True)
class SshEntry:
    """One entry of ``ssh``.

    Attributes:
        check_period: None for the action ``accept``; zero for ``always``.
        recorders: tags of the nodes that record sessions.
        recorded: ``enforceRecorder``.
        origin: where the entry stands.
    """

    sources: tuple[Selector, ...]
    targets: tuple[Selector, ...]
    logins: Logins
    origin: Span = field(compare=False)
    check_period: timedelta | None = None
    accept_env: tuple[str, ...] = ()
    recorders: tuple[Selector, ...] = ()
    recorded: bool = False


@dataclass(frozen=True, slots=True)
class SshTarget:
    """One ``dst`` of a test, with what was written for messages."""

    selector: Selector
    text: str


@dataclass(frozen=True, slots=True)
class Expected:
    """One user of ``accept``, ``check`` or ``deny`` of a test."""

    user: str
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class SshTest:
    """One entry of ``sshTests``.

    Attributes:
        accept: users who get in without a check.
        check: users who get in after one.
        deny: users who do not get in.
    """

    source: Selector
    targets: tuple[SshTarget, ...]
    accept: tuple[Expected, ...]
    check: tuple[Expected, ...]
    deny: tuple[Expected, ...]
    span: Span = field(compare=False)

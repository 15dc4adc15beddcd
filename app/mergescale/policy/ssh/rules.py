"""Entries of ``ssh`` -> `SshEntry`.

SPEC(hosted service): white space around selectors, actions and users does not count; ``null`` is
an absent field; an entry without sources or destinations is legal and grants nothing.

SPEC(published documentation): people reach their own devices and tagged ones, tagged devices
reach tagged ones. Nobody is let into another person's devices, so ``*``, hosts and addresses are
no destinations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from mergescale.policy.diagnostics import quoted
from mergescale.policy.fields import expect, fields, string, texts
from mergescale.policy.hujson import Kind, Value
from mergescale.policy.scope import Scope, is_person
from mergescale.policy.selectors import (
    Autogroup,
    DomainUsers,
    Group,
    Malformed,
    Selector,
    Tag,
    User,
    parse_selector,
)
from mergescale.policy.ssh.document import NONROOT, Logins, SshEntry
from mergescale.policy.ssh.durations import HOUR, MINUTE, duration_text, parse_duration

_FIELDS: Final = (
    "action",
    "src",
    "dst",
    "users",
    "checkPeriod",
    "acceptEnv",
    "recorder",
    "enforceRecorder",
)
_ACTIONS: Final = ("accept", "check")
_DEFAULT_PERIOD: Final = timedelta(hours=12)
_MIN_PERIOD, _MAX_PERIOD = MINUTE, 168 * HOUR
#: Everybody of a domain, as the part of their login before the ``@``.
_LOCAL_PARTS: Final = re.compile(r"localpart:\*@(\S+)")
_NO_SOURCES: Final = frozenset({"self", "internet", "danger-all"})
#: WIRE(rust): no string that a client reads may need an escape.
_UNSAID: Final = re.compile(r'["\\]')
_DST_HELP: Final = "name tags, autogroup:tagged, autogroup:self, or the one user that src names"


def read_ssh(value: Value, scope: Scope) -> SshEntry | None:
    """Read one entry of ``ssh``; None when what it grants can not be told."""
    found = fields(value, scope.report, what="ssh", known=_FIELDS)
    action = _action(value, found.get("action"), scope)
    logins = _logins(value, found.get("users"), scope)
    sources = tuple(_sources(found.get("src"), scope))
    targets = tuple(_targets(found.get("dst"), scope))
    _check_pairs(sources, targets, scope)
    period = _period(found.get("checkPeriod"), scope)
    recorders = tuple(_recorders(found.get("recorder"), scope))
    recorded = _recorded(found.get("enforceRecorder"), recorders, scope)
    if action is None or logins is None:
        return None
    return SshEntry(
        sources=sources,
        targets=targets,
        logins=logins,
        origin=value.span,
        check_period=period if action == "check" else None,
        accept_env=tuple(_accept_env(found.get("acceptEnv"), scope)),
        recorders=recorders,
        recorded=recorded,
    )


def is_login(user: str) -> bool:
    """Say whether the text can be the name of a local user in a policy."""
    return user not in {"", "*"} and user.isprintable() and not _UNSAID.search(user)


def _action(entry: Value, value: Value | None, scope: Scope) -> str | None:
    text = (string(value, scope.report, "action") or "").strip()
    help_ = 'write "accept" or "check"'
    if text in _ACTIONS:
        return text
    where = entry.span if value is None else value.span
    if text:
        message = f"{quoted(text)} is not a valid action"
        scope.report.error("policy.ssh-action", where, message, help_)
    elif value is None or value.kind is Kind.STRING:
        scope.report.error("policy.ssh-action", where, "action must be specified", help_)
    return None


def _logins(entry: Value, value: Value | None, scope: Scope) -> Logins | None:
    written = texts(value, scope.report, "users")
    if value is None or (value.kind is Kind.ARRAY and not value.items):
        where = entry.span if value is None else value.span
        help_ = "name local users, e.g. root or autogroup:nonroot"
        scope.report.error("policy.ssh-users", where, "users must be specified", help_)
        return None
    named: list[str] = []
    nonroot, domain = False, ""
    for text, one in written:
        user = text.strip()
        local_parts = _LOCAL_PARTS.fullmatch(user)
        if local_parts and scope.domain_known(local_parts[1], one.span):
            domain = local_parts[1]
        elif user == NONROOT:
            nonroot = True
        elif local_parts is None and is_login(user):
            named.append(user)
        elif local_parts is None:
            message = f"user {quoted(user)} is not valid"
            scope.report.error("policy.ssh-users", one.span, message, "name a local user")
    return Logins(tuple(dict.fromkeys(named)), nonroot, domain)


def _sources(value: Value | None, scope: Scope) -> Iterator[Selector]:
    for text, one in texts(value, scope.report, "src"):
        name = text.strip()
        match parse_selector(name, one.span):
            case DomainUsers(domain) as selector:
                if scope.domain_known(domain, one.span, "[ssh] "):
                    yield selector
            case User() | Group() | Tag() | Malformed():
                yield from _declared(name, one, "src", scope)
            case Autogroup(autogroup) if autogroup not in _NO_SOURCES:
                yield from _declared(name, one, "src", scope)
            case _:
                message = f"invalid src {quoted(name)}"
                help_ = "name users, groups, tags or autogroups of them"
                scope.report.error("policy.ssh-src", one.span, message, help_)


def _declared(name: str, value: Value, side: str, scope: Scope) -> Iterator[Selector]:
    selector = scope.selector(name, value.span, prefix=f"{side}={quoted(name)}: ")
    if selector is not None:
        yield selector


def _targets(value: Value | None, scope: Scope) -> Iterator[Selector]:
    for text, one in texts(value, scope.report, "dst"):
        name = text.strip()
        match parse_selector(name, one.span):
            case Tag() | User() | Autogroup("self" | "tagged"):
                yield from _declared(name, one, "dst", scope)
            case _:
                message = f"invalid dst {quoted(name)}"
                scope.report.error("policy.ssh-dst", one.span, message, _DST_HELP)


def _check_pairs(
    sources: tuple[Selector, ...], targets: tuple[Selector, ...], scope: Scope
) -> None:
    """Refuse what would let somebody into another person's devices."""
    for target in targets:
        match target:
            case Autogroup("self"):
                misplaced = [one for one in sources if not is_person(one)]
                message = (
                    "autogroup:self can only be used with users, groups, or autogroups of them"
                )
            case User():
                misplaced = [one for one in sources if one != target]
                message = f"dst {quoted(str(target))} can only be used with that same user as src"
            case _:
                continue
        for one in misplaced:
            help_ = "use autogroup:self, or tag the devices that others may log in to"
            scope.report.error("policy.ssh-dst", one.span, message, help_)


def _period(value: Value | None, scope: Scope) -> timedelta:
    text = string(value, scope.report, "checkPeriod")
    if value is None or not text:
        return _DEFAULT_PERIOD
    if text == "always":
        return timedelta(0)
    found = parse_duration(text)
    problem = found if isinstance(found, str) else _outside(found)
    if problem:
        help_ = 'write "always" or a duration from 1m to 168h, e.g. "12h"'
        scope.report.error("policy.ssh-period", value.span, problem, help_)
    return timedelta(microseconds=found // 1_000) if isinstance(found, int) else _DEFAULT_PERIOD


def _outside(period: int) -> str:
    if period > _MAX_PERIOD:
        return f"checkPeriod {duration_text(period)} is above the max (168h)"
    if period < _MIN_PERIOD:
        return f"checkPeriod {duration_text(period)} is below the min (1m)"
    return ""


def _accept_env(value: Value | None, scope: Scope) -> Iterator[str]:
    for text, one in texts(value, scope.report, "acceptEnv"):
        if text.isprintable() and not _UNSAID.search(text):
            yield text
        else:
            message = f"acceptEnv {quoted(text)} is not valid"
            help_ = "write names of variables, with * and ? for any characters"
            scope.report.error("policy.ssh-env", one.span, message, help_)


def _recorders(value: Value | None, scope: Scope) -> Iterator[Selector]:
    for text, one in texts(value, scope.report, "recorder"):
        name = text.strip()
        match parse_selector(name, one.span):
            case Tag():
                yield from _declared(name, one, "recorder", scope)
            case _:
                message = f"invalid recorder {quoted(name)}"
                scope.report.error("policy.ssh-recorder", one.span, message, "name a tag")


def _recorded(value: Value | None, recorders: tuple[Selector, ...], scope: Scope) -> bool:
    if value is None or not expect(value, Kind.BOOLEAN, scope.report, "enforceRecorder"):
        return False
    recorded = bool(value.scalar)
    if recorded and not recorders:
        message = "enforceRecorder needs a recorder"
        scope.report.error("policy.ssh-recorder", value.span, message, 'add "recorder": ["tag:…"]')
    return recorded

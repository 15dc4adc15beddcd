"""Entries of ``sshTests`` -> `SshTest`.

A test names one source, destinations, and local users that get in at once (``accept``), after a
check (``check``) or not at all (``deny``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mergescale.policy.diagnostics import Span, quoted
from mergescale.policy.fields import fields, string, texts
from mergescale.policy.hujson import Value
from mergescale.policy.scope import Scope
from mergescale.policy.selectors import (
    Autogroup,
    Group,
    Host,
    Net,
    Selector,
    Tag,
    User,
    parse_selector,
)
from mergescale.policy.ssh.document import Expected, SshTarget, SshTest
from mergescale.policy.ssh.rules import is_login

FAILED: Final = "test(s) failed: "
_FIELDS: Final = ("src", "dst", "accept", "check", "deny")
_HELP: Final = "name a user, group, tag, host or address"
_DISALLOWED: Final = "disallowed element"
_NO_DEVICES: Final = frozenset({"self", "internet", "danger-all"})


def read_ssh_test(value: Value, scope: Scope) -> SshTest | None:
    """Read one entry of ``sshTests``; None when it is reported."""
    found = fields(value, scope.report, what="sshTests", known=_FIELDS)
    source = _source(value, found.get("src"), scope)
    targets = tuple(_targets(found.get("dst"), scope))
    accept, check, deny = (
        tuple(_users(found.get(name), name, scope)) for name in ("accept", "check", "deny")
    )
    if not found.keys() & {"accept", "check", "deny"}:
        message = FAILED + "the test has neither accept, check nor deny"
        scope.report.error("policy.ssh-test", value.span, message)
    if source is None:
        return None
    return SshTest(source, targets, accept, check, deny, value.span)


def _source(test: Value, value: Value | None, scope: Scope) -> Selector | None:
    text = (string(value, scope.report, "src") or "").strip()
    where = test.span if value is None else value.span
    problem = FAILED + "the test has no src"
    if text:
        selector = _device(text, where, scope)
        if not isinstance(selector, str):
            return selector
        problem = f"SSH tests src contains {selector} {quoted(text)}"
    scope.report.error("policy.ssh-test", where, problem, _HELP)
    return None


def _targets(value: Value | None, scope: Scope) -> Iterator[SshTarget]:
    for written, one in texts(value, scope.report, "dst"):
        text = written.strip()
        selector = _device(text, one.span, scope)
        if isinstance(selector, Autogroup):
            selector = _DISALLOWED
        if isinstance(selector, str):
            message = f"SSH tests dst contains {selector} {quoted(text)}"
            scope.report.error("policy.ssh-test", one.span, message, _HELP)
        else:
            yield SshTarget(selector, text)


def _device(text: str, span: Span, scope: Scope) -> Selector | str:
    """Read what stands for a device or a kind of device; a text says what is wrong."""
    if text.startswith("tag:") and text not in scope.tags:
        return "unknown tag"
    if text.startswith("group:") and text not in scope.groups:
        return "unknown group"
    selector = parse_selector(text, span)
    match selector:
        case Net(found) if found.first == found.last and "/" not in text:
            return selector
        case Host(name) if name not in scope.hosts:
            return "unknown host"
        case Host(name) if scope.hosts[name].first == scope.hosts[name].last:
            return selector
        case Autogroup(name) if name not in _NO_DEVICES:
            return selector
        case User(login):
            scope.login(login, span)
            return selector
        case Tag() | Group():
            return selector
        case _:
            return _DISALLOWED


def _users(value: Value | None, name: str, scope: Scope) -> Iterator[Expected]:
    for text, one in texts(value, scope.report, name):
        user = text.strip()
        if is_login(user):
            yield Expected(user, one.span)
        else:
            message = f"user {quoted(user)} is not valid"
            scope.report.error("policy.ssh-users", one.span, message, "name a local user")

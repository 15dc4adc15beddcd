"""Entries of ``tests`` -> `PolicyTest`.

A test's destination is one device or one kind of device and one port, so that its answer is yes
or no; prefixes, ``*`` and port ranges are refused as the hosted service does.
"""

from __future__ import annotations

from typing import Final

from mergescale.policy.diagnostics import quoted
from mergescale.policy.document import PolicyTest, Probe
from mergescale.policy.fields import fields, members, renamed, string, texts
from mergescale.policy.hujson import Value
from mergescale.policy.ports import parse_protocol
from mergescale.policy.postures import Attribute
from mergescale.policy.rules import split_destination
from mergescale.policy.scope import Scope
from mergescale.policy.selectors import Autogroup, Everyone, Host, Net, Selector

_FIELDS: Final = ("src", "proto", "accept", "deny", "srcPostureAttrs", "user", "allow")
#: What older policies write.
_LEGACY: Final = {"user": "src", "allow": "accept"}
_FAILED: Final = "test(s) failed: "


def read_test(value: Value, scope: Scope) -> PolicyTest | None:
    """Read one entry of ``tests``; None when it is reported."""
    report = scope.report
    found = renamed(fields(value, report, what="tests", known=_FIELDS), _LEGACY, report)
    source = _source(value, found.get("src"), scope)
    text = string(found.get("proto"), report, "proto") or ""
    protocols = parse_protocol(text)
    if isinstance(protocols, str):
        report.error("policy.protocol", found["proto"].span, _FAILED + protocols)
        protocols = ()
    accept = _probes(found.get("accept"), "accept", scope)
    deny = _probes(found.get("deny"), "deny", scope)
    if "accept" not in found and "deny" not in found:
        message = _FAILED + "the test has neither accept nor deny"
        report.error("policy.test", value.span, message)
    attributes = _attributes(found.get("srcPostureAttrs"), scope)
    if source is None:
        return None
    return PolicyTest(source, accept, deny, protocols, value.span, attributes)


def _attributes(value: Value | None, scope: Scope) -> dict[str, Attribute]:
    found: dict[str, Attribute] = {}
    for member in members(value, scope.report, "srcPostureAttrs"):
        match member.value.scalar:
            case bool() | str() as scalar:
                found[member.key] = scalar
            case int() | float() as number:
                found[member.key] = float(number)
            case _:
                message = f"{quoted(member.key)} must be a string, a number or a boolean"
                scope.report.error("policy.test", member.value.span, _FAILED + message)
    return found


def _source(test: Value, value: Value | None, scope: Scope) -> Selector | None:
    text = string(value, scope.report, "src")
    if value is None or text == "":
        where = test.span if value is None else value.span
        scope.report.error("policy.test", where, _FAILED + "the test has no src")
    if not text or value is None:
        return None
    selector = scope.selector(text, value.span, prefix=_FAILED)
    match selector:
        case Everyone() | Autogroup("self" | "internet"):
            message = f"{_FAILED}{quoted(text)} can not be the src of a test"
            scope.report.error("policy.test", value.span, message)
            return None
        case _:
            return selector


def _probes(value: Value | None, what: str, scope: Scope) -> tuple[Probe, ...]:
    found = []
    for text, one in texts(value, scope.report, what):
        parsed = split_destination(text, one, scope, prefix=_FAILED)
        if parsed is None:
            continue
        selector, ports = parsed
        if "/" in text or not _is_single(selector, scope):
            message = f"{_FAILED}{quoted(text)} is not one destination"
            help_ = "name a user, group, tag, host or address"
            scope.report.error("policy.test", one.span, message, help_)
        elif len(ports) != 1 or ports[0].first != ports[0].last:
            message = f"{_FAILED}{quoted(text)} has more than one port"
            scope.report.error("policy.test", one.span, message, "test one port")
        else:
            found.append(Probe(selector, ports[0].first, text, one.span))
    return tuple(found)


def _is_single(selector: Selector, scope: Scope) -> bool:
    match selector:
        case Net(found):
            return found.first == found.last
        case Host(name):
            return scope.hosts[name].first == scope.hosts[name].last
        case Everyone() | Autogroup("self" | "internet"):
            return False
        case _:
            return True

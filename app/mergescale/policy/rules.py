"""Entries of ``acls`` and ``grants`` -> `Rule`.

SPEC(hosted service): an entry of ``acls`` may send ``*`` to ``autogroup:self``, one of ``grants``
may not; ``grants`` refuse default routes as destinations.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mergescale.policy.diagnostics import quoted
from mergescale.policy.document import Rule, Target
from mergescale.policy.fields import fields, string, texts
from mergescale.policy.hujson import Kind, Value
from mergescale.policy.ports import ALL_PORTS, WITH_PORTS, Ports, parse_ports, parse_protocol
from mergescale.policy.scope import Scope, is_person
from mergescale.policy.selectors import Autogroup, Everyone, Net, Selector

_ACL_FIELDS: Final = ("action", "proto", "src", "dst")
_ACL_UNSUPPORTED: Final = {
    "srcPosture": "",
    "users": 'write "src"',
    "ports": 'write "dst"',
}
_GRANT_FIELDS: Final = ("src", "dst", "ip")
_GRANT_UNSUPPORTED: Final = {"app": "", "via": "", "srcPosture": ""}
_SELF_MISUSED: Final = "autogroup:self can only be used with users, groups, or supported autogroups"


def read_acl(value: Value, scope: Scope) -> Rule | None:
    """Read one entry of ``acls``; None when it is reported."""
    report = scope.report
    found = fields(value, report, what="acls", known=_ACL_FIELDS, unsupported=_ACL_UNSUPPORTED)
    _action(value, found.get("action"), scope)
    protocols = _protocol(found.get("proto"), scope)
    sources = _sources(value, found.get("src"), scope)
    targets: list[Target] = []
    for text, one in _required(value, found, "dst", scope):
        parsed = split_destination(text, one, scope)
        if parsed is None:
            continue
        selector, ranges = parsed
        if protocols and not WITH_PORTS.issuperset(protocols) and ranges != (ALL_PORTS,):
            message = f"dst={quoted(text)}: protocol {protocols[0]} has no ports"
            report.error("policy.ports", one.span, message, 'write ":*"')
        if _target_allowed(selector, text, one, scope, grant=False):
            targets += [Target(selector, ports, protocols) for ports in ranges]
    _check_self(sources, targets, found.get("src"), scope, grant=False)
    return _rule(sources, targets, value)


def read_grant(value: Value, scope: Scope) -> Rule | None:
    """Read one entry of ``grants``; None when it is reported."""
    report = scope.report
    found = fields(
        value, report, what="grants", known=_GRANT_FIELDS, unsupported=_GRANT_UNSUPPORTED
    )
    sources = _sources(value, found.get("src"), scope)
    selectors: list[Selector] = []
    for text, one in _required(value, found, "dst", scope):
        selector = scope.selector(text, one.span)
        if selector is not None and _target_allowed(selector, text, one, scope, grant=True):
            selectors.append(selector)
    ip = found.get("ip")
    flows = _flows(ip, scope)
    if ip is None or (ip.kind is Kind.ARRAY and not ip.items):
        where = value.span if ip is None else ip.span
        report.error("policy.grant", where, "ip and app can not both be empty")
    targets = [
        Target(selector, ports, protocols) for selector in selectors for ports, protocols in flows
    ]
    _check_self(sources, targets, found.get("src"), scope, grant=True)
    return _rule(sources, targets, value)


def split_destination(
    text: str, value: Value, scope: Scope, *, prefix: str = ""
) -> tuple[Selector, tuple[Ports, ...]] | None:
    """Read ``selector:ports``; None when it is reported, with `prefix` before the message."""
    host, colon, written = text.rpartition(":")
    ports = parse_ports(written) if colon else 'no ports; write "host:80" or "host:*"'
    if isinstance(ports, str):
        scope.report.error("policy.ports", value.span, f"{prefix}dst={quoted(text)}: {ports}")
        return None
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    selector = scope.selector(host, value.span, prefix=f"{prefix}dst={quoted(host)}: ")
    return None if selector is None else (selector, ports)


def _rule(sources: list[Selector], targets: list[Target], value: Value) -> Rule:
    return Rule(tuple(sources), tuple(targets), value.span)


def _required(
    value: Value, found: dict[str, Value], name: str, scope: Scope
) -> list[tuple[str, Value]]:
    if name not in found:
        scope.report.error("policy.rule", value.span, f"the rule has no {name}")
    return texts(found.get(name), scope.report, name)


def _action(rule: Value, value: Value | None, scope: Scope) -> None:
    text = string(value, scope.report, "action")
    if value is None or text == "":
        where = rule.span if value is None else value.span
        scope.report.error("policy.action", where, "action must be specified", 'write "accept"')
    elif text not in {None, "accept"}:
        message = f"{quoted(str(text))} is not a valid action"
        scope.report.error("policy.action", value.span, message, 'write "accept"')


def _protocol(value: Value | None, scope: Scope) -> tuple[int, ...]:
    text = string(value, scope.report, "proto")
    if value is None or text is None:
        return ()
    protocols = parse_protocol(text)
    if isinstance(protocols, str):
        help_ = "use a name such as tcp, udp, icmp or a number up to 255"
        scope.report.error("policy.protocol", value.span, protocols, help_)
        return ()
    return protocols


def _flows(value: Value | None, scope: Scope) -> list[tuple[Ports, tuple[int, ...]]]:
    """Read ``ip`` of a grant: ``*``, ``80-90``, ``tcp:443``, ``icmp:*``."""
    flows: list[tuple[Ports, tuple[int, ...]]] = []
    for text, one in texts(value, scope.report, "ip"):
        name, colon, written = text.rpartition(":")
        protocols = parse_protocol(name) if colon and name else ()
        ports = parse_ports(written)
        for problem in (protocols, ports):
            if isinstance(problem, str):
                help_ = 'write "*", "80-90", "tcp:443" or "icmp:*"'
                scope.report.error("policy.grant", one.span, problem, help_)
        if isinstance(protocols, str) or isinstance(ports, str):
            continue
        if protocols and not WITH_PORTS.issuperset(protocols) and ports != (ALL_PORTS,):
            message = f"{quoted(text)}: protocol {protocols[0]} has no ports"
            scope.report.error("policy.ports", one.span, message, f'write "{name}:*"')
        flows += [(one_range, protocols) for one_range in ports]
    return flows


def _sources(rule: Value, value: Value | None, scope: Scope) -> list[Selector]:
    if value is None:
        scope.report.error("policy.rule", rule.span, "the rule has no src")
    sources: list[Selector] = []
    for text, one in texts(value, scope.report, "src"):
        match scope.selector(text, one.span, prefix=f"src={quoted(text)}: "):
            case None:
                continue
            case Autogroup("self" | "internet"):
                message = f"{quoted(text)} not valid on the src side of a rule"
                scope.report.error("policy.selector", one.span, message)
            case selector:
                sources.append(selector)
    return sources


def _target_allowed(
    selector: Selector, text: str, value: Value, scope: Scope, *, grant: bool
) -> bool:
    match selector:
        case Net(found) if grant and found.text in {"0.0.0.0/0", "::/0"}:
            message = (
                f'dst {quoted(text)}: to allow all IP addresses, use "*" or "autogroup:internet"'
            )
            scope.report.error("policy.selector", value.span, message)
            return False
        case _:
            return True


def _check_self(
    sources: Iterable[Selector],
    targets: Iterable[Target],
    src: Value | None,
    scope: Scope,
    *,
    grant: bool,
) -> None:
    if src is None or not any(_is_self(one.selector) for one in targets):
        return
    for source in sources:
        everyone = isinstance(source, Everyone) and not grant
        if not everyone and not is_person(source):
            help_ = "name users, groups or autogroup:member as src"
            scope.report.error("policy.self", source.span, _SELF_MISUSED, help_)


def _is_self(selector: Selector) -> bool:
    return isinstance(selector, Autogroup) and selector.name == "self"

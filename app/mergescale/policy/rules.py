"""Entries of ``acls`` and ``grants`` -> `Rule`.

SPEC(hosted service): an entry of ``acls`` may send ``*`` to ``autogroup:self``, one of ``grants``
may not; ``grants`` refuse default routes as destinations.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mergescale.policy.capabilities import read_app
from mergescale.policy.diagnostics import quoted
from mergescale.policy.document import Rule, Target
from mergescale.policy.fields import fields, renamed, string, texts
from mergescale.policy.hujson import Value
from mergescale.policy.ports import ALL_PORTS, WITH_PORTS, Ports, parse_ports, parse_protocol
from mergescale.policy.posturefile import read_source_postures
from mergescale.policy.scope import Scope, is_person
from mergescale.policy.selectors import (
    INTERNET,
    Autogroup,
    Everyone,
    Net,
    Selector,
    Service,
    Tag,
    parse_selector,
)

_ACL_FIELDS: Final = ("action", "proto", "src", "dst", "users", "ports", "srcPosture")
#: What older policies write.
_LEGACY: Final = {"users": "src", "ports": "dst"}
_GRANT_FIELDS: Final = ("src", "dst", "ip", "app", "via", "srcPosture")
_DEFAULT_ROUTES: Final = frozenset({"0.0.0.0/0", "::/0"})
_SELF_MISUSED: Final = "autogroup:self can only be used with users, groups, or supported autogroups"


def read_acl(value: Value, scope: Scope) -> Rule | None:
    """Read one entry of ``acls``; None when it is reported."""
    report = scope.report
    found = renamed(fields(value, report, what="acls", known=_ACL_FIELDS), _LEGACY, report)
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
        allowed = _target_allowed(selector, text, one, scope, grant=False)
        if allowed and scope.room(selector, len(ranges), one.span):
            targets += [Target(selector, ports, protocols) for ports in ranges]
    to_self = [one.selector for one in targets if _is_self(one.selector)]
    _check_self(sources, to_self, found.get("src"), scope, grant=False)
    postures = _postures(found.get("srcPosture"), scope)
    return Rule(tuple(sources), tuple(targets), value.span, postures=postures)


def read_grant(value: Value, scope: Scope) -> Rule | None:
    """Read one entry of ``grants``; None when it is reported."""
    report = scope.report
    found = fields(value, report, what="grants", known=_GRANT_FIELDS)
    sources = _sources(value, found.get("src"), scope)
    capabilities = read_app(found.get("app"), scope)
    selectors: list[Selector] = []
    for text, one in _required(value, found, "dst", scope):
        selector = scope.selector(text, one.span)
        if selector is not None and _target_allowed(selector, text, one, scope, grant=True):
            selectors.append(selector)
        if capabilities and isinstance(selector, Autogroup) and selector.name == INTERNET:
            message = "cannot use app grants with autogroup:internet"
            report.error("policy.grant", one.span, message)
    flows = _flows(found.get("ip"), scope)
    if _empty(found.get("ip")) and _empty(found.get("app")):
        message = "ip and app can not both be empty"
        report.error("policy.grant", value.span, message, 'write "ip": ["*"] or name capabilities')
    targets = [
        Target(selector, ports, protocols)
        for selector in selectors
        if scope.room(selector, len(flows), selector.span)
        for ports, protocols in flows
    ]
    to_self = [one for one in selectors if _is_self(one)]
    _check_self(sources, to_self, found.get("src"), scope, grant=True)
    return Rule(
        tuple(sources),
        tuple(targets),
        value.span,
        holders=tuple(selectors) if capabilities else (),
        capabilities=capabilities,
        via=_via(found.get("via"), scope),
        postures=_postures(found.get("srcPosture"), scope),
    )


def _empty(value: Value | None) -> bool:
    return value is None or not (value.items or value.members)


def _postures(value: Value | None, scope: Scope) -> tuple[str, ...]:
    if value is None:
        return scope.default_postures
    return read_source_postures(value, scope.postures, scope, "srcPosture")


def _via(value: Value | None, scope: Scope) -> tuple[Tag, ...]:
    tags: list[Tag] = []
    for text, one in texts(value, scope.report, "via"):
        match parse_selector(text, one.span):
            case Tag(name) as tag if name in scope.tags:
                tags.append(tag)
            case Tag(name):
                message = f"tag {quoted(name)} not found"
                fallback = "declare it in tagOwners"
                report = scope.report
                report.missing("policy.unknown-tag", one.span, message, name, scope.tags, fallback)
            case _:
                message = "via can only be a tag"
                help_ = f"{quoted(text)} is not; name the tag of the routers"
                scope.report.error("policy.via", one.span, message, help_)
    return tuple(tags)


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
            case Autogroup("self" | "internet") | Service():
                message = f"{quoted(text)} not valid on the src side of a rule"
                scope.report.error("policy.selector", one.span, message)
            case selector if scope.room(selector, 1, one.span):
                sources.append(selector)
    return sources


def _target_allowed(
    selector: Selector, text: str, value: Value, scope: Scope, *, grant: bool
) -> bool:
    match selector:
        case Service(name):
            message = f"{quoted(name)} is offered by nobody: services have no addresses here"
            help_ = "the rule lets nothing through for it"
            scope.report.warn("policy.service", value.span, message, help_)
            return True
        case Autogroup("danger-all"):
            message = "cannot use autogroup:danger-all as a dst"
            scope.report.error("policy.selector", value.span, message, 'write "*"')
            return False
        case Net(found) if grant and found.text in _DEFAULT_ROUTES:
            message = (
                f'dst {quoted(text)}: to allow all IP addresses, use "*" or "autogroup:internet"'
            )
            scope.report.error("policy.selector", value.span, message)
            return False
        case _:
            return True


def _check_self(
    sources: Iterable[Selector],
    to_self: list[Selector],
    src: Value | None,
    scope: Scope,
    *,
    grant: bool,
) -> None:
    if src is None or not to_self:
        return
    for source in sources:
        everyone = isinstance(source, Everyone) and not grant
        if not everyone and not is_person(source):
            help_ = "name users, groups or autogroup:member as src"
            scope.report.error("policy.self", source.span, _SELF_MISUSED, help_)


def _is_self(selector: Selector) -> bool:
    return isinstance(selector, Autogroup) and selector.name == "self"

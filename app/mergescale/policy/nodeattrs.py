"""``nodeAttrs``: what devices are told they may do, and where their addresses come from.

SPEC(hosted service): an entry without targets, or with nothing but targets, is legal and means
nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network
from typing import Any, Final

from mergescale.domain.prefixes import CHROMEOS_V4, SERVICE_V4, TAILNET_V4
from mergescale.policy.attributes import DISABLE_IPV4
from mergescale.policy.diagnostics import Report, quoted
from mergescale.policy.document import NodeAttribute
from mergescale.policy.fields import expect, fields, items, members, string, texts
from mergescale.policy.files import forms
from mergescale.policy.hujson import Kind, Member, Value
from mergescale.policy.scope import Scope
from mergescale.policy.selectors import (
    Autogroup,
    Everyone,
    Malformed,
    Selector,
    Service,
    parse_range,
    tag_problem,
)

#: The capability by which app connectors learn what they stand for (appctype.AppConnectorAttr).
APP_CONNECTORS: Final = "tailscale.com/app-connectors"
#: Settings at the top of a policy -> what every device is told.
_SETTINGS: Final = {"randomizeClientPort": "randomize-client-port", "disableIPv4": DISABLE_IPV4}
#: SPEC(hosted service): ``oneCGNATRoute`` is about macOS only -> what these devices are told.
_ONE_ROUTE: Final = {"mac-always": "one-cgnat?v=true", "mac-never": "one-cgnat?v=false"}
_FIELDS: Final = ("target", "attr", "app", "ipPool")
_CONNECTOR_FIELDS: Final = ("name", "connectors", "domains", "routes", "presetAppID")
#: SPEC(hosted service, "Reserved IP addresses"): no pool may overlap these.
_RESERVED: Final = (IPv4Network("100.100.0.0/24"), SERVICE_V4, CHROMEOS_V4)
#: What clients can read as the key of an object without escapes (spec 2.10).
_NAME: Final = re.compile(r'[^\s"\\\x00-\x1f\x7f-\x9f\ud800-\udfff]+')
_APP_NAME: Final = re.compile(r"([a-zA-Z0-9-]+\.)+[a-zA-Z0-9-]+(/[^\s\"\\]*)?")
#: With this a client whose log upload is off disconnects itself (spec 4.10), and here it is off.
_HARMFUL: Final = "https://tailscale.com/cap/data-plane-audit-logs"


def read_node_attributes(sections: Mapping[str, Value], scope: Scope) -> tuple[NodeAttribute, ...]:
    """Read ``nodeAttrs`` and the settings at the top that tell devices something."""
    report = scope.report
    found = [_read(one, scope) for one in items(sections.get("nodeAttrs"), report, "nodeAttrs")]
    for setting, name in _SETTINGS.items():
        value = sections.get(setting)
        if value is not None and expect(value, Kind.BOOLEAN, report, setting) and value.scalar:
            found.append(NodeAttribute((Everyone(value.span),), (name,), origin=value.span))
    return (*found, *_one_route(sections.get("oneCGNATRoute"), report))


def _one_route(value: Value | None, report: Report) -> Iterator[NodeAttribute]:
    text = string(value, report, "oneCGNATRoute")
    if value is None or not text:
        return
    name = _ONE_ROUTE.get(text)
    if name is None:
        report.unknown("policy.one-route", value.span, "oneCGNATRoute", text, _ONE_ROUTE)
    else:
        yield NodeAttribute((), (name,), system="macos", origin=value.span)


def _read(value: Value, scope: Scope) -> NodeAttribute:
    """Read one entry of ``nodeAttrs``; what is wrong with it goes to the scope's report."""
    report = scope.report
    found = fields(value, report, what="nodeAttrs", known=_FIELDS)
    return NodeAttribute(
        targets=_targets(found.get("target"), scope),
        names=_names(found.get("attr"), scope),
        apps=tuple(
            (member.key, values)
            for member in members(found.get("app"), report, "app")
            if (values := _app(member, scope))
        ),
        pools=_pools(found.get("ipPool"), scope),
        origin=value.span,
    )


def _targets(value: Value | None, scope: Scope) -> tuple[Selector, ...]:
    found = []
    for text, one in texts(value, scope.report, "target"):
        match scope.selector(text, one.span):
            case None:
                continue
            case Autogroup("self" | "internet" | "danger-all") | Service():
                message = f"{quoted(text)} can not be a target of nodeAttrs"
                help_ = "it names no devices by itself; write users, groups, tags or *"
                scope.report.error("policy.target", one.span, message, help_)
            case selector if scope.room(selector, 1, one.span):
                found.append(selector)
    return tuple(found)


def _names(value: Value | None, scope: Scope) -> tuple[str, ...]:
    found = []
    for text, one in texts(value, scope.report, "attr"):
        if text == _HARMFUL:
            message = f"{quoted(text)} would make clients of this server disconnect themselves"
            scope.report.error("policy.attribute", one.span, message, "leave it out")
        elif not _NAME.fullmatch(text):
            message = f"{quoted(text)} is not the name of an attribute"
            help_ = "write it without spaces, quotes and backslashes"
            scope.report.error("policy.attribute", one.span, message, help_)
        else:
            found.append(text)
    return tuple(found)


def _pools(value: Value | None, scope: Scope) -> tuple[IPv4Network, ...]:
    found: list[IPv4Network] = []
    for text, one in texts(value, scope.report, "ipPool"):
        match _pool(text):
            case IPv4Network() as pool:
                found.append(pool)
            case problem:
                help_ = f"write a part of {TAILNET_V4}, e.g. 100.81.0.0/16"
                scope.report.error("policy.pool", one.span, problem, help_)
    return tuple(found)


def _pool(text: str) -> IPv4Network | str:
    """Return the pool, or what is wrong with it."""
    try:
        pool = IPv4Network(text)
    except ValueError:
        return f"{quoted(text)} is not an IPv4 prefix"
    if not pool.subnet_of(TAILNET_V4):
        return f"{quoted(text)} is not inside {TAILNET_V4}"
    taken = next((one for one in _RESERVED if pool.overlaps(one)), None)
    return pool if taken is None else f"{quoted(text)} overlaps {taken}, which is reserved"


def _app(member: Member, scope: Scope) -> tuple[bytes, ...]:
    """Return the values of one application capability, each as JSON."""
    report = scope.report
    if not _APP_NAME.fullmatch(member.key):
        message = f"{quoted(member.key)} is not the name of a capability"
        help_ = "write it as a domain and a path, e.g. tailscale.com/app-connectors"
        report.error("policy.capability", member.key_span, message, help_)
        return ()
    values = items(member.value, report, member.key)
    if member.key == APP_CONNECTORS:
        return tuple(_connector(one, scope) for one in values)
    return tuple(_json(one.plain()) for one in values)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _connector(value: Value, scope: Scope) -> bytes:
    """Read one application that connectors carry: appctype.AppConnectorAttr."""
    report = scope.report
    found = fields(value, report, what=APP_CONNECTORS, known=_CONNECTOR_FIELDS)
    name = string(found.get("name"), report, "name") or ""
    content = {
        "name": name,
        "domains": _domains(found.get("domains"), scope),
        "routes": _routes(found.get("routes"), scope),
        "connectors": _connectors(found.get("connectors"), scope),
    }
    preset = found.get("presetAppID")
    if preset is not None and string(preset, report, "presetAppID") is not None:
        message = "this server has no list of preset applications"
        report.warn("policy.preset-app", preset.span, message, "list its domains and routes")
    return _json({key: one for key, one in content.items() if one})


def _connectors(value: Value | None, scope: Scope) -> list[str]:
    found = []
    for text, one in texts(value, scope.report, "connectors"):
        if text != "*" and tag_problem(text):
            message = f"{quoted(text)} can not be a connector"
            scope.report.error("policy.connector", one.span, message, 'name tags, or "*"')
        elif text == "*" or scope.selector(text, one.span) is not None:
            found.append(text)
    return found


def _domains(value: Value | None, scope: Scope) -> list[str]:
    found = []
    for text, one in texts(value, scope.report, "domains"):
        wild = text.startswith("*.")
        domain = forms.domain(text.removeprefix("*."))
        if domain is None:
            message = f"{quoted(text)} is not a domain"
            help_ = "write example.com or *.example.com"
            scope.report.error("policy.domain", one.span, message, help_)
        else:
            found.append(f"*.{domain}" if wild else domain)
    return found


def _routes(value: Value | None, scope: Scope) -> list[str]:
    found = []
    for text, one in texts(value, scope.report, "routes"):
        match parse_range(text):
            case None:
                message = f"{quoted(text)} is not a route"
                scope.report.error("policy.route", one.span, message, "write it as 10.0.0.0/8")
            case Malformed(message, help_):
                scope.report.error("policy.route", one.span, message, help_)
            case route if "-" in route.text:
                message = f"{quoted(text)} is not a route"
                scope.report.error("policy.route", one.span, message, "write it as 10.0.0.0/8")
            case route:
                whole = "/" in route.text
                length = 32 if route.version == 4 else 128
                found.append(route.text if whole else f"{route.text}/{length}")
    return found

"""``postures``, and ``srcPosture`` and ``defaultSrcPosture``, which name them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from mergescale.policy.attrconfig import AttributeConfig
from mergescale.policy.diagnostics import Report, Span, quoted
from mergescale.policy.fields import members, texts
from mergescale.policy.hujson import Kind, Member, Value
from mergescale.policy.postures import Condition, Operator, Posture, parse_condition
from mergescale.policy.scope import Scope
from mergescale.policy.selectors import Malformed

_NAME: Final = re.compile(r"posture:\S+")
#: Namespaces whose attributes this server can have.
_HERE: Final = ("node:", "custom:")


def read_postures(
    value: Value | None, configs: Mapping[str, AttributeConfig], scope: Scope
) -> dict[str, Posture]:
    """Read ``postures``: name -> posture, without what is reported."""
    return {
        posture.name: posture
        for member in members(value, scope.report, "postures")
        if (posture := _posture(member, configs, scope.report)) is not None
    }


def _posture(
    member: Member, configs: Mapping[str, AttributeConfig], report: Report
) -> Posture | None:
    if not _NAME.fullmatch(member.key):
        message = f"{quoted(member.key)} is not a posture name"
        report.error("policy.posture", member.key_span, message, 'it starts with "posture:"')
        return None
    found = []
    for text, one in texts(member.value, report, member.key):
        match parse_condition(text):
            case Malformed(message, help_):
                report.error("policy.posture", one.span, message, help_)
            case condition:
                _check_attribute(condition, configs, one.span, report)
                found.append(condition)
    if member.value.kind is Kind.ARRAY and not member.value.items:
        message = f"posture {quoted(member.key)} has no conditions: every device has it"
        report.warn("policy.posture", member.key_span, message)
    return Posture(member.key, tuple(found), member.key_span)


def _check_attribute(
    condition: Condition, configs: Mapping[str, AttributeConfig], span: Span, report: Report
) -> None:
    name, config = condition.name, configs.get(condition.name)
    if config is not None and not all(map(config.admits, condition.values)):
        message = f"attrConfig says that {name} is a {config.type}"
        report.error("policy.posture", span, message)
    if not name.startswith(_HERE) and condition.operator is not Operator.NOT_SET:
        message = f"no device has {quoted(name)} here: the condition never holds"
        report.warn("policy.posture", span, message)


def read_source_postures(
    value: Value | None, postures: Mapping[str, Posture], scope: Scope, what: str
) -> tuple[str, ...]:
    """Read ``srcPosture`` or ``defaultSrcPosture``: names of postures, one of which must be had.

    Args:
        value: the list, None when it is left out.
        postures: those that are declared.
        scope: where problems go.
        what: name of the field, for messages.
    """
    found = []
    for text, one in texts(value, scope.report, what):
        if text in postures:
            found.append(text)
        else:
            message = f"posture not found: {quoted(text)}"
            code, help_ = "policy.unknown-posture", "declare it in postures"
            scope.report.missing(code, one.span, message, text, postures, help_)
    return tuple(dict.fromkeys(found))

"""``app`` of a grant: what the sources may do at the destinations, as applications read it.

A capability is named by a domain and a path; its values are JSON that only the application knows.
"""

from __future__ import annotations

import json
import re
from typing import Final

from mergescale.domain.access import Capabilities
from mergescale.policy.diagnostics import quoted
from mergescale.policy.fields import items, members
from mergescale.policy.hujson import Kind, Value
from mergescale.policy.scope import Scope

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?/[^\s:]+")
_OURS: Final = "tailscale.com/cap/"
#: Capabilities that clients themselves read (tailcfg.PeerCapability).
_KNOWN: Final = frozenset(
    _OURS + name
    for name in (
        "drive",
        "drive-sharer",
        "file-sharing-target",
        "file-send",
        "debug-peer",
        "wake-on-lan",
        "ingress",
        "webui",
        "kubernetes",
        "relay",
        "relay-target",
        "tsidp",
        "secrets",
        "golink",
    )
)
#: SPEC(hosted service): a grant of the first gives the second in the other direction.
COMPANIONS: Final = {
    f"{_OURS}drive": f"{_OURS}drive-sharer",
    f"{_OURS}relay": f"{_OURS}relay-target",
}


def read_app(value: Value | None, scope: Scope) -> Capabilities:
    """Read ``app``: capability -> list of values."""
    found: dict[str, tuple[bytes, ...]] = {}
    for member in members(value, scope.report, "app"):
        name = member.key
        if not _NAME.fullmatch(name):
            message = "capability name must have the form {domain}/{path}"
            help_ = f"{quoted(name)} is not; write it like example.com/cap/name"
            scope.report.error("policy.capability", member.key_span, message, help_)
            continue
        if name.startswith(_OURS) and name not in _KNOWN:
            message = f"capability {quoted(name)} is not known to any client"
            scope.report.warn("policy.capability", member.key_span, message)
        values = items(member.value, scope.report, f"the values of {name}")
        found[name] = tuple(_json(one) for one in values)
    return tuple(sorted(found.items()))


def companions(capabilities: Capabilities) -> list[Capabilities]:
    """Return what the destinations get at the sources in return, one list for each."""
    return [((COMPANIONS[name], ()),) for name, _ in capabilities if name in COMPANIONS]


def _json(value: Value) -> bytes:
    if value.kind is Kind.OBJECT and not value.members:
        return b"{}"
    return json.dumps(value.plain(), ensure_ascii=False, separators=(",", ":")).encode()

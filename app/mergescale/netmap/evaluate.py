"""What each node of an inventory would be sent under a policy: decoded from the very maps."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from mergescale.domain.declaration import Declaration
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import Invalid
from mergescale.kernel.ids import NodeId
from mergescale.netmap.cache import Cache
from mergescale.netmap.full import full_parts
from mergescale.netmap.inventory import dns_of, populate, read_inventory, settings_of
from mergescale.netmap.parts import texts
from mergescale.policy import hujson
from mergescale.policy.diagnostics import Diagnostic, Severity, has_errors
from mergescale.policy.load import load
from mergescale.policy.scope import KnownUsers
from mergescale.policy.ssh.selftest import run_ssh_tests

#: Maps say when they were made; here that is always the same.
_NOW: Final = datetime(1970, 1, 1, tzinfo=UTC)


def evaluate(policy_text: str, network: dict[str, Any]) -> dict[str, Any]:
    """Say what every node would be sent.

    Args:
        policy_text: a policy file, HuJSON. As for the hosted service, one that has neither
            ``acls`` nor ``grants`` allows everything.
        network: an inventory, see ``netmap.inventory``.

    Returns:
        ``{"nodes": {name: {"PacketFilter", "Peers", "SelfNode", "SSHRules"}}}`` with tailcfg's
        names, where ``Peers`` is by name and has ``AllowedIPs``, ``PrimaryRoutes`` and ``CapMap``,
        as ``SelfNode`` does; or ``{"error": {"message": ...}}`` with everything that is wrong.
    """
    try:
        inventory = read_inventory(network)
        value, found = hujson.parse(policy_text, "policy.hujson")
        if value is None:
            return _refused(found)
        people = KnownUsers(
            [one.login_name for one in inventory.users],
            managed=False,
            roles={one.login_name: one.role for one in inventory.users},
        )
        policy, said = load(
            value, known_users=people, domain=inventory.domain, open_without_rules=True
        )
        if policy is None or any(one.severity is Severity.ERROR for one in found):
            return _refused((*found, *said))
        declaration = Declaration(policy, settings_of(inventory), dns_of(inventory))
        snapshot = populate(inventory, declaration)
        failed = run_ssh_tests(policy, snapshot)
        if has_errors(failed):
            return _refused(failed)
    except Invalid as error:
        return {"error": {"message": str(error)}}
    cache = Cache(None, inventory.server_url)
    return {
        "nodes": {node.name: rendered(cache, snapshot, node.id) for node in snapshot.nodes.values()}
    }


def _refused(found: Iterable[Diagnostic]) -> dict[str, Any]:
    messages = [one.message for one in found if one.severity is Severity.ERROR]
    return {"error": {"message": "; ".join(messages)}}


def rendered(cache: Cache, snapshot: Snapshot, viewer: NodeId) -> dict[str, Any]:
    """Return what a node would be sent, in the form that `evaluate` has for it."""
    message = json.loads(b"".join(texts(full_parts(cache, snapshot, viewer, _NOW))))
    return {
        "PacketFilter": _merged(message["PacketFilters"]),
        "Peers": {one["Name"].partition(".")[0]: _node(one) for one in message["Peers"]},
        "SelfNode": _node(message["Node"]),
        "SSHRules": message.get("SSHPolicy", {}).get("rules", []),
    }


def _node(node: dict[str, Any]) -> dict[str, Any]:
    return {
        "AllowedIPs": node.get("AllowedIPs", []),
        "PrimaryRoutes": node.get("PrimaryRoutes", []),
        "CapMap": node.get("CapMap", {}),
    }


def _merged(chunks: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rules of all chunks as one filter.

    SPEC(hosted service): packets from the same sources by the same protocols are one rule.
    """
    merged: dict[str, dict[str, Any]] = {}
    grants: list[dict[str, Any]] = []
    for rules in chunks.values():
        for rule in rules or ():
            if "CapGrant" in rule:
                grants.append(rule)
                continue
            key = json.dumps([rule["SrcIPs"], rule.get("IPProto", [])])
            same = merged.setdefault(key, {**rule, "DstPorts": []})
            same["DstPorts"] += rule["DstPorts"]
    return [*merged.values(), *grants]

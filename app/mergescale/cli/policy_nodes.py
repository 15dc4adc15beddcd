"""``mergescale policy compile`` and ``explain``: what a policy makes of one device."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from mergescale.cli.devices import Devices, about_devices
from mergescale.cli.ends import node_of
from mergescale.cli.opened import Opened, open_policy
from mergescale.cli.policy_files import policy_option
from mergescale.cli.screen import NOTHING, Screen, printable

if TYPE_CHECKING:
    from mergescale.domain.node import Node
    from mergescale.domain.snapshot import Snapshot
    from mergescale.netmap.reach import Reach

_node_option = click.option("--node", "name", metavar="N", required=True, help="Its name.")


@click.command("compile")
@_node_option
@policy_option
@about_devices
def compile_node(screen: Screen, devices: Devices, name: str, path: str) -> None:
    """Show what a device would be sent: packet filter, peers, capabilities, SSH rules.

    Needs --inventory or --server. -o json has the members that clients read.
    """
    from mergescale.netmap.cache import Cache
    from mergescale.netmap.evaluate import rendered

    opened = open_policy(screen, devices, path)
    snapshot = opened.snapshot()
    url = "" if opened.inventory is None else opened.inventory.server_url
    told = rendered(Cache(None, url), snapshot, node_of(name, snapshot).id)
    if screen.is_json:
        screen.json(told)
        return
    for title, lines in (
        ("packet filter", _filter(told["PacketFilter"])),
        ("peers", _peers(told["Peers"])),
        ("own capabilities", _capabilities(told["SelfNode"]["CapMap"])),
        ("ssh", _ssh(told["SSHRules"])),
    ):
        _section(screen, title, lines)


@click.command("explain")
@click.argument("name", metavar="NODE")
@policy_option
@about_devices
def explain(screen: Screen, devices: Devices, name: str, path: str) -> None:
    """Say whom a device sees and why, what reaches it, and what it is to the policy.

    Needs --inventory or --server.
    """
    from mergescale.netmap.reach import Reach

    opened = open_policy(screen, devices, path)
    snapshot = opened.snapshot()
    node = node_of(name, snapshot)
    told = _explained(opened, snapshot, Reach(opened.policy, snapshot), node)
    if screen.is_json:
        screen.json(told)
        return
    screen.details(
        (name, ", ".join(told[name]) if isinstance(told[name], list) else str(told[name]))
        for name in ("name", "addresses", "owner", "role", "groups", "tags")
        if told[name]
    )
    _section(screen, "routes", (f"{one['route']}: {one['state']}" for one in told["routes"]))
    _section(screen, "reaches", _ways(told["reaches"]))
    _section(screen, "reached by", _ways(told["reachedBy"]))
    _section(screen, "ssh", _ssh(told["ssh"]))
    _section(screen, "capabilities", _capabilities(told["capabilities"]))


def _explained(opened: Opened, snapshot: Snapshot, reach: Reach, node: Node) -> dict[str, Any]:
    from mergescale.netmap.cache import Cache
    from mergescale.netmap.evaluate import rendered
    from mergescale.policy.principals import of_node

    owner = snapshot.owner(node)
    principals = of_node(node.tags, owner, opened.policy.groups_of)
    url = "" if opened.inventory is None else opened.inventory.server_url
    sent = rendered(Cache(None, url), snapshot, node.id)
    others = [one for one in snapshot.nodes.values() if one.id != node.id]
    return {
        "name": node.name,
        "addresses": [str(one) for one in reach.addresses(node)],
        "owner": None if owner is None else owner.login,
        "role": None if owner is None else str(owner.role),
        "groups": sorted(one for one in principals if one.startswith("group:")),
        "tags": list(node.tags),
        "routes": list(_routes(snapshot, node)),
        "reaches": list(_rules(opened, reach, ((node, one, one) for one in others))),
        "reachedBy": list(_rules(opened, reach, ((one, node, one) for one in others))),
        "ssh": sent["SSHRules"],
        "capabilities": sent["SelfNode"]["CapMap"],
    }


def _rules(
    opened: Opened, reach: Reach, pairs: Iterable[tuple[Node, Node, Node]]
) -> Iterator[dict[str, Any]]:
    """Yield for (sender, receiver, the other one) each rule that lets something through."""
    for sender, receiver, other in pairs:
        for rule in reach.rules(sender, receiver):
            sources, targets = opened.sides(rule.origin)
            yield {
                "node": other.name,
                "rule": opened.place(rule.origin),
                "src": sources,
                "dst": targets,
                "app": [name for name, _ in rule.capabilities],
            }


def _routes(snapshot: Snapshot, node: Node) -> Iterator[dict[str, str]]:
    from mergescale.domain.prefixes import is_exit

    for prefix in node.advertised:
        if prefix not in node.approved:
            state = "not approved"
        elif is_exit(prefix):
            state = "exit node"
        elif (carrier := snapshot.primaries.get(prefix)) in {None, node.id}:
            state = "carried"
        else:
            state = f"stands by for {snapshot.nodes[carrier].name}" if carrier else "carried"
        yield {"route": str(prefix), "state": state}


def _ways(ways: list[dict[str, Any]]) -> Iterator[str]:
    for one in ways:
        apps = f" ({', '.join(one['app'])})" if one["app"] else ""
        yield f"{one['node']}: {one['rule']}: {one['src']} -> {one['dst']}{apps}"


def _filter(rules: list[dict[str, Any]]) -> Iterator[str]:
    for rule in rules:
        sources = ", ".join(rule["SrcIPs"])
        if "CapGrant" in rule:
            for grant in rule["CapGrant"]:
                names = ", ".join(grant["CapMap"])
                yield f"{sources} may {names} at {', '.join(grant['Dsts'])}"
            continue
        targets = ", ".join(_target(one) for one in rule["DstPorts"])
        protocols = ",".join(map(str, rule.get("IPProto", [])))
        yield f"{sources} -> {targets}" + (f" (protocols {protocols})" if protocols else "")


def _target(one: dict[str, Any]) -> str:
    first, last = one["Ports"]["First"], one["Ports"]["Last"]
    ports = (
        "*" if (first, last) == (0, 65535) else str(first) if first == last else f"{first}-{last}"
    )
    ip = f"[{one['IP']}]" if ":" in one["IP"] else one["IP"]
    return f"{ip}:{ports}"


def _peers(peers: dict[str, Any]) -> Iterator[str]:
    for name, one in sorted(peers.items()):
        capabilities = f" ({', '.join(one['CapMap'])})" if one["CapMap"] else ""
        yield f"{name}: {', '.join(one['AllowedIPs'])}{capabilities}"


def _capabilities(found: dict[str, Any]) -> Iterator[str]:
    for name, values in sorted(found.items()):
        yield f"{name} {json.dumps(values)}" if values else name


def _ssh(rules: list[dict[str, Any]]) -> Iterator[str]:
    for rule in rules:
        sources = ", ".join(one.get("nodeIP", "*") for one in rule["principals"])
        users = ", ".join(
            name if local in {"=", name} else f"{name} as {local or 'nobody'}"
            for name, local in rule["sshUsers"].items()
            if local
        )
        action = rule["action"]
        does = "accept" if action.get("accept") else "reject" if action.get("reject") else "check"
        yield f"{does} {sources} as {users or NOTHING}"


def _section(screen: Screen, title: str, lines: Iterable[str]) -> None:
    screen.line(f"{title}:")
    told = False
    for line in lines:
        told = True
        screen.line(f"  {printable(line)}")
    if not told:
        screen.line("  nothing")

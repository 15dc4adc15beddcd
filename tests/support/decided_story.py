"""Random days of a tailnet, as the decisions that an operator, a repository and devices cause.

Each event looks at the snapshot, draws from a `random.Random` and returns decisions; those that
are refused are part of the story. The devices are made up: nobody runs them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, ip_network
from random import Random
from typing import Any, Final

from mergescale.domain.declaration import Deployment
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import Role
from mergescale.kernel.ids import AuthKeyId, LoginId, NodeId, ReplicaId
from mergescale.kernel.keys import DiscoKey
from mergescale.policy.repository import declare
from mergescale.state import authkeys, nodes, policies, presence, routes, users
from mergescale.state.authkeys import Wanted
from mergescale.state.outcome import Decision
from mergescale.state.registration import Fresh, register
from support.machines import Machine, hostinfo, shown
from support.worlds import key_bytes

Decisions = list[Decision[Any]]
Event = Callable[[Snapshot, Random], Decisions]

PEOPLE: Final = ("alice@example.com", "bob@example.com", "carol@example.com")
MACHINES: Final = tuple(f"box{number}" for number in range(8))
ROUTES: Final = ("10.1.0.0/16", "10.2.0.0/16", "fd00:1::/64", "0.0.0.0/0", "::/0")
TAGS: Final = ("tag:web", "tag:db")
#: What the made-up devices are connected to; the real client's own replica is another.
_ELSEWHERE: Final = ReplicaId("elsewhere")

_HEAD: Final = '"tagOwners": {"tag:web": ["alice@example.com"], "tag:db": []}'
_APPROVERS: Final = '"autoApprovers": {"routes": {"10.1.0.0/16": ["tag:web"]}}'
#: What stands in a policy beside its owners.
OPEN: Final = '"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]'
POLICIES: Final = (
    OPEN,
    '"acls": [{"action": "accept", "src": ["alice@example.com"], "dst": ["*:*"]}]',
    '"acls": [{"action": "accept", "src": ["*"], "dst": ["alice@example.com:22", "tag:db:*"]}]',
    '"acls": []',
    '"acls": [{"action": "accept", "src": ["alice@example.com"], "dst": ["tag:web:80,443"]}]',
    """"acls": [
        {"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:*"]},
        {"action": "accept", "src": ["bob@example.com"], "dst": ["10.1.0.0/16:22"]},
    ]""",
    """"acls": [
        {"action": "accept", "src": ["tag:db"], "dst": ["alice@example.com:*"]},
        {"action": "accept", "proto": "udp", "src": ["tag:web"], "dst": ["*:53"]},
    ]""",
    """"grants": [
        {"src": ["*"], "dst": ["autogroup:internet"], "ip": ["*"]},
        {"src": ["10.2.0.0/16"], "dst": ["alice@example.com"], "ip": ["tcp:1-99", "icmp:*"]},
    ]""",
)
_BESIDE: Final = {
    "tailnet.hujson": ("{}", '{"domain": "example.com"}', '{"randomizeClientPort": true}'),
    "dns.hujson": (
        "{}",
        '{"nameservers": ["9.9.9.9"], "overrideLocalDNS": true}',
        '{"splitDNS": {"corp.example": ["10.1.0.53"]}, "searchPaths": ["corp.example"]}',
    ),
}


def dice_of(seed: int) -> Random:
    """Return dice that fall the same way every time."""
    return Random(seed)  # noqa: S311 - chance for a story, not for a secret


def prologue() -> Decisions:
    """Return what makes people, keys and the first devices."""
    keys = [(PEOPLE[0], ()), (PEOPLE[1], ()), (None, TAGS[:1]), (None, TAGS)]
    return [
        *(users.create(login) for login in PEOPLE),
        *(
            authkeys.create(
                AuthKeyId(f"key{number}"),
                shown(f"key{number}").secret_hash,
                Wanted(user=user, tags=tuple(tags), reusable=True),
            )
            for number, (user, tags) in enumerate(keys)
        ),
        *(register(Machine(name).asks(auth="key0")) for name in MACHINES[:3]),
    ]


def join(_: Snapshot, dice: Random) -> Decisions:
    """A device registers, perhaps again, perhaps with a new node key or for somebody else."""
    machine, number = Machine(dice.choice(MACHINES)), dice.randrange(3)
    old = dice.choice((None, number - 1)) if number else None
    request = machine.asks(auth=f"key{dice.randrange(4)}", number=number, old=old)
    # As the server draws them: the id of a node that was removed is never used again.
    fresh = Fresh(f"n{dice.getrandbits(64):016x}CNTRL", LoginId(f"{dice.getrandbits(96):024x}"))
    return [register(replace(request, fresh=fresh))]


def say(snapshot: Snapshot, dice: Random) -> Decisions:
    """A device tells what it found out: endpoints, relay, keys, routes, a new host name."""
    node = _made_up(snapshot, dice)
    said: dict[str, Any] = {}
    if dice.randrange(2):
        said["NetInfo"] = {"PreferredDERP": dice.choice((1, 999))}
    if dice.randrange(2):
        said["RoutableIPs"] = dice.sample(ROUTES, dice.randrange(len(ROUTES)))
    name = f"{dice.choice(('box', 'tower'))}{dice.randrange(4)}"
    return [
        nodes.update(
            node,
            nodes.MapUpdate(
                capability_version=dice.choice((106, 130, 131)),
                hostinfo=hostinfo(name, **said) if dice.randrange(2) else None,
                endpoints=dice.choice(
                    (None, (), ("192.0.2.1:1",), ("192.0.2.9:2", "[2001:db8::1]:3"))
                ),
                disco_key=DiscoKey(key_bytes(f"disco {dice.randrange(3)}")),
            ),
        )
    ]


def come_and_go(snapshot: Snapshot, dice: Random) -> Decisions:
    """A device's stream opens or closes at another replica."""
    node = _made_up(snapshot, dice)
    online: Decision[Any] = presence.connected(node, _ELSEWHERE)
    return [online if dice.randrange(2) else presence.disconnected(node, _ELSEWHERE)]


def crash(snapshot: Snapshot, dice: Random) -> Decisions:
    """A device starts again, with a new disco key, and is offline before anybody was told."""
    online = [n for n in _strangers(snapshot) if snapshot.online(n)]
    if not online:
        return come_and_go(snapshot, dice)
    node = dice.choice(online)
    restarted = nodes.MapUpdate(130, disco_key=DiscoKey(key_bytes(f"disco {dice.random()}")))
    return [nodes.update(node, restarted), presence.disconnected(node, _ELSEWHERE)]


def rename(snapshot: Snapshot, dice: Random) -> Decisions:
    name = dice.choice(("", "tower", "printer", f"box-{dice.randrange(9)}"))
    return [nodes.rename(_any(snapshot, dice), name)]


def move(snapshot: Snapshot, dice: Random) -> Decisions:
    return [nodes.set_ipv4(_any(snapshot, dice), IPv4Address(f"100.64.9.{dice.randrange(1, 9)}"))]


def approve(snapshot: Snapshot, dice: Random) -> Decisions:
    chosen = dice.sample(ROUTES, dice.randrange(len(ROUTES)))
    return [routes.approve(_any(snapshot, dice), map(ip_network, chosen))]


def tag(snapshot: Snapshot, dice: Random) -> Decisions:
    return [nodes.set_tags(_made_up(snapshot, dice), dice.choice((TAGS, TAGS[:1], TAGS[1:])))]


def judge(snapshot: Snapshot, dice: Random) -> Decisions:
    """An operator expires, renews, disapproves, approves or removes a device."""
    node = _made_up(snapshot, dice)
    soon = datetime.now(UTC) + timedelta(days=dice.randrange(1, 4))  # noqa: TID251 - real time
    return [
        dice.choice(
            (
                nodes.expire(node),
                nodes.expire(node, soon),
                nodes.disable_key_expiry(node),
                nodes.enable_key_expiry(node),
                nodes.deauthorize(node),
                nodes.authorize(node),
                nodes.delete(node),
            )
        )
    ]


def people(snapshot: Snapshot, dice: Random) -> Decisions:
    """Somebody is suspended, restored, or gets another role; never the real client's owner."""
    user = dice.choice([u.id for u in snapshot.users.values() if u.login != PEOPLE[0]])
    return [
        dice.choice(
            (
                users.suspend(user),
                users.restore(user),
                users.set_role(user, dice.choice((Role.MEMBER, Role.ADMIN, Role.OWNER))),
            )
        )
    ]


def commit(snapshot: Snapshot, dice: Random) -> Decisions:
    """Another commit comes into force: policy, settings, DNS, relays."""
    head = f"{_HEAD}, {_APPROVERS}" if dice.randrange(2) else _HEAD
    files = {
        "derp.hujson": _relays(dice.randrange(3)),
        **{name: dice.choice(texts) for name, texts in _BESIDE.items()},
    }
    return put_in_force(snapshot, dice, f"{{{head}, {dice.choice(POLICIES)}}}", files)


def put_in_force(
    snapshot: Snapshot, dice: Random, policy: str, beside: Mapping[str, str] | None = None
) -> Decisions:
    """Put a policy and the files beside it in force, as a commit of its own."""
    files = {"policy.hujson": policy, **(beside or {})}
    declaration, found = declare(files)
    assert declaration is not None, found
    now = datetime.now(UTC)  # noqa: TID251 - real time
    number = f"{dice.getrandbits(160):040x}"
    deployment = Deployment(number, files, "a commit", "Ana", now, now, declaration)
    return [policies.replace(deployment, declaration.policy.resolve(snapshot), snapshot)]


EVENTS: Final[tuple[Event, ...]] = (
    join,
    join,
    say,
    say,
    say,
    come_and_go,
    come_and_go,
    crash,
    rename,
    move,
    approve,
    approve,
    tag,
    judge,
    judge,
    people,
    commit,
)


def _relays(number: int) -> str:
    """Return a ``derp.hujson`` with some regions that nobody measures, beside the server's own."""
    node = {"HostName": "127.0.0.1", "IPv4": "127.0.0.1", "IPv6": "none", "DERPPort": 9}
    regions = {
        str(region): {
            "RegionID": region,
            "RegionCode": f"r{region}",
            "RegionName": f"Region {region}",
            "NoMeasureNoHome": True,
            "Nodes": [{"Name": f"{region}a", **node}],
        }
        for region in range(901, 901 + number)
    }
    return json.dumps({"Regions": regions})


def _any(snapshot: Snapshot, dice: Random) -> NodeId:
    return dice.choice(sorted(snapshot.nodes))


def _made_up(snapshot: Snapshot, dice: Random) -> NodeId:
    """Return a device that nobody runs; an id of none when there are none."""
    return dice.choice(_strangers(snapshot) or [NodeId(0)])


def _strangers(snapshot: Snapshot) -> list[NodeId]:
    keys = {Machine(name).key for name in MACHINES}
    return sorted(node.id for node in snapshot.nodes.values() if node.machine_key in keys)

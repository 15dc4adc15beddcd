"""Inventories: the tailnet that they stand for."""

from __future__ import annotations

import json

from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import Role
from mergescale.netmap.inventory import populate, read_inventory
from mergescale.policy.repository import declare
from support.policies import sees

ANA, BEN = "ana@example.com", "ben@example.com"
EVERYTHING = '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}'


def populated(policy: str = EVERYTHING, users: str = "", **changes: object) -> Snapshot:
    """Return the tailnet of Ana's laptop, Ben's phone and a server, with some of it changed."""
    inventory: dict[str, list[dict[str, object]]] = {
        "users": [{"login_name": ANA, "role": "admin"}, {"login_name": BEN}],
        "nodes": [
            {"name": "laptop", "ipv4": "100.64.0.1", "ipv6": "fd7a:115c:a1e0::1", "user": ANA},
            {"name": "phone", "ipv4": "100.64.0.2", "ipv6": "fd7a:115c:a1e0::2", "user": BEN},
            {"name": "web", "ipv4": "100.64.0.3", "ipv6": "fd7a:115c:a1e0::3", "tags": ["tag:w"]},
        ],
    }
    for one in (*inventory["users"], *inventory["nodes"]):
        mine = changes.get(str(one.get("name", "")) or str(one["login_name"]).partition("@")[0], {})
        assert isinstance(mine, dict)
        one.update(mine)
    files = {"policy.hujson": policy, **({"users.hujson": users} if users else {})}
    declaration, found = declare(files)
    assert declaration is not None, found
    return populate(read_inventory(json.dumps(inventory).encode()), declaration)


def test_everybody_takes_part_who_may() -> None:
    """A suspended person's device and one that awaits approval are there and see nobody."""
    assert sees(populated(), "laptop") == {"phone", "web"}
    assert sees(populated(ben={"suspended": True}), "laptop") == {"web"}
    assert sees(populated(web={"authorized": False}), "laptop") == {"phone"}


def test_people_are_as_the_repository_declares_them() -> None:
    """Role and suspension of ``users.hujson`` win, and whom only it names is there."""
    users = json.dumps(
        {
            "users": [
                {"login": ANA, "role": "auditor"},
                {"login": BEN, "suspended": True},
                {"login": "zoe@example.com", "role": "owner"},
            ]
        }
    )
    snapshot = populated(users=users)
    told = {user.login: (user.role, user.suspended) for user in snapshot.users.values()}
    assert told == {
        ANA: (Role.AUDITOR, False),
        BEN: (Role.MEMBER, True),
        "zoe@example.com": (Role.OWNER, False),
    }
    assert sees(snapshot, "laptop") == {"web"}


def test_a_node_says_what_postures_ask_about() -> None:
    """Its system and its client's version decide; without them no posture holds."""
    policy = json.dumps(
        {
            "postures": {"posture:new": ["node:os == 'linux'", "node:tsVersion >= '1.90'"]},
            "tagOwners": {"tag:w": []},
            "acls": [
                {
                    "action": "accept",
                    "src": [ANA],
                    "dst": ["tag:w:*"],
                    "srcPosture": ["posture:new"],
                }
            ],
        }
    )
    new = {"os": "linux", "client_version": "1.90.2-tabcdef"}
    assert sees(populated(policy, laptop=new), "laptop") == {"web"}
    assert sees(populated(policy, laptop={**new, "client_version": "1.88.0"}), "laptop") == set()
    assert sees(populated(policy), "laptop") == set()

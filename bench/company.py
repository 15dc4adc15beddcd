"""A company for the measures of the policy language: people, devices, and rules between them.

A third of the devices are tagged, the others belong to half as many people; one in fifty leads to a
subnet. Groups have five people, twenty, a hundred, or a third of everybody. Of the rules four in a
hundred lead to ``autogroup:self``, three go through chosen routers (``via``), some grant capabilities
and some ask for a posture. The same numbers make the same company.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.netmap.inventory import Inventory, InventoryNode, InventoryUser

DOMAIN: Final = "example.com"
TAGS: Final = [f"tag:t{number}" for number in range(60)]
_GROUPS: Final = 80
_SUBNETS: Final = 200
_POSTURES: Final = {
    "posture:mac": ["node:os == 'macos'", "node:osVersion >= '14.0'"],
    "posture:current": ["node:tsVersion >= '1.80'", "node:tsReleaseTrack == 'stable'"],
}
_CLIENTS: Final = (
    {"OS": "macOS", "OSVersion": "14.5", "IPNVersion": "1.90.2"},
    {"OS": "linux", "OSVersion": "6.8.0", "IPNVersion": "1.78.1"},
    {"OS": "windows", "OSVersion": "10.0.22631", "IPNVersion": "1.84.0"},
)
_IPV4: Final = int(IPv4Address("100.64.0.0"))
_IPV6: Final = int(IPv6Address("fd7a:115c:a1e0::"))


@dataclass(frozen=True, slots=True)
class Company:
    """Of how many nodes, and how many rules are between them."""

    nodes: int
    rules: int

    def policy(self, edited: int | None = None) -> str:
        """Return the text of the policy; one rule, by number, may lead to another port."""
        chance = random.Random(self.rules)  # noqa: S311 - the same company each time
        groups = {f"group:g{number}": self._members(chance) for number in range(_GROUPS)}
        rules = [self._rule(number, chance) for number in range(self.rules)]
        if edited is not None:
            rules[edited]["ip"] = ["tcp:12345"]
        owners = {tag: ["autogroup:admin"] for tag in TAGS}
        sections = {"groups": groups, "tagOwners": owners, "postures": _POSTURES, "grants": rules}
        return json.dumps(sections, separators=(",", ":"))

    def inventory(self) -> Inventory:
        """Return its people and devices."""
        users = [InventoryUser(login_name=one) for one in self._people]
        return Inventory(users=users, nodes=list(self._devices()), domain=DOMAIN)

    @property
    def _people(self) -> tuple[str, ...]:
        return _logins(max(20, self.nodes // 2))

    def _members(self, chance: random.Random) -> list[str]:
        people = self._people
        return chance.sample(
            people, min(len(people), chance.choice([5, 20, 100, len(people) // 3]))
        )

    def _rule(self, number: int, chance: random.Random) -> dict[str, Any]:
        if number % 25 == 0:
            group = f"group:g{number % _GROUPS}"
            return {"src": [group], "dst": ["autogroup:self"], "ip": ["*"]}
        rule: dict[str, Any] = {
            "src": [self._source(chance) for _ in range(chance.randrange(1, 4))],
            "dst": [self._target(chance) for _ in range(chance.randrange(1, 4))],
            "ip": [chance.choice(["*", "22", "tcp:443", f"tcp:{chance.randrange(1, 60_000)}"])],
        }
        if number % 30 == 1:
            rule |= {"dst": [_subnet(chance)], "via": [chance.choice(TAGS)]}
        elif number % 40 == 2:
            rule["app"] = {f"{DOMAIN}/cap/x": [{"level": number}]}
        elif number % 20 == 3:
            rule["srcPosture"] = [chance.choice([*_POSTURES])]
        return rule

    def _source(self, chance: random.Random) -> str:
        group, person = f"group:g{chance.randrange(_GROUPS)}", chance.choice(self._people)
        return chance.choice(
            [group, chance.choice(TAGS), person, "autogroup:member", _subnet(chance)]
        )

    def _target(self, chance: random.Random) -> str:
        group, person = f"group:g{chance.randrange(_GROUPS)}", chance.choice(self._people)
        tags = [chance.choice(TAGS), chance.choice(TAGS)]
        return chance.choice([*tags, group, person, _subnet(chance)])

    def _devices(self) -> Iterator[InventoryNode]:
        chance = random.Random(self.nodes)  # noqa: S311 - the same company each time
        people = self._people
        for number in range(self.nodes):
            tagged = number % 3 == 0
            routes = [f"10.{number // 50 % _SUBNETS}.0.0/16"] if number % 50 == 0 else []
            yield InventoryNode(
                name=f"device-{number}",
                ipv4=IPv4Address(_IPV4 + number),
                ipv6=IPv6Address(_IPV6 + number + 1),
                user=None if tagged else chance.choice(people),
                tags=[chance.choice(TAGS)] if tagged else None,
                advertised_routes=routes,
                approved_routes=routes,
            )


def introduced(snapshot: Snapshot) -> Snapshot:
    """Return the tailnet with what each device's client says of itself."""
    said = [json.dumps(one).encode() for one in _CLIENTS]
    writes = [
        Put(replace(one, hostinfo=said[number % len(said)]))
        for number, one in enumerate(snapshot.nodes.values())
    ]
    return snapshot.apply(writes)[0]


@lru_cache(maxsize=8)
def _logins(count: int) -> tuple[str, ...]:
    return tuple(f"p{number}@{DOMAIN}" for number in range(count))


def _subnet(chance: random.Random) -> str:
    return f"10.{chance.randrange(_SUBNETS)}.0.0/16"

"""The tailnet of a run: who there is, what the repository says, and the commits that change one rule.

Everybody sees everybody, by one rule for SSH: the worst case for maps, where each of N clients holds N-1
peers. A tenth of the nodes are web servers and a tenth databases, owned by tags; the others belong to
people. The rule that commits change names a group with a hundredth of the people as its source.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Final

PEOPLE: Final = 200
OPERATORS: Final = 2
#: Node numbers are dealt out by their last digit: 0 is a web server, 1 a database, the rest people's.
_KINDS: Final = 10
WEB: Final = "tag:web"
DATABASE: Final = "tag:db"


@dataclass(frozen=True, slots=True)
class Policy:
    """The two ports that commits change.

    Attributes:
        everywhere: operators reach it on every node.
        web: operators reach it on web servers.
    """

    everywhere: int = 9000
    web: int = 9000

    def next_everywhere(self) -> Policy:
        """Return the policy in which every node has another filter."""
        return replace(self, everywhere=self.everywhere + 1)

    def next_web(self) -> Policy:
        """Return the policy in which web servers have another filter, and nobody else."""
        return replace(self, web=self.web + 1)

    @property
    def text(self) -> str:
        """The text of ``policy.hujson``."""
        operators = [login(number) for number in range(OPERATORS)]
        rules = [
            (["*"], "*:22"),
            (["group:operators"], f"*:{self.everywhere}"),
            (["group:operators"], f"{WEB}:443,{self.web}"),
            ([WEB], f"{DATABASE}:5432"),
            (["autogroup:member"], f"{WEB}:80,443"),
        ]
        acls = [{"action": "accept", "src": src, "dst": [dst]} for src, dst in rules]
        return json.dumps(
            {
                "groups": {"group:operators": operators},
                "tagOwners": {WEB: operators, DATABASE: operators},
                "acls": acls,
            },
            indent=2,
        )


def login(number: int) -> str:
    """Return a person's login."""
    return f"person-{number:03}@example.com"


def users_text() -> str:
    """Return the text of ``users.hujson``."""
    return json.dumps({"users": [{"login": login(number)} for number in range(PEOPLE)]}, indent=1)


def tag_of(number: int) -> str | None:
    """Return the tag that owns a node, None for a person's."""
    return {0: WEB, 1: DATABASE}.get(number % _KINDS)


def owner_of(number: int) -> str | None:
    """Return the login that owns a node, None for a tagged one."""
    return None if tag_of(number) else login(number // _KINDS * 8 % PEOPLE + number % _KINDS - 2)


def home(number: int, servers: int) -> int:
    """Return at which of so many servers a client is: each has the same share of every kind."""
    return number // _KINDS % servers

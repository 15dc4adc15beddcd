"""``tagOwners`` and ``autoApprovers``: who may give a tag, whose routes need no operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mergescale.domain.prefixes import Prefix, covers, is_exit
from mergescale.policy.document import PolicyDocument
from mergescale.policy.principals import Principal, named


@dataclass(frozen=True, slots=True)
class Ownership:
    """Both sections with names only.

    Attributes:
        tag_owners: ``tag:x`` -> who may give it by its own entry.
        routes: prefix -> who may route it or any part of it.
        exits: who may be an exit node.
    """

    tag_owners: Mapping[str, frozenset[Principal]]
    routes: tuple[tuple[Prefix, frozenset[Principal]], ...]
    exits: frozenset[Principal]

    def owners(self, tag: str) -> frozenset[Principal]:
        """Return who may give a tag, owners of owning tags included.

        Followed when it is asked for: tags that own each other would make lists of all of them
        for each of them. One that owns itself, by whatever way, adds nothing.
        """
        found: set[Principal] = set()
        seen, pending = {tag}, [tag]
        while pending:
            for owner in self.tag_owners.get(pending.pop(), frozenset()):
                found.add(owner)
                if owner.startswith("tag:") and owner not in seen:
                    seen.add(owner)
                    pending.append(owner)
        return frozenset(found)

    def approves(self, principals: frozenset[Principal], prefix: Prefix) -> bool:
        """Say whether a node with these names may route the prefix unasked.

        An exit route is only approved by ``exitNode``, whatever ``routes`` contains.
        """
        if is_exit(prefix):
            return not principals.isdisjoint(self.exits)
        return any(
            covers(outer, prefix) and not principals.isdisjoint(approvers)
            for outer, approvers in self.routes
        )


def own(document: PolicyDocument) -> Ownership:
    """Read both sections of a document."""
    return Ownership(
        {tag: named(owners) for tag, owners in document.tag_owners.items()},
        tuple((one.prefix, named(one.approvers)) for one in document.route_approvals),
        named(document.exit_approvers),
    )

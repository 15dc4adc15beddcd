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
        tag_owners: ``tag:x`` -> who may give it, owners of owning tags included.
        routes: prefix -> who may route it or any part of it.
        exits: who may be an exit node.
    """

    tag_owners: Mapping[str, frozenset[Principal]]
    routes: tuple[tuple[Prefix, frozenset[Principal]], ...]
    exits: frozenset[Principal]

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
    direct = {tag: named(owners) for tag, owners in document.tag_owners.items()}
    return Ownership(
        {tag: _all_owners(tag, direct) for tag in direct},
        tuple((one.prefix, named(one.approvers)) for one in document.route_approvals),
        named(document.exit_approvers),
    )


def _all_owners(tag: str, direct: Mapping[str, frozenset[Principal]]) -> frozenset[Principal]:
    """Follow tags that own tags; one that owns itself, by whatever way, adds nothing."""
    found: set[Principal] = set()
    seen, pending = {tag}, [tag]
    while pending:
        for owner in direct.get(pending.pop(), frozenset()):
            found.add(owner)
            if owner.startswith("tag:") and owner not in seen:
                seen.add(owner)
                pending.append(owner)
    return frozenset(found)

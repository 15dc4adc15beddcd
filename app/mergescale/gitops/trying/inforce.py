"""What is in force, as a child process is told of it: its texts, which it compiles again.

What the server has compiled shares objects with everything that it holds; texts are small, and a
plan needs nothing else of what is in force but who carries which route and who is connected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from mergescale.domain.declaration import Deployment
from mergescale.domain.prefixes import Prefix
from mergescale.domain.snapshot import Snapshot
from mergescale.gitops.stages import BadCommit
from mergescale.kernel.ids import NodeId, ReplicaId
from mergescale.policy.repository import declare

#: Plans do not say when anything came into force.
_ONCE: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class InForce:
    """Of one snapshot.

    Attributes:
        commit: empty for nothing.
        files: its texts.
        presence, primaries: as in the `Snapshot`.
    """

    commit: str
    files: Mapping[str, str]
    presence: Mapping[NodeId, frozenset[ReplicaId]]
    primaries: Mapping[Prefix, NodeId]

    @classmethod
    def of(cls, snapshot: Snapshot) -> InForce:
        """Return what is in force in a snapshot."""
        held = snapshot.deployment
        commit, files = ("", {}) if held is None else (held.commit, held.files)
        return cls(commit, files, snapshot.presence, snapshot.primaries)

    def over(self, devices: Snapshot) -> Snapshot:
        """Return the tailnet with these people and devices, and with this in force.

        Raises:
            BadCommit: this version cannot read the texts.
        """
        known = replace(devices, presence=self.presence, primaries=self.primaries)
        if not self.commit:
            return known
        declaration, _ = declare(self.files, tested=False)
        if declaration is None:
            message = "this version cannot read the policy that is in force"
            raise BadCommit("valid", "InternalError", message)
        deployment = Deployment(self.commit, self.files, "", "", _ONCE, _ONCE, declaration)
        known = replace(known, deployment=deployment)
        return replace(known, access=declaration.policy.resolve(known))

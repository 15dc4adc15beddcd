"""What an encoder remembers between messages; every answer is the same without it, only slower.

Nothing here belongs to a client. Memory is linear in nodes and in what a deployment says; what is
kept of nodes and users that are gone is dropped with the next full map.
"""

from __future__ import annotations

from typing import Final

from mergescale.domain.declaration import Deployment
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.tailnet import RelayRegion
from mergescale.kernel.ids import NodeId, UserId
from mergescale.netmap.blocks import Scene
from mergescale.netmap.deployment import Estate, estate
from mergescale.netmap.face import Face
from mergescale.netmap.filters import Filters
from mergescale.netmap.parts import SHARE_BYTES, Part, Shared
from mergescale.netmap.people import Profiles, owned
from mergescale.netmap.recent import Recent
from mergescale.netmap.ssh import SshPolicies

#: LIMIT: deployments kept encoded: the one in force, and the one that slow clients still hold.
_ESTATES: Final = 4
#: LIMIT: sets of profiles kept joined; viewers of one kind need the same people.
_CROWDS: Final = 16


class Cache:
    """Encoded pieces of one tailnet's maps.

    Attributes:
        filters: source lists.
        profiles: user profiles.
        ssh: SSH policies.
    """

    def __init__(self, own_region: RelayRegion | None, server_url: str) -> None:
        self.filters = Filters()
        self.profiles = Profiles()
        self.ssh = SshPolicies(server_url)
        self._own_region = own_region
        self._scene: Scene | None = None
        self._faces: dict[NodeId, Face] = {}
        self._owned: tuple[Snapshot, dict[UserId, int]] | None = None
        self._around: Recent[int, list[Part]] = Recent(_CROWDS)
        self._estates: Recent[int, tuple[Deployment | None, Estate]] = Recent(_ESTATES)
        self._crowds: Recent[tuple[bytes, ...], Part] = Recent(_CROWDS)

    def face(self, snapshot: Snapshot, node: NodeId) -> Face:
        """Return how the node looks in the snapshot."""
        record = snapshot.nodes[node]
        face = self._faces.get(node)
        if face is None or not face.shows(snapshot, record, snapshot.magic_dns_suffix):
            face = self._faces[node] = Face(snapshot, record)
        return face

    def scene(self, snapshot: Snapshot) -> Scene:
        """Return all faces of the snapshot in blocks."""
        scene = self._scene
        if scene is None or scene.snapshot is not snapshot:
            scene = Scene(snapshot, self._faces, () if scene is None else scene.blocks)
            self._scene, self._faces = scene, scene.faces
        return scene

    def owned(self, snapshot: Snapshot) -> dict[UserId, int]:
        """Return the slots of each user's nodes."""
        if self._owned is None or self._owned[0] is not snapshot:
            self._owned, self._around = (snapshot, owned(snapshot)), Recent(_CROWDS)
            self.profiles.keep(snapshot.users)
        return self._owned[1]

    def estate(self, snapshot: Snapshot) -> Estate:
        """Return what all nodes are told alike; it depends on the deployment in force only."""
        deployment = snapshot.deployment
        return self._estates.get(
            id(deployment), lambda: (deployment, estate(snapshot, self._own_region))
        )[1]

    def owners(self, snapshot: Snapshot, slots: int) -> list[Part]:
        """Return the array of the profiles of those who own the nodes in `slots`."""
        owned = self.owned(snapshot)
        return self._around.get(
            slots,
            lambda: self.crowd(snapshot, [user for user, own in owned.items() if own & slots]),
        )

    def crowd(self, snapshot: Snapshot, users: list[UserId]) -> list[Part]:
        """Return the array of these users' profiles."""
        profiles = tuple([self.profiles.of(snapshot, user) for user in users])
        return [b"[", self._crowds.get(profiles, lambda: _joined(profiles)), b"]"]


def _joined(profiles: tuple[bytes, ...]) -> Part:
    size = sum(map(len, profiles))
    return b",".join(profiles) if size < SHARE_BYTES else Shared(profiles)

"""One side of a comparison: texts, what they mean, and the tailnet under them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from mergescale.domain.declaration import Declaration
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import LocalProtocolError
from mergescale.policy.compiled import CompiledPolicy
from mergescale.policy.document import PolicyDocument


@dataclass(frozen=True, slots=True)
class Side:
    """What is in force, or what is proposed.

    Attributes:
        tree: `tree_of` the texts.
        declaration: what they say.
        snapshot: the tailnet under it; both sides have the same nodes in the same slots.
    """

    tree: str
    declaration: Declaration
    snapshot: Snapshot

    @property
    def policy(self) -> CompiledPolicy:
        """The policy of the declaration."""
        match self.declaration.policy:
            case CompiledPolicy() as policy:
                return policy
            case _:
                raise LocalProtocolError("a plan needs policies that were compiled")

    @property
    def document(self) -> PolicyDocument:
        """The policy as it was written."""
        return self.policy.document


def tree_of(files: Mapping[str, str]) -> str:
    """Return a hash of the watched folder's files.

    Not git's tree: the server, which knows texts, and whoever has a work tree say the same.
    """
    return hash_of(*(part for name in sorted(files) for part in (name, files[name])))


def hash_of(*parts: str) -> str:
    """Return the SHA-256 of texts in this order, in hex."""
    # Each with its length: no text can look like two.
    return hashlib.sha256(b"".join(map(_counted, parts))).hexdigest()


def _counted(part: str) -> bytes:
    text = part.encode()
    return b"%d:%b" % (len(text), text)

"""People as clients see them: tailcfg's User, Login and UserProfile (spec 3.2, 4.10).

INVARIANT(plain): names here are chosen by users or their identity provider and travel in messages
that the Rust client parses whole; each passes `plain` on construction.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import UNSET, UnsetType

from mergescale.wire.tailcfg.encode import make_plain
from mergescale.wire.tailcfg.names import Wire


class User(Wire, frozen=True, kw_only=True):
    """tailcfg.User: who owns the node, in a register answer.

    Attributes:
        id: 0 only in answers that carry no user (pending, refused).
        display_name: overrides the login's; may be empty.
        profile_pic_url: left out when empty; Rust requires a valid URL otherwise.
        created: left out when unset.
    """

    id: int
    display_name: str
    profile_pic_url: str = ""
    created: datetime | UnsetType = UNSET

    def __post_init__(self) -> None:
        make_plain(self, "display_name", "profile_pic_url")


class Login(Wire, frozen=True, kw_only=True):
    """tailcfg.Login: the account at the identity provider, in a register answer.

    Attributes:
        id: 0 only in answers that carry no user.
        provider: e.g. ``oidc``; display only.
        login_name: must not be empty on success, or the client never persists its profile
            (spec 3.5), so tagged nodes get a pseudo-user.
        display_name: from the provider.
        profile_pic_url: left out when empty.
    """

    id: int
    provider: str
    login_name: str
    display_name: str
    profile_pic_url: str = ""

    def __post_init__(self) -> None:
        make_plain(self, "provider", "login_name", "display_name", "profile_pic_url")


class UserProfile(Wire, frozen=True, kw_only=True):
    """tailcfg.UserProfile: who a peer belongs to; merged by ID on the client, never removed.

    WIRE(capver 87): Groups is gone and has no place here.

    Attributes:
        id: equals Node.User of the nodes it names.
        login_name: what SSH principals and WhoIs compare.
        display_name: shown to people.
        profile_pic_url: left out when empty.
    """

    id: int
    login_name: str
    display_name: str
    profile_pic_url: str = ""

    def __post_init__(self) -> None:
        make_plain(self, "login_name", "display_name", "profile_pic_url")

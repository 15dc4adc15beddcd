"""People who own nodes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from mergescale.kernel.ids import UserId

#: Tagged nodes belong to nobody; the wire needs a UserProfile for them all the same (spec 3.5).
TAGGED_USER_ID: Final = UserId(2_147_455_555)
TAGGED_LOGIN: Final = "tagged-devices"


class Role(StrEnum):
    """The hosted service's roles; `MEMBER` when nothing is said."""

    OWNER = "owner"
    ADMIN = "admin"
    IT_ADMIN = "it-admin"
    NETWORK_ADMIN = "network-admin"
    BILLING_ADMIN = "billing-admin"
    AUDITOR = "auditor"
    MEMBER = "member"


@dataclass(frozen=True, slots=True)
class User:
    """A person.

    Attributes:
        login: unique in the tailnet, compared without case, e.g. ``ana@example.com``.
        declared: named by ``users.hujson`` of the commit in force.
        suspended: its nodes keep their place but match no selector and see nobody.
    """

    id: UserId
    login: str
    display_name: str
    role: Role
    created: datetime
    declared: bool = False
    suspended: bool = False

"""``POST /machine/register``: tailcfg's RegisterRequest and RegisterResponse (spec 3)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from msgspec import Meta

from mergescale.kernel.errors import LocalProtocolError
from mergescale.kernel.keys import NodeKey
from mergescale.wire.tailcfg.decode import Shape, decode_request, instant, key
from mergescale.wire.tailcfg.encode import make_plain
from mergescale.wire.tailcfg.hostinfo import Hostinfo, read_hostinfo
from mergescale.wire.tailcfg.names import Wire
from mergescale.wire.tailcfg.users import Login, User

#: A capability version has 16 bits in the Noise initiation.
CapabilityVersion = Annotated[int, Meta(ge=0, le=65535)]


class RegisterResponseAuth(Wire, frozen=True, kw_only=True):
    """tailcfg.RegisterResponseAuth: the pre-auth key; its repr shows nothing.

    Attributes:
        oauth2_token: of Android clients before 1.66; not looked at.
        auth_key: the pre-auth key, a secret; empty for none.
    """

    oauth2_token: Any = None
    auth_key: str = ""

    def __repr__(self) -> str:
        return "RegisterResponseAuth(…)"


class RegisterRequest(Wire, frozen=True, kw_only=True):
    """tailcfg.RegisterRequest (spec 3.1).

    Attributes:
        version: capability version.
        node_key: the key the node wants to use; zero when absent, which must be refused.
        old_node_key: the previous key on rotation; zero for none.
        nl_key: ``nlpub:`` text, tailnet lock.
        auth: None when no pre-auth key was given; its absence is not a logout.
        expiry: None normally; in the past it asks for logout, in the future for an earlier expiry.
        followup: the AuthURL being waited for; empty otherwise.
        hostinfo: as received; empty when absent.
        ephemeral: remove the node soon after it went offline.
        node_key_signature: tailnet lock signature; empty for none.
        signature_type: Go sends text, Rust a number; both only with a device certificate.
        timestamp: when a signed request was made.
        device_cert: concatenated DER.
        signature: over the request.
        tailnet: the tailnet asked for, possibly behind ``required:``.
    """

    version: CapabilityVersion = 0
    node_key: NodeKey = NodeKey.zero()
    old_node_key: NodeKey = NodeKey.zero()
    nl_key: str = ""
    auth: RegisterResponseAuth | None = None
    expiry: datetime | None = None
    followup: str = ""
    hostinfo: Hostinfo = Hostinfo()
    ephemeral: bool = False
    node_key_signature: bytes = b""
    signature_type: str | int = ""
    timestamp: datetime | None = None
    device_cert: bytes = b""
    signature: bytes = b""
    tailnet: str = ""

    @property
    def auth_key(self) -> str:
        """Return the pre-auth key, or empty text."""
        return "" if self.auth is None else self.auth.auth_key

    def asks_logout(self, now: datetime) -> bool:
        """Say whether this is a logout; ask before looking at `auth` (spec 9.3, pitfall 15)."""
        return self.expiry is not None and self.expiry <= now


class RegisterResponse(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """tailcfg.RegisterResponse; all seven members are always sent, as Rust requires (spec 3.2).

    Build it by `accepted`, `pending`, `key_expired` or `refused`; HTTP status is 200 for all four.

    INVARIANT(pending is not authorized): Rust takes MachineAuthorized as the whole answer, even
    beside an AuthURL, so the two exclude each other.

    Attributes:
        user: owner; id 0 where there is none.
        login: the owner's account.
        node_key_expired: asks for a new node key; never for a fresh key, or Go loops.
        machine_authorized: True exactly when accepted.
        auth_url: not empty while an interactive login is pending.
        node_key_signature: None without tailnet lock; anything else makes Go sign and come again.
        error: not empty when refused; shown to the user.
    """

    user: User
    login: Login
    node_key_expired: bool = False
    machine_authorized: bool = False
    auth_url: str = ""
    node_key_signature: bytes | None = None
    error: str = ""

    def __post_init__(self) -> None:
        make_plain(self, "auth_url", "error")
        if self.machine_authorized and (self.auth_url or self.error or self.node_key_expired):
            raise LocalProtocolError("an accepted registration has nothing left to do")


_NO_USER: Final = User(id=0, display_name="")
_NO_LOGIN: Final = Login(id=0, provider="", login_name="", display_name="")


def accepted(user: User, login: Login) -> RegisterResponse:
    """Return the answer to a node that is registered.

    A node that waits for device approval is accepted too; its map says MachineAuthorized false.

    Raises:
        LocalProtocolError: the login name is empty, so that the client would lose its profile.
    """
    if not login.login_name:
        raise LocalProtocolError("a registered node needs a login name")
    return RegisterResponse(user=user, login=login, machine_authorized=True)


def pending(auth_url: str) -> RegisterResponse:
    """Return the answer to a node whose user has to open `auth_url`."""
    return RegisterResponse(user=_NO_USER, login=_NO_LOGIN, auth_url=auth_url)


def key_expired(user: User = _NO_USER, login: Login = _NO_LOGIN) -> RegisterResponse:
    """Return the answer to a node whose key has expired, or that has just logged out."""
    return RegisterResponse(user=user, login=login, node_key_expired=True)


def refused(text: str) -> RegisterResponse:
    """Return the answer that shows `text` to the user; the client tries again with backoff."""
    return RegisterResponse(user=_NO_USER, login=_NO_LOGIN, error=text or "refused")


_REGISTER: Final = Shape(
    RegisterRequest,
    {
        "node_key": key(NodeKey),
        "old_node_key": key(NodeKey),
        "auth": Shape(RegisterResponseAuth),
        "expiry": instant,
        "hostinfo": read_hostinfo,
        "timestamp": instant,
    },
)


def decode_register_request(body: bytes) -> RegisterRequest:
    """Return the request in a body; raise `RemoteProtocolError` if malformed."""
    return decode_request(body, _REGISTER, RegisterRequest)

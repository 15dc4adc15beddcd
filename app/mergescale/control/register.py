"""``POST /machine/register``: from the wire to a decision and back (spec 3).

Every refusal is HTTP 200 with a text in ``Error``: that is what a client shows its user. Another
status is for what is worth repeating, or was no request at all.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final, assert_never
from urllib.parse import urlsplit

from mergescale.domain.user import TAGGED_LOGIN, TAGGED_USER_ID, User
from mergescale.fanout.bell import LoginBell
from mergescale.identity import secrets
from mergescale.kernel.clock import Entropy
from mergescale.kernel.errors import Invalid
from mergescale.kernel.ids import AuthKeyId, LoginId
from mergescale.kernel.keys import MachineKey, NodeKey
from mergescale.state import registration
from mergescale.state.engine import Engine
from mergescale.state.ports import StoreConflict
from mergescale.state.registration import (
    Answer,
    Fresh,
    KeyExpired,
    LoggedOut,
    LoginNeeded,
    Refused,
    Registered,
    Request,
    ShownKey,
)
from mergescale.state.tailnets import Tailnets
from mergescale.state.throttle import (
    LOGIN_NETWORK,
    LOGIN_PLACE,
    Throttle,
    neighbourhood,
    place,
)
from mergescale.wire.tailcfg import capver, register
from mergescale.wire.tailcfg.register import RegisterRequest, RegisterResponse
from mergescale.wire.tailcfg.users import Login
from mergescale.wire.tailcfg.users import User as WireUser

#: LIMIT: how long a follow-up is held. The client asks again at once, with the same URL.
HOLD_S: Final = 600.0
#: Where the AuthURL's page is; ``web.logins`` serves it.
LOGIN_PATH: Final = "/register/"


@dataclass(frozen=True, slots=True)
class Registrar:
    """Answers register requests.

    Attributes:
        server_url: what AuthURLs begin with.
        hold_s: see `HOLD_S`.
        throttle: bounds how many logins one place begins; None for no bound.
    """

    tailnets: Tailnets
    bell: LoginBell
    entropy: Entropy
    server_url: str
    hold_s: float = HOLD_S
    throttle: Throttle | None = None

    async def answer(
        self, machine: MachineKey, wire: RegisterRequest, host: str = ""
    ) -> RegisterResponse:
        """Decide about one request of this machine; holds a follow-up until its login is decided.

        Args:
            machine: whose connection it is.
            wire: what it asks.
            host: the address it asks from.

        Raises:
            TooManyAttempts: it would begin a login, and its place has begun enough of them.
            StoreUnavailable: nothing was decided; the client tries again. Not an ``Error``, which
                the Rust client takes for the last word where it repeats a failed request.
        """
        if not capver.is_supported(wire.version):
            return register.refused(capver.refuse_text(wire.version))
        request = self._request(machine, wire)
        if not self._known(request):
            await self.tailnets.freshen()
        engine = self._tailnet(request)
        if engine is None:
            return register.refused("this node key belongs to another tailnet")
        try:
            answer = await self._decide(engine, request, host)
            if isinstance(answer, LoginNeeded) and answer.login_id == request.followup:
                answer = await self._hold(engine, request, answer.login_id, host)
        except StoreConflict:
            # Another tailnet was faster with this node key; asking again would not help.
            return register.refused("this node key belongs to another tailnet")
        return self._response(answer)

    async def _decide(self, engine: Engine, request: Request, host: str) -> Answer:
        """Carry the request out; a login that nobody has begun yet counts for its place.

        A machine that comes back to its login costs nothing, so that it can be approved however many
        strangers there are behind its own address.
        """
        if self.throttle is not None and engine.preview(registration.begins_login(request)):
            await self.throttle.take(
                (LOGIN_PLACE, place(host)), (LOGIN_NETWORK, neighbourhood(host))
            )
        return await engine.apply(registration.register(request))

    async def _hold(self, engine: Engine, request: Request, login: LoginId, host: str) -> Answer:
        """Wait until the login is decided, then ask again."""
        with self.bell.at(login) as decided:
            # Again with the bell in hand: it may have been decided since the first answer.
            answer = await self._decide(engine, request, host)
            if not isinstance(answer, LoginNeeded) or answer.login_id != login:
                return answer
            try:
                async with asyncio.timeout(self.hold_s):
                    await decided.wait()
            except TimeoutError:
                return answer
        return await self._decide(engine, replace(request, fresh=self._fresh()), host)

    def _request(self, machine: MachineKey, wire: RegisterRequest) -> Request:
        return Request(
            machine_key=machine,
            node_key=wire.node_key,
            old_node_key=wire.old_node_key,
            hostinfo=wire.hostinfo,
            fresh=self._fresh(),
            capability_version=wire.version,
            auth=_shown(wire.auth_key),
            expiry=wire.expiry,
            followup=_login_in(wire.followup),
            ephemeral=wire.ephemeral,
        )

    def _known(self, request: Request) -> bool:
        """Say whether what the request names is known here, and not perhaps elsewhere only."""
        if request.auth is not None:
            return self.tailnets.of_auth_key(request.auth.id) is not None
        if request.followup is not None:
            return self.tailnets.of_login(request.followup) is not None
        return self._of_node(request.machine_key, request.node_key) is not None

    def _tailnet(self, request: Request) -> Engine | None:
        """Return the tailnet the request is about; None if its node key is in another one.

        The first that applies: the auth key's, the node's, the login's, that of the node whose key
        is being replaced, the default. What belongs to another machine counts only to refuse it.
        """
        known = self._of_node_key(request.machine_key, request.node_key)
        shown = self.tailnets.of_auth_key(request.auth.id) if request.auth else None
        if known is not None and shown is not None and known is not shown:
            return None
        return (
            shown
            or known
            or self._of_login(request.machine_key, request.followup)
            or self._of_node(request.machine_key, request.old_node_key)
            or self.tailnets.default
        )

    def _of_node_key(self, machine: MachineKey, key: NodeKey) -> Engine | None:
        """Return the tailnet with this node; only if there is none, one where it is another's."""
        own = self._of_node(machine, key)
        return own or next((e for e in self.tailnets if key in e.snapshot.by_node_key), None)

    def _of_node(self, machine: MachineKey, key: NodeKey) -> Engine | None:
        found = self.tailnets.of_node(machine, key)
        return None if found is None else found[0]

    def _of_login(self, machine: MachineKey, login: LoginId | None) -> Engine | None:
        engine = None if login is None else self.tailnets.of_login(login)
        if login is None or engine is None:
            return None
        return engine if engine.snapshot.logins[login].machine_key == machine else None

    def _fresh(self) -> Fresh:
        return Fresh(
            stable_id=secrets.stable_id(self.entropy.bytes(secrets.ID_BYTES)),
            login_id=secrets.login_id(self.entropy.bytes(secrets.ID_BYTES)),
        )

    def _response(self, answer: Answer) -> RegisterResponse:
        match answer:
            case Registered(user=user):
                return register.accepted(*_people(user))
            case LoginNeeded(login_id):
                return register.pending(f"{self.server_url}{LOGIN_PATH}{login_id}")
            case KeyExpired() | LoggedOut():
                return register.key_expired()
            case Refused(text):
                return register.refused(text)
            case _:
                assert_never(answer)


def _people(user: User | None) -> tuple[WireUser, Login]:
    """Return the owner as the client stores it in its profile."""
    number = TAGGED_USER_ID if user is None else user.id
    login = TAGGED_LOGIN if user is None else user.login
    name = "Tagged Devices" if user is None else user.display_name or user.login
    return (
        WireUser(id=number, display_name=name),
        Login(id=number, provider="mergescale", login_name=login, display_name=name),
    )


def _shown(text: str) -> ShownKey | None:
    if not text:
        return None
    try:
        shown = secrets.parse(text)
    except Invalid:
        shown = None
    if shown is None or shown.kind is not secrets.Kind.AUTH:
        return ShownKey(AuthKeyId(""), b"")
    return ShownKey(AuthKeyId(shown.id), shown.secret_hash)


def _login_in(followup: str) -> LoginId | None:
    """Return the login an AuthURL is about; its host part is not looked at."""
    try:
        path = urlsplit(followup).path
    except ValueError:
        # Not a URL, so none of ours: the client gets a new one.
        return None
    return LoginId(path.removeprefix(LOGIN_PATH)) if path.startswith(LOGIN_PATH) else None

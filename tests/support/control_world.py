"""Control as the server puts it together, on loopback, with state in memory and time that is moved.

::

    async with controlled(people()) as control:
        async with control.device("laptop") as laptop:
            await laptop.register(auth=await control.auth_key())
            async with laptop.polling() as stream:
                first = await stream.next()

Sockets, Noise, HTTP/2, Litestar, engines, hubs and presence are the real ones; the journal, the
clocks and the timers that measure seconds are the twins.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx

from mergescale.control.app import machine_app
from mergescale.control.c2n import C2n
from mergescale.control.channel import Service
from mergescale.control.limits import Limits
from mergescale.control.poll import Poller
from mergescale.control.public import public_handlers
from mergescale.control.register import HOLD_S, LOGIN_PATH, Registrar
from mergescale.control.sshcheck import SshGate
from mergescale.control.upgrade import PROTOCOL, Door, Ts2021
from mergescale.domain.declaration import Declaration
from mergescale.domain.snapshot import Snapshot
from mergescale.fanout.bell import LoginBell
from mergescale.fanout.hub import Hub
from mergescale.fanout.presence import Presence
from mergescale.fanout.timers import Handle
from mergescale.identity.secrets import ID_BYTES, MINT_BYTES, Kind, mint, stable_id
from mergescale.kernel.ids import AuthKeyId, LoginId, NodeId, TailnetName
from mergescale.kernel.keys import DiscoKey, MachineKey, NodeKey, PrivateKey
from mergescale.netmap.encoder import Encoder
from mergescale.server.edge import Edge
from mergescale.server.http import Parts, application
from mergescale.server.listeners import TcpListener
from mergescale.server.tailnet import Feeds
from mergescale.server.takeover import Claim
from mergescale.state import authkeys, logins, presence
from mergescale.state.engine import Engine
from mergescale.state.outcome import Decision
from mergescale.state.tailnets import Tailnets
from mergescale.state.throttle import Failures, Throttle
from mergescale.wire.mapframe import Compression, Decoder
from mergescale.wire.noise import public_key
from support.clock import FakeClock, FakeEntropy
from support.journal import MemoryJournal
from support.machines import CAPABILITY_VERSION
from support.noise_client import Answer, Call, NoiseClient
from support.noise_server import SERVER, RandomEntropy
from support.plain import PLAIN
from support.policies import policy
from support.tailnet_story import REGION
from support.timers import FakeTimers
from support.worlds import REPLICA, key_bytes, world

T = TypeVar("T")
Json = dict[str, Any]

ALICE, BOB = "alice@example.com", "bob@example.com"
#: Who is there before any device is.
PEOPLE = f"{ALICE}: ; {BOB}: "
OPEN = """{"tagOwners": {"tag:web": ["alice@example.com"]},
 "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}"""
URL = "https://control.example.com"
#: What Go sends for a logout (spec 3.4), with a client's local offset.
LOGOUT = "1970-01-01T01:02:03+01:00"


def people(text: str = PEOPLE, *, tailnet: str = "default", policy_text: str = OPEN) -> Snapshot:
    """Return a tailnet in which everybody reaches everybody."""
    return world(text, tailnet=tailnet, declaration=Declaration(policy(policy_text)))


class LoopTimers(FakeTimers):
    """Seconds pass when the test says so; what is due soon is the loop's own."""

    def call_soon(self, callback: Callable[[], object], /) -> Handle:
        return asyncio.get_running_loop().call_soon(callback)


@dataclass(slots=True)
class Tailnet:
    """One tailnet at work."""

    engine: Engine
    hub: Hub
    presence: Presence

    @property
    def snapshot(self) -> Snapshot:
        return self.engine.snapshot


@dataclass(slots=True)
class Control:
    """A running control server.

    Attributes:
        timers: keepalives and the grace period of presence.
        http: asks outside Noise, over the same listener.
    """

    tailnets: Tailnets
    parts: dict[TailnetName, Tailnet]
    journal: MemoryJournal
    clock: FakeClock
    timers: LoopTimers
    bell: LoginBell
    c2n: C2n
    edge: Edge
    _keys: FakeEntropy = field(default_factory=lambda: FakeEntropy("control world"))

    @property
    def port(self) -> int:
        port: int = self.edge.addresses[0][1]
        return port

    @property
    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}", verify=PLAIN, trust_env=False
        )

    @property
    def key(self) -> MachineKey:
        return public_key(SERVER)

    def tailnet(self, name: str = "default") -> Tailnet:
        return self.parts[TailnetName(name)]

    @property
    def snapshot(self) -> Snapshot:
        return self.tailnet().snapshot

    async def apply(self, decision: Decision[T], *, tailnet: str = "default") -> T:
        return await self.tailnet(tailnet).engine.apply(decision)

    async def auth_key(
        self, *, tailnet: str = "default", user: str | None = ALICE, **wanted: Any
    ) -> str:
        """Make a pre-auth key; return its text."""
        minted = mint(Kind.AUTH, self._keys.bytes(MINT_BYTES))
        if wanted.get("tags"):
            user = None
        how = authkeys.Wanted(user=user, **wanted)
        await self.apply(
            authkeys.create(AuthKeyId(minted.id), minted.secret_hash, how), tailnet=tailnet
        )
        return minted.text

    async def approve(self, auth_url: str, *, user: str = ALICE, tailnet: str = "default") -> None:
        """Do what the operator does after opening an AuthURL."""
        fresh = stable_id(self._keys.bytes(ID_BYTES))
        await self.apply(
            logins.approve(login_in(auth_url), logins.Approval(fresh, user=user)), tailnet=tailnet
        )

    async def waited_at(self, auth_url: str) -> None:
        """Wait until a follow-up of this login is held."""
        while login_in(auth_url) not in self.bell._waiting:  # noqa: ASYNC110 - see aio.until
            await asyncio.sleep(0)

    @contextlib.asynccontextmanager
    async def device(
        self, name: str, *, version: int = CAPABILITY_VERSION, **connection: Any
    ) -> AsyncIterator[Device]:
        """Connect a machine; the same name has the same keys every time."""
        machine = PrivateKey(key_bytes(f"machine {name}"))
        async with NoiseClient.connect(
            "127.0.0.1", self.port, machine=machine, server=self.key, version=version, **connection
        ) as noise:
            yield Device(name, noise, public_key(machine), version)


@dataclass(slots=True)
class Device:
    """A machine that is connected; members of requests are given by Go's names."""

    name: str
    noise: NoiseClient
    machine: MachineKey
    version: int

    def node_key(self, number: int = 0) -> NodeKey:
        return NodeKey(key_bytes(f"node {self.name} {number}"))

    def disco_key(self) -> DiscoKey:
        return DiscoKey(key_bytes(f"disco {self.name}"))

    def register_request(
        self, *, number: int = 0, old: int | None = None, auth: str = "", **members: Any
    ) -> Json:
        """Return tailcfg.RegisterRequest as Go sends it."""
        request: Json = {
            "Version": self.version,
            "NodeKey": str(self.node_key(number)),
            "OldNodeKey": str(NodeKey.zero() if old is None else self.node_key(old)),
            "Expiry": "0001-01-01T00:00:00Z",
            "Followup": "",
            "Hostinfo": {"Hostname": self.name, "OS": "linux"},
        }
        if auth:
            request["Auth"] = {"AuthKey": auth}
        return request | members

    def map_request(self, *, number: int = 0, **members: Any) -> Json:
        """Return tailcfg.MapRequest with what every kind of it has."""
        request = {
            "Version": self.version,
            "NodeKey": str(self.node_key(number)),
            "DiscoKey": str(DiscoKey.zero()),
            "Hostinfo": {"Hostname": self.name, "OS": "linux"},
        }
        return request | members

    async def post(self, path: str, request: Json) -> Answer:
        return await self.noise.post(path, json.dumps(request).encode())

    async def register(self, **members: Any) -> Json:
        """Register; return what the client was told, which has every member (spec 3.2)."""
        answer = await self.post("/machine/register", self.register_request(**members))
        return registered(answer)

    async def join(self, auth: str, **members: Any) -> Json:
        """Register and be accepted."""
        told = await self.register(auth=auth, **members)
        assert told["MachineAuthorized"] is True, told["Error"]
        return told

    async def following(self, auth_url: str, **members: Any) -> Call:
        """Send a follow-up and return while it is under way."""
        request = self.register_request(Followup=auth_url, **members)
        return await self.noise.open("POST", "/machine/register", json.dumps(request).encode())

    async def update(self, **members: Any) -> Answer:
        """Send a lite update."""
        members = {"DiscoKey": str(self.disco_key()), **members}
        request = self.map_request(OmitPeers=True, **members)
        return await self.post("/machine/map", request)

    @contextlib.asynccontextmanager
    async def polling(self, *, zstd: bool = True, **members: Any) -> AsyncIterator[MapStream]:
        """Open a map stream, as Go does, or with raw frames, as Rust does."""
        how: Json = {"Stream": True, "KeepAlive": True} | ({"Compress": "zstd"} if zstd else {})
        body = json.dumps(self.map_request(**how, **members)).encode()
        call = await self.noise.open("POST", "/machine/map", body)
        try:
            yield MapStream(call, Decoder(Compression.ZSTD if zstd else Compression.NONE))
        finally:
            if not call.ended and not self.noise.gone.is_set():
                await call.reset()


@dataclass(slots=True)
class MapStream:
    """The client's end of a map stream."""

    call: Call
    decoder: Decoder
    _read: list[bytes] = field(default_factory=list)

    async def next(self) -> Json:
        """Return the next message."""
        message: Json = json.loads(await self.text())
        return message

    async def text(self) -> bytes:
        """Return the next message as it was written."""
        while not self._read:
            chunk = await self.call.chunk()
            assert chunk, "the stream ended"
            self._read = self.decoder.feed(chunk)
        return self._read.pop(0)

    async def end(self) -> None:
        """Wait for the orderly end; nothing comes before it."""
        assert self._read == []
        assert await self.call.chunk() == b""


def registered(answer: Answer) -> Json:
    """Return a RegisterResponse; refusals have status 200 too."""
    assert answer.status == 200, answer.body
    told: Json = json.loads(answer.body)
    assert sorted(told) == [
        "AuthURL",
        "Error",
        "Login",
        "MachineAuthorized",
        "NodeKeyExpired",
        "NodeKeySignature",
        "User",
    ]
    assert told["NodeKeySignature"] is None
    assert not (told["MachineAuthorized"] and (told["AuthURL"] or told["Error"]))
    return told


def one_map(answer: Answer, *, zstd: bool = False) -> Json:
    """Return the only message of an answer that was no stream."""
    decoder = Decoder(Compression.ZSTD if zstd else Compression.NONE)
    [text] = decoder.feed(answer.body)
    message: Json = json.loads(text)
    return message


def login_in(auth_url: str) -> LoginId:
    """Return the login of an AuthURL of this server."""
    start = URL + LOGIN_PATH
    assert auth_url.startswith(start)
    return LoginId(auth_url.removeprefix(start))


def rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


@contextlib.asynccontextmanager
async def controlled(
    *snapshots: Snapshot,
    limits: Limits | None = None,
    hold_s: float = HOLD_S,
    hosts: Collection[str] = (),
    failures: Failures | None = None,
    trusted_proxies: Sequence[str] = (),
) -> AsyncIterator[Control]:
    """Serve these tailnets; the first is the default one. Everything has ended when this has.

    With `failures` there are bounds on what one address may try.
    """
    journal, clock, timers = MemoryJournal(), FakeClock(), LoopTimers()
    bell, c2n = LoginBell(), C2n(RandomEntropy())
    parts = {
        one.tailnet: _tailnet(one, journal, clock, timers, bell) for one in snapshots or (people(),)
    }
    tailnets = Tailnets({name: part.engine for name, part in parts.items()})
    hubs = {name: part.hub for name, part in parts.items()}
    throttle = Throttle(failures, clock) if failures is not None else None
    registrar = Registrar(tailnets, bell, RandomEntropy(), URL, hold_s, throttle)
    gate = SshGate(tailnets, bell, RandomEntropy(), URL, hold_s, throttle)
    inner = machine_app(registrar, Poller(tailnets, hubs, clock), gate, c2n, throttle)
    service = Service(inner, limits or Limits(), tailnets.knows_machine)
    door = Door(SERVER, RandomEntropy(), service)
    outer = application(
        Parts(api=[], web=[], control=public_handlers(tailnets, public_key(SERVER), lambda: hosts))
    )
    claims = {Claim("/ts2021", PROTOCOL, "POST"): Ts2021(door)}
    listener = TcpListener("127.0.0.1", 0)
    edge = Edge(outer, [listener], claims, trusted_proxies=trusted_proxies)
    async with asyncio.TaskGroup() as group:
        for part in parts.values():
            group.create_task(part.engine.run())
            group.create_task(part.presence.run())
        await edge.start()
        try:
            yield Control(tailnets, parts, journal, clock, timers, bell, c2n, edge)
        finally:
            for part in parts.values():
                part.hub.close()
            await edge.stop(1)
            for part in parts.values():
                part.presence.stop()
                part.engine.stop()


def _tailnet(
    snapshot: Snapshot,
    journal: MemoryJournal,
    clock: FakeClock,
    timers: LoopTimers,
    bell: LoginBell,
) -> Tailnet:
    feeds = Feeds()
    engine = Engine(snapshot, journal, feeds, clock)

    async def submit(node: NodeId, connected: bool) -> None:
        if connected:
            await engine.apply(presence.connected(node, REPLICA))
        else:
            await engine.apply(presence.disconnected(node, REPLICA))

    attendance = Presence(submit, timers)
    hub = Hub(snapshot, Encoder(REGION), attendance, timers, RandomEntropy())
    feeds.add(hub)
    feeds.add(bell)
    return Tailnet(engine, hub, attendance)

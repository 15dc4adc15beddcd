"""The real server on a thread of this process, so that a test can drive its engine.

Everything is as ``mergescale serve`` has it but for the signals: sockets, SQLite, the relay. A test
carries decisions out itself, and looks at the snapshot that came of them.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from mergescale.domain.node import Node
from mergescale.domain.snapshot import Snapshot
from mergescale.identity.secrets import MINT_BYTES, Kind, mint
from mergescale.kernel.errors import Refusal
from mergescale.kernel.ids import AuthKeyId, NodeId
from mergescale.server import lifecycle
from mergescale.server.settings import Settings
from mergescale.server.tailnet import Parts
from mergescale.server.wiring import Server, wire
from mergescale.state import authkeys
from mergescale.state.authkeys import Wanted
from mergescale.state.hostinfo import hostname_of
from mergescale.state.outcome import Decision
from mergescale.wire.mapframe import Compression
from support.real_clients import eventually, free_port

T = TypeVar("T")

#: LIMIT: what a test waits for a decision or for a client's answer.
ANSWER_S = 15.0
#: Members of a client's netmap that no map says: its own keys, and what it found out itself.
NOT_OF_THE_MAP = ("PrivateKey", "MachineKey", "ControlHealth")


class LoopThread:
    """An event loop on a thread of its own."""

    def __init__(
        self, new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    ) -> None:
        self.loop = new_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="loop", daemon=True)

    def __enter__(self) -> LoopThread:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float = ANSWER_S) -> T:
        """Run a coroutine on the loop and wait for what it returns."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout_s)


@dataclass(slots=True)
class InProcess:
    """A server that runs on another thread.

    Attributes:
        url: what clients are told to use.
        server: its parts; touch them on `thread` only. Snapshots are immutable.
    """

    url: str
    server: Server
    thread: LoopThread

    @property
    def part(self) -> Parts:
        return self.server.parts[0]

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot of the default tailnet."""
        return self.part.engine.snapshot

    def apply(self, *decisions: Decision[Any]) -> list[Any]:
        """Carry decisions out, together if the engine gets to it; returns what each answered."""

        async def carry_out() -> list[Any]:
            return list(await asyncio.gather(*map(self.part.engine.apply, decisions)))

        return self.thread.run(carry_out())

    def attempt(self, *decisions: Decision[Any]) -> int:
        """Carry decisions out together; returns how many of them were refused."""

        async def carry_out() -> int:
            apply = self.part.engine.apply
            answers = await asyncio.gather(*map(apply, decisions), return_exceptions=True)
            for answer in answers:
                if isinstance(answer, BaseException) and not isinstance(answer, Refusal):
                    raise answer
            return sum(isinstance(answer, Refusal) for answer in answers)

        return self.thread.run(carry_out())

    def caught_up(self, node: NodeId) -> bool:
        """Say whether the node's stream was sent everything that there is for it."""
        client = self.part.hub.client(node)
        return client is not None and client.revision == self.snapshot.revision

    def full_map(self, node: Node) -> dict[str, Any]:
        """Return the full map of the node as of now, decoded."""

        async def encode() -> bytes:
            now = self.server.clock.now()
            return self.part.hub.encoder.full(self.snapshot, node.id, Compression.NONE, now)

        full: dict[str, Any] = json.loads(self.thread.run(encode())[4:])
        return full

    def netmaps(
        self, node: Node, candidate: dict[str, Any], omit: Sequence[str] = NOT_OF_THE_MAP
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the netmap that the client has, and the one it would make of a full map.

        Both are made by the client itself (c2n, spec 6.3), out of all it was sent so far and out
        of the candidate alone.
        """
        body = json.dumps({"candidate": candidate, "omitFields": list(omit)}).encode()
        netmaps = json.loads(self.ask(node, "POST /debug/netmap", body))
        current, made = netmaps["current"], netmaps["candidate"]
        for netmap in (current, made):
            # A set; the client writes it in any order.
            netmap["AllCaps"].sort()
            for peer in netmap["Peers"] or ():
                # tailcfg: means nothing while a peer is online, and no patch can take it back.
                if peer.get("Online"):
                    peer.pop("LastSeen", None)
        _forget_expired_keys(current, made)
        return current, made

    def metrics(self, node: Node) -> dict[str, int]:
        """Return the counters that the client keeps of itself (c2n)."""
        lines = self.ask(node, "GET /debug/metrics").decode().splitlines()
        values = (line.split() for line in lines if not line.startswith("#"))
        return {name: int(value) for name, value in values}

    def ask(self, node: Node, what: str, body: bytes = b"") -> bytes:
        """Send the client an HTTP request over its own map stream; return what it answered."""
        client = self.part.hub.client(node.id)
        assert client is not None
        head = f"{what} HTTP/1.1\r\nHost: c2n\r\nContent-Length: {len(body)}\r\n\r\n"
        ask = self.server.c2n.ask(client, node.machine_key, head.encode() + body, ANSWER_S)
        answer, _, told = self.thread.run(ask, ANSWER_S + 1).partition(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        return told

    def node(self, host: str) -> Node | None:
        """Return the node whose device calls itself so, None if there is none."""
        known = self.snapshot.nodes.values()
        return next((node for node in known if hostname_of(node) == host), None)

    def joined(self, *hosts: str) -> bool:
        """Say whether these have found their relay, and everybody was told of everybody."""
        nodes = [self.node(host) for host in hosts]
        return all(n is not None and n.home_derp != 0 and self.caught_up(n.id) for n in nodes)

    def auth_key(self, user: str) -> str:
        """Make a one-shot pre-auth key; returns its text."""
        key = mint(Kind.AUTH, self.server.entropy.bytes(MINT_BYTES))
        wanted = Wanted(user=user, preauthorized=True)
        self.apply(authkeys.create(AuthKeyId(key.id), key.secret_hash, wanted))
        return key.text


def _forget_expired_keys(current: dict[str, Any], made: dict[str, Any]) -> None:
    """Drop what the client does to peers whose key has expired, in the map in use only.

    It marks them, spoils their key and forgets where they are, so that nothing can reach them.
    """
    expired = {peer["ID"] for peer in current["Peers"] or () if peer.get("Expired")}
    for netmap in (current, made):
        for peer in netmap["Peers"] or ():
            if peer["ID"] in expired:
                for name in ("Expired", "Key", "Endpoints", "HomeDERP"):
                    peer.pop(name, None)


@contextmanager
def serving_in_process(state_dir: Path) -> Iterator[InProcess]:
    """Run the server for the block, on free ports of loopback, watching no repository."""
    settings = Settings(
        listen=f"127.0.0.1:{free_port()}",
        relay_listen=f"127.0.0.1:{free_port()}",
        stun_listen=f"127.0.0.1:{free_port()}",
        state_dir=state_dir,
    )
    with LoopThread(uvloop.new_event_loop) as thread:
        stop, up = asyncio.Event(), threading.Event()
        made: list[Server] = []

        async def live() -> None:
            async with AsyncExitStack() as resources:
                server = await wire(settings, resources)
                made.append(server)
                await lifecycle._live(server, stop, lambda _: up.set())

        living = asyncio.run_coroutine_threadsafe(live(), thread.loop)
        try:
            eventually("the server is up", lambda: up.is_set() or living.done(), within_s=30)
            if living.done():
                living.result()
            yield InProcess(settings.url, made[0], thread)
        finally:
            thread.loop.call_soon_threadsafe(stop.set)
            living.result(ANSWER_S)

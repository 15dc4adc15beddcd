from __future__ import annotations

import asyncio
import contextlib
import inspect
import ipaddress
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from uvicorn.server import ServerState

from mergescale.server.edge import Edge, StartFailed
from mergescale.server.listeners import (
    CannotListen,
    Listener,
    PassedListener,
    TcpListener,
    UnixListener,
)
from mergescale.server.takeover import UPGRADE_ATTRIBUTES, UVICORN_HOOKS, Claim
from mergescale.wire.httphead import Rejection, RequestHead, switching_protocols
from support.aio import aio, turns
from support.bridged import Dripping, echo
from support.noise_server import serving

pytestmark = pytest.mark.enable_socket

CLOSE = b"Host: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def tls_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server with a fresh self-signed certificate and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "pair.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cafile=path)


class Echo(asyncio.Protocol):
    """A stand-in for the relay: says hello, echoes, and is told everything a protocol is."""

    def __init__(self, hello: bytes, registry: ServerState) -> None:
        self.hello = hello
        self.registry: Any = registry
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.registry.connections.add(self)
        transport.write(self.hello)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())
        if data.endswith(b"."):
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.registry.connections.discard(self)

    def shutdown(self) -> None:
        self.transport.close()

    def abort(self) -> None:
        self.transport.abort()


class Derp:
    """A takeover as the relay's, with fast start."""

    def __init__(self) -> None:
        self.heads: list[RequestHead] = []

    def __call__(self, request: RequestHead, registry: ServerState) -> Echo | Rejection:
        self.heads.append(request)
        if request.header(b"refuse"):
            return Rejection(503, "not today")
        fast = request.header(b"derp-fast-start") == b"1"
        hello = b"" if fast else switching_protocols("DERP", ("Derp-Version", "2"))
        return Echo(hello, registry)


def derp() -> dict[Claim, Derp]:
    return {Claim("/derp", "DERP"): Derp()}


def requests(data: bytes) -> list[bytes]:
    """Return the bodies of the responses in `data`, each with a content length."""
    bodies = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        size = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        )
        bodies.append(rest[:size])
        data = rest[size:]
    return bodies


@aio
async def test_plain_requests_go_to_the_application() -> None:
    """GET and POST, keep-alive, path and query, with a Date."""
    async with serving(echo) as at:
        reply = await at.raw(
            b"GET /key?v=1 HTTP/1.1\r\nHost: h\r\n\r\n"
            b"POST /x%20y HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"
            b"GET /last HTTP/1.1\r\n" + CLOSE
        )
        assert requests(reply) == [
            b"GET /key v=1 h False",
            b"POST /x y  h False body",
            b"GET /last  x False",
        ]
        assert b"\r\ndate: " in reply
        assert (at.outer.started, at.outer.stopped) == (1, 0)
    assert (at.outer.started, at.outer.stopped) == (1, 1)


@aio
async def test_a_head_may_come_a_byte_at_a_time() -> None:
    """Neither an ordinary head nor an upgrade needs to fit in one segment."""
    async with serving(echo, takeovers=derp()) as at:
        for data, expected in [
            (b"GET /slow HTTP/1.1\r\n" + CLOSE, b"GET /slow  x False"),
            (
                b"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\nbye.",
                b"BYE.",
            ),
        ]:
            reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
            for byte in data:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            assert (await reader.read()).endswith(expected)
            writer.close()


@pytest.mark.parametrize(
    "target", [b"https://control.example:8443/key?v=130", b"http://h/key?v=130"]
)
@aio
async def test_absolute_targets_are_normalised(target: bytes) -> None:
    """The Rust client's ``GET https://host/key`` is ``/key``, and its authority the host."""
    async with serving(echo) as at:
        reply = await at.raw(b"GET " + target + b" HTTP/1.1\r\n" + CLOSE)
        authority = target.split(b"/")[2]
        assert requests(reply) == [b"GET /key v=130 " + authority + b" False"]


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("target", [b"/derp", b"https://10.0.0.1:1/derp", b"/derp?x=1"])
@aio
async def test_an_upgrade_takes_the_socket(method: bytes, target: bytes) -> None:
    """Any method, absolute or not, mixed case; what follows the head is not lost."""
    takeovers = derp()
    async with serving(echo, takeovers=takeovers) as at:
        reply = await at.raw(
            method + b" " + target + b" HTTP/1.1\r\nHost: x\r\nUpgrade: dErP\r\n"
            b"Connection: keep-alive, Upgrade\r\n\r\nleftover."
        )
    assert reply == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: upgrade\r\n"
        b"Derp-Version: 2\r\n\r\nLEFTOVER."
    )
    [head] = takeovers[Claim("/derp", "DERP")].heads
    assert (head.method, head.path, head.tls) == (method.decode(), "/derp", False)
    assert head.client is not None
    assert head.client[0] == "127.0.0.1"


@aio
async def test_fast_start_gets_no_http_answer() -> None:
    """With Derp-Fast-Start the first byte back is the takeover's own."""
    async with serving(echo, takeovers=derp()) as at:
        reply = await at.raw(
            b"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n"
            b"Derp-Fast-Start: 1\r\n\r\nframes."
        )
    assert reply == b"FRAMES."


@aio
async def test_a_takeover_may_refuse() -> None:
    """Its rejection is an HTTP response, and the end."""
    async with serving(echo, takeovers=derp()) as at:
        reply = await at.raw(
            b"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n"
            b"Refuse: yes\r\n\r\n"
        )
    assert reply.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert reply.endswith(b"not today")


@pytest.mark.parametrize(
    ("handshake", "text"),
    [
        (b"", b"the tailscale handshake is missing"),
        (b"X-Tailscale-Handshake: !!!\r\n", b"the tailscale handshake is not base64"),
        (b"X-Tailscale-Handshake: AAAA\r\n", b"a handshake initiation has 101 bytes"),
    ],
)
@aio
async def test_a_bad_handshake_is_a_400_with_a_text(handshake: bytes, text: bytes) -> None:
    """Absent, garbage or short: the client's log says what was wrong."""
    async with serving(echo) as at:
        reply = await at.raw(
            b"POST /ts2021 HTTP/1.1\r\nHost: x\r\nUpgrade: tailscale-control-protocol\r\n"
            b"Connection: upgrade\r\n" + handshake + b"\r\n"
        )
    assert reply.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert requests(reply) == [text]


@pytest.mark.parametrize(
    ("request_line", "upgrade", "expected"),
    [
        (b"POST /other HTTP/1.1", b"tailscale-control-protocol", b"POST /other  x False hello"),
        (b"POST /derp HTTP/1.1", b"foo", b"POST /derp  x False hello"),
        (b"POST /derp HTTP/1.1", b"h2c", b"POST /derp  x False hello"),
        (b"POST /derp HTTP/1.0", b"DERP", b"POST /derp  x False hello"),
    ],
)
@aio
async def test_an_unclaimed_upgrade_is_ignored(
    request_line: bytes, upgrade: bytes, expected: bytes
) -> None:
    """The request is answered as if it had not asked, body included, and so is the next."""
    async with serving(echo, takeovers=derp()) as at:
        reply = await at.raw(
            request_line
            + b"\r\nHost: x\r\nConnection: Upgrade, keep-alive\r\nUpgrade: "
            + upgrade
            + b"\r\n"
            b"Content-Length: 5\r\n\r\nhelloGET /next HTTP/1.1\r\n" + CLOSE
        )
    assert requests(reply)[0] == expected
    if b"1.1" in request_line:
        assert requests(reply)[1:] == [b"GET /next  x False"]


@aio
async def test_a_plain_post_to_ts2021_is_a_400() -> None:
    """Without Upgrade the application answers, in words."""
    async with serving(echo) as at:
        reply = await at.raw(b"POST /ts2021 HTTP/1.1\r\nContent-Length: 0\r\n" + CLOSE)
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert b"an upgrade to tailscale-control-protocol was expected" in reply


@aio
async def test_an_upgrade_does_not_overtake_the_request_before_it() -> None:
    """Pipelined behind an unanswered GET, the upgrade falls through to the application."""
    async with serving(echo, takeovers=derp()) as at:
        reply = await at.raw(
            b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n"
            b"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nConnection: Upgrade, close\r\n\r\n"
        )
    assert requests(reply) == [b"GET /first  x False", b"GET /derp  x False"]


@aio
async def test_an_upgrade_after_an_answered_request_works() -> None:
    """Keep-alive, then an upgrade on the same socket."""
    async with serving(echo, takeovers=derp()) as at:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
        writer.write(b"GET /one HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"False")).endswith(b"GET /one  x False")
        writer.write(
            b"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\nhi."
        )
        assert (await reader.read()).endswith(b"\r\n\r\nHI.")
        writer.close()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
        (b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n", b"405"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" * 100, b"400"),
    ],
)
@aio
async def test_what_is_no_request_is_refused(data: bytes, status: bytes) -> None:
    """Not HTTP/1.1, a proxy request, or a pile of upgrades."""
    async with serving(echo) as at:
        reply = await at.raw(data)
    assert b"HTTP/1.1 " + status in reply


@aio
async def test_an_endless_head_is_cut() -> None:
    """A header that never ends is answered 431 long before it fills the memory."""
    async with serving(echo) as at:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
        writer.write(b"GET / HTTP/1.1\r\nX: ")
        await turns(20)
        writer.write(b"y" * 33_000)
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HT"])
@aio
async def test_a_late_head_is_cut(sent: bytes) -> None:
    """A socket that says nothing, or half a head, is closed at the deadline."""
    async with serving(echo, head_s=0.01) as at:
        assert await at.raw(sent) == b""


@aio
async def test_only_the_unix_socket_is_local(tmp_path: Path) -> None:
    """Requests by the unix socket are marked; TCP requests cannot be, whatever they say."""
    path = tmp_path / "cli.sock"
    listeners: list[Listener] = [TcpListener("127.0.0.1", 0), UnixListener(path)]
    async with serving(echo, listeners=listeners) as at:
        assert path.stat().st_mode & 0o777 == 0o600
        told = await at.raw(
            b"GET /tcp HTTP/1.1\r\nlocal: True\r\nX-Forwarded-For: unix\r\n" + CLOSE
        )
        assert requests(told) == [b"GET /tcp  x False"]
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"GET /unix HTTP/1.1\r\n" + CLOSE)
        assert requests(await reader.read()) == [b"GET /unix  x True"]
        writer.close()


@aio
async def test_a_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    """After a crash the path is taken again."""
    path = tmp_path / "cli.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with serving(echo, listeners=[UnixListener(path)]):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"GET /new HTTP/1.1\r\n" + CLOSE)
        assert requests(await reader.read()) == [b"GET /new  x True"]
        writer.close()


@aio
async def test_a_passed_socket_outlives_the_edge() -> None:
    """A connection made between two edges on one socket is answered by the second."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        async with serving(echo, listeners=[PassedListener(listening)]) as at:
            assert at.port == address[1]
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET /waited HTTP/1.1\r\n" + CLOSE)
        async with serving(echo, listeners=[PassedListener(listening)]):
            assert requests(await reader.read()) == [b"GET /waited  x False"]
        writer.close()


@aio
async def test_tls_listeners_have_their_own_certificates(
    tls_pair: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    """ts2021 and upgrades with leftovers work over TLS, beside a plain listener."""
    server, client = tls_pair
    listeners = [TcpListener("127.0.0.1", 0), TcpListener("127.0.0.1", 0, tls=server)]
    takeovers = derp()
    async with serving(echo, listeners=listeners, takeovers=takeovers) as at:
        port = at.edge.addresses[1][1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        writer.write(
            b"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n"
            b"Derp-Fast-Start: 1\r\n\r\nover tls."
        )
        assert await reader.read() == b"OVER TLS."
        writer.close()
        assert takeovers[Claim("/derp", "DERP")].heads[0].tls
        assert (await at.raw(b"GET /plain HTTP/1.1\r\n" + CLOSE)).endswith(b"GET /plain  x False")


@aio
async def test_stopping_with_open_streams_is_quick() -> None:
    """Map streams, a held request and an idle keep-alive end without using the grace."""
    app = Dripping()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/held":
            await asyncio.Event().wait()
        await app(scope, receive, send)

    async with serving(inner, takeovers=derp()) as at, at.client() as first, at.client() as second:
        for client in (first, second):
            await (await client.open("POST", "/machine/map")).started()
        held = await first.open("POST", "/held")
        idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", at.port)
        idle_writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await idle_reader.readuntil(b"False")
        port = at.port
        before = asyncio.get_running_loop().time()
        await at.edge.stop(10)
        assert asyncio.get_running_loop().time() - before < 1
        assert at.outer.stopped == 1
        for client in (first, second):
            await client.gone.wait()
            assert client.goaway == 0
        with pytest.raises(ConnectionError):
            await held.answer()
        assert await idle_reader.read() == b""
        idle_writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


@aio
async def test_stopping_cuts_what_does_not_end() -> None:
    """A takeover that ignores its shutdown does not outlast the grace."""

    class Stubborn(Echo):
        def shutdown(self) -> None:
            pass

    def takeover(request: RequestHead, registry: ServerState) -> Stubborn:
        return Stubborn(b"here", registry)

    async with serving(echo, takeovers={Claim("/stay", "stay"): takeover}) as at:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
        writer.write(
            b"GET /stay HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: stay\r\n\r\n"
        )
        assert await reader.readexactly(4) == b"here"
        with capture_logs() as logs:
            await at.edge.stop(0.01)
        assert at.edge.state.connections == set()
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
    cut = {"event": "edge.cut", "connections": 1, "requests": 0, "log_level": "warning"}
    assert logs == [cut]


@aio
async def test_a_taken_address_undoes_the_start() -> None:
    """When one listener fails, the lifespan is shut down and nothing listens."""
    stopped = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        stopped.set()
        await send({"type": "lifespan.shutdown.complete"})

    with socket.create_server(("127.0.0.1", 0)) as taken:
        host, port = taken.getsockname()
        second = TcpListener(host, port, setting="listen")
        listeners = [TcpListener("127.0.0.1", 0), second]
        edge = Edge(app, listeners, {})
        with pytest.raises(CannotListen) as refused:
            await edge.start()
    assert refused.value.message == f"cannot listen on {second}: address already in use"
    assert refused.value.help == "listen (MERGESCALE_LISTEN) names the address"
    assert stopped.is_set()
    assert edge.addresses == []


@aio
async def test_a_failed_startup_is_an_error() -> None:
    """An application that does not start is not served."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "on purpose"})

    edge = Edge(app, [TcpListener("127.0.0.1", 0)], {})
    with pytest.raises(StartFailed):
        await edge.start()
    assert edge.addresses == []


def test_uvicorn_still_has_the_hooks() -> None:
    """The private names and signatures this project relies on exist in the pinned uvicorn."""
    for name in UVICORN_HOOKS:
        assert callable(getattr(HttpToolsProtocol, name)), name
    assert list(inspect.signature(HttpToolsProtocol.__init__).parameters) == [
        "self",
        "config",
        "server_state",
        "app_state",
        "_loop",
    ]
    assert list(inspect.signature(HttpToolsProtocol._should_upgrade).parameters) == ["self"]
    assert list(inspect.signature(HttpToolsProtocol.handle_websocket_upgrade).parameters) == [
        "self"
    ]
    assert {"connections", "tasks", "default_headers", "total_requests"} <= set(vars(ServerState()))
    assert callable(HttpToolsProtocol.shutdown)
    assert callable(WSProtocol.shutdown)


@aio
async def test_uvicorn_still_has_the_attributes() -> None:
    """A protocol object carries what the takeover reads and resets."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        return

    config = Config(app, lifespan="off", log_config=None, interface="asgi3")
    protocol = HttpToolsProtocol(config, ServerState(), {})
    for name in UPGRADE_ATTRIBUTES:
        assert hasattr(protocol, name), name
    protocol.on_message_begin()
    assert (protocol.url, protocol.headers) == (b"", [])
    assert protocol.scope["state"] == {}


@aio
async def test_one_connection_that_cannot_end_in_order_keeps_no_other_from_it() -> None:
    """It is cut, and the rest is told as ever."""

    class Broken:
        aborted = False

        def shutdown(self) -> None:
            raise RuntimeError("a bug")

        def abort(self) -> None:
            self.aborted = True
            at.edge.state.connections.discard(self)

    broken = Broken()
    async with serving(echo) as at, at.client() as client:
        at.edge.state.connections.add(broken)  # type: ignore[arg-type] # no uvicorn protocol
        await at.edge.stop(1)
        await client.gone.wait()
        assert (client.goaway, broken.aborted) == (0, True)

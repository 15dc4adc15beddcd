from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
import structlog
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingAckReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from mergescale.control.limits import Limits
from support.aio import aio, turns, until
from support.bridged import MACHINE, Bridged, Dripping, answer, echo, read_body

FRAME = 16_384


@aio
async def test_settings_come_first_and_allow_a_hundred_streams() -> None:
    """The server's first frame is SETTINGS, with room for the long poll and everything else."""
    world = Bridged(echo)
    assert world.wire.out[3] == 4, "frame type SETTINGS"
    events = await world.exchange()
    settings = next(event for event in events if isinstance(event, RemoteSettingsChanged))
    changed = {int(code): setting.new_value for code, setting in settings.changed_settings.items()}
    assert changed[SettingCodes.MAX_CONCURRENT_STREAMS] >= 100
    assert changed[SettingCodes.MAX_HEADER_LIST_SIZE] == Limits().header_list_bytes


@aio
async def test_a_request_becomes_a_scope_with_the_peer() -> None:
    """Handlers see method, path, query, host and, in the state, who is asking."""
    world = Bridged(echo)
    stream = world.request("PATCH", "https://unused/scope?a=%20b&c")
    await world.exchange()
    assert json.loads(world.body(stream)) == {
        "method": "PATCH",
        "version": "2",
        "query": "a=%20b&c",
        "headers": [["host", "unused"]],
        "state": {"peer": str(MACHINE), "capability_version": "130"},
        "client": "127.0.0.1",
    }


@aio
async def test_an_escaped_path_is_decoded_once() -> None:
    """The path is unquoted, the raw path is not."""
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)
        await answer(send, b"")

    world = Bridged(app)
    world.request("GET", "/c2n/%41%2520?x=%41")
    await world.exchange()
    assert (seen["path"], seen["raw_path"]) == ("/c2n/A%20", b"/c2n/%41%2520")
    assert seen["query_string"] == b"x=%41"


@aio
async def test_a_get_may_carry_a_body() -> None:
    """GET /machine/tka/... sends its JSON in the body."""
    world = Bridged(echo)
    stream = world.request("GET", "/machine/tka/sync/offer", end=False)
    world.client.send_data(stream, b"{}", end_stream=True)
    await world.exchange()
    assert (world.status(stream), world.body(stream)) == (200, b"{}")


@aio
async def test_head_has_no_body() -> None:
    """The body of a response to HEAD is dropped, the response ends."""
    world = Bridged(echo)
    stream = world.request("HEAD", "/big/10")
    events = await world.exchange()
    assert (world.status(stream), world.body(stream)) == (200, b"")
    assert any(isinstance(event, StreamEnded) for event in events)


@aio
async def test_headers_leave_before_the_first_chunk() -> None:
    """A map stream answers at once; the Rust client blocks its connection until it does."""
    app = Dripping()
    world = Bridged(app)
    stream = world.request("POST", "/machine/map")
    await world.exchange()
    assert (world.status(stream), world.body(stream)) == (200, b"")
    app.chunks.put_nowait(b"first")
    await world.exchange()
    assert world.body(stream) == b"first"


@aio
async def test_hop_by_hop_headers_are_dropped_and_names_lowered() -> None:
    """What an HTTP/1.1 framework adds for its hop would be malformed in HTTP/2."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"Connection", b"close"), (b"Transfer-Encoding", b"chunked"), (b"X-A", b"B")]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body"})

    world = Bridged(app)
    world.request()
    events = await world.exchange()
    [response] = [event for event in events if isinstance(event, ResponseReceived)]
    headers = {str(name): str(value) for name, value in response.headers}
    assert headers == {":status": "204", "x-a": "B"}


@aio
async def test_two_requests_share_a_connection() -> None:
    """A lite update is answered while the map stream is open."""
    dripping = Dripping()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (dripping if scope["path"] == "/machine/map" else echo)(scope, receive, send)

    world = Bridged(app)
    poll = world.request("POST", "/machine/map")
    await world.exchange()
    lite = world.request("POST", "/lite", end=False)
    world.client.send_data(lite, b"lite", end_stream=True)
    await world.exchange()
    dripping.chunks.put_nowait(b"map")
    await world.exchange()
    assert (world.body(lite), world.body(poll)) == (b"lite", b"map")


@aio
async def test_what_streams_write_in_one_turn_leaves_in_one_write() -> None:
    """A change that concerns many streams costs one seal and one write per connection."""
    app = Dripping()
    world = Bridged(app)
    streams = [world.request("POST", "/machine/map") for _ in range(5)]
    await world.exchange()
    before = world.wire.writes
    for _ in streams:
        app.chunks.put_nowait(b"x")
    await turns()
    assert world.wire.writes == before + 1


@aio
async def test_a_body_longer_than_the_windows_arrives_whole() -> None:
    """300 kB pass 64 KiB windows, as the client gives them back."""
    world = Bridged(echo)
    stream = world.request("GET", "/big/300000")
    while not any(isinstance(event, StreamEnded) for event in world.events):
        events = await world.exchange()
        for event in events:
            if isinstance(event, DataReceived) and event.flow_controlled_length:
                world.client.acknowledge_received_data(event.flow_controlled_length, stream)
    assert world.body(stream) == b"x" * 300_000


@pytest.mark.parametrize("size_bytes", [FRAME, FRAME + 1, 2 * FRAME, 3 * FRAME - 1, 60_000])
@aio
async def test_frames_of_one_message_leave_in_order_and_are_counted(size_bytes: int) -> None:
    """Whole frames that go past hyper-h2 are the bytes in order, and both ends count the same."""
    sent = bytes(number % 251 for number in range(size_bytes))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, sent)

    world = Bridged(app)
    stream = world.request()
    await world.exchange()
    assert world.body(stream) == sent
    control = world.bridge._connection
    assert control.outbound_flow_control_window == world.client.inbound_flow_control_window
    assert control.outbound_flow_control_window == 65_535 - size_bytes


@aio
async def test_a_bigger_initial_window_wakes_a_blocked_response() -> None:
    """SETTINGS, not only WINDOW_UPDATE, lets a response go on."""
    world = Bridged(echo, settings={SettingCodes.INITIAL_WINDOW_SIZE: 0})
    stream = world.request("GET", "/big/1000")
    await world.exchange()
    assert world.body(stream) == b""
    world.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1000})
    await world.exchange()
    assert world.body(stream) == b"x" * 1000


@aio
async def test_uploads_replenish_the_windows() -> None:
    """Far more than a window passes, in one request and in many, read by the handler or not."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/read":
            await read_body(receive)
        await answer(send, b"ok")

    world = Bridged(app)
    await world.exchange()
    for _ in range(4):
        stream = world.request("POST", "/read", end=False)
        for _ in range(40):
            assert world.client.local_flow_control_window(stream) >= FRAME, "the window ran dry"
            world.client.send_data(stream, b"u" * FRAME)
            await world.exchange()
        world.client.end_stream(stream)
        await world.exchange()
        assert world.status(stream) == 200
    for _ in range(40):
        stream = world.request("POST", "/ignored", end=False)
        for _ in range(3):
            world.client.send_data(stream, b"u" * FRAME)
        await world.exchange()
        assert world.status(stream) == 200
        assert (stream, ErrorCodes.NO_ERROR) in world.resets()


@pytest.mark.parametrize("in_one_go", [True, False])
@aio
async def test_a_body_beyond_the_cap_is_refused(in_one_go: bool) -> None:
    """More than request_body_bytes is answered 413, and the handler is told to stop."""
    told = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await read_body(receive)
        told.set()
        await answer(send, b"too late")

    world = Bridged(app, Limits(request_body_bytes=1000))
    stream = world.request("POST", "/machine/register", end=False)
    if in_one_go:
        world.client.send_data(stream, b"x" * 1001)
    else:
        world.client.send_data(stream, b"x" * 600)
        await world.exchange()
        world.client.send_data(stream, b"x" * 401)
    await world.exchange()
    assert (world.status(stream), world.body(stream)) == (413, b"")
    assert world.resets() == [(stream, ErrorCodes.NO_ERROR)]
    assert told.is_set() is not in_one_go, "a handler that has not begun does not begin"


@aio
async def test_open_bodies_together_are_bounded() -> None:
    """Many half-sent bodies cannot add up to more than bodies_bytes."""
    world = Bridged(echo, Limits(bodies_bytes=2500))
    streams = [world.request("POST", "/", end=False) for _ in range(3)]
    for stream in streams:
        world.client.send_data(stream, b"x" * 1000)
    await world.exchange()
    assert [world.status(stream) for stream in streams] == [None, None, 413]


@aio
async def test_an_unfinished_body_has_a_deadline() -> None:
    """A client that never ends its body does not hold a handler for ever."""
    world = Bridged(echo, Limits(body_s=0))
    stream = world.request("POST", "/", end=False)
    await world.exchange()
    assert world.resets() == [(stream, ErrorCodes.CANCEL)]


@aio
async def test_a_failing_handler_is_a_500() -> None:
    """An exception before the response is 500; the connection and other requests go on."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/bad":
            raise RuntimeError("on purpose")
        await answer(send, b"fine")

    world = Bridged(app)
    bad, good = world.request("GET", "/bad"), world.request("GET", "/good")
    with capture_logs([merge_contextvars]) as logs:
        await world.exchange()
    assert (world.status(bad), world.status(good)) == (500, 200)
    [entry] = logs
    assert re.fullmatch("[0-9a-f]{16}", entry.pop("request"))
    assert entry == {
        "event": "control.handler-failed",
        "machine": MACHINE.short,
        "exc_info": True,
        "log_level": "error",
    }


@aio
async def test_every_request_has_an_id_of_its_own() -> None:
    """What a handler logs names its request and its machine, whoever else is served meanwhile."""
    log = structlog.get_logger()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        log.info("test.before", path=scope["path"])
        await asyncio.sleep(0)
        log.info("test.after", path=scope["path"])
        await answer(send, b"fine")

    world = Bridged(app)
    for path in ("/one", "/two"):
        world.request("GET", path)
    with capture_logs([merge_contextvars]) as logs:
        await world.exchange()
    assert len(logs) == 4
    assert {entry["machine"] for entry in logs} == {MACHINE.short}
    pairs = {(entry["path"], entry["request"]) for entry in logs}
    assert len(pairs) == len({request for _, request in pairs}) == 2


@pytest.mark.parametrize("raises", [True, False])
@aio
async def test_a_response_cut_short_is_a_reset(raises: bool) -> None:
    """A handler that ends in the middle must not look like a complete response."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        if raises:
            raise RuntimeError("on purpose")

    world = Bridged(app)
    stream = world.request()
    await world.exchange()
    assert world.body(stream) == b"half"
    assert world.resets() == [(stream, ErrorCodes.INTERNAL_ERROR)]


@aio
async def test_a_handler_that_answers_nothing_is_a_500() -> None:
    """Returning without a response is answered, so that no client waits for ever."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        return

    world = Bridged(app)
    stream = world.request()
    await world.exchange()
    assert world.status(stream) == 500


@aio
async def test_malformed_response_headers_end_the_stream_only() -> None:
    """A handler's illegal header breaks its own stream, not the connection."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"x-bad", b"a\r\nb")] if scope["path"] == "/bad" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    world = Bridged(app)
    bad, good = world.request("GET", "/bad"), world.request("GET", "/good")
    await world.exchange()
    assert world.status(bad) == 500
    assert (world.status(good), world.body(good)) == (200, b"ok")


@aio
async def test_a_reset_stream_tells_its_handler_at_once() -> None:
    """A client that cancels its poll frees the handler in the same turns of the loop."""
    app = Dripping()
    world = Bridged(app)
    stream = world.request("POST", "/machine/map")
    await world.exchange()
    world.client.reset_stream(stream, ErrorCodes.CANCEL)
    await world.exchange()
    assert app.ended.is_set()
    assert world.tasks == set()


@aio
async def test_a_reset_frees_a_handler_that_waits_for_a_window() -> None:
    """Back-pressure does not outlive its client."""
    world = Bridged(echo, settings={SettingCodes.INITIAL_WINDOW_SIZE: 0})
    stream = world.request("GET", "/big/1000")
    await world.exchange()
    assert len(world.tasks) == 1
    world.client.reset_stream(stream)
    await world.exchange()
    assert world.tasks == set()


@aio
async def test_a_handler_that_ignores_its_client_is_cancelled() -> None:
    """A handler held open for a login does not stay when the client is gone."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    world = Bridged(app, Limits(orphan_s=0))
    stream = world.request("POST", "/machine/register")
    await world.exchange()
    world.client.reset_stream(stream)
    await world.exchange()
    assert world.tasks == set()


@aio
async def test_a_lost_connection_ends_every_handler() -> None:
    """When the socket is gone, all of its streams are."""
    app = Dripping()
    world = Bridged(app)
    for _ in range(3):
        world.request("POST", "/machine/map")
    await world.exchange()
    world.bridge.lost()
    await turns()
    assert world.tasks == set()


@aio
async def test_a_full_socket_holds_the_handler() -> None:
    """While the socket is full nothing is written, and one message waits in the handler."""
    app = Dripping()
    world = Bridged(app)
    stream = world.request("POST", "/machine/map")
    await world.exchange()
    world.bridge.pause()
    for chunk in [b"1", b"2", b"3"]:
        app.chunks.put_nowait(chunk)
    await turns()
    assert (app.sent, bytes(world.wire.out), app.chunks.qsize()) == (0, b"", 2)
    world.bridge.resume()
    await world.exchange()
    assert (app.sent, world.body(stream)) == (3, b"123")


@aio
async def test_a_socket_without_progress_is_dropped() -> None:
    """A suspended laptop costs one message and one deadline."""
    app = Dripping()
    world = Bridged(app, Limits(stall_s=0))
    world.request("POST", "/machine/map")
    await world.exchange()
    world.wire.waiting = 100_000
    world.bridge.pause()
    await turns(10)
    assert world.wire.aborted
    assert app.ended.is_set()


@aio
async def test_a_slow_socket_with_progress_is_kept() -> None:
    """The deadline is for no progress at all, not for a slow line."""
    world = Bridged(echo, Limits(stall_s=0))
    await world.exchange()
    sizes = iter([90, 80, 70])
    world.wire.waiting = 100
    world.wire.waiting_bytes = lambda: next(sizes, 70)  # type: ignore[method-assign]
    world.bridge.pause()
    await turns(2)
    assert not world.wire.aborted
    await turns(10)
    assert world.wire.aborted, "and dropped when the progress ends"


@aio
async def test_a_client_that_gives_no_window_is_dropped() -> None:
    """A client that reads its socket but never its streams is given up as well."""
    world = Bridged(echo, Limits(stall_s=0.01), settings={SettingCodes.INITIAL_WINDOW_SIZE: 0})
    world.request("GET", "/big/1000")
    await world.exchange()
    await until(lambda: world.wire.aborted)
    await turns()
    assert world.tasks == set()


@aio
async def test_control_frames_to_a_full_socket_are_bounded() -> None:
    """PING answers pile up only so far when nobody reads them."""
    world = Bridged(echo, Limits(held_bytes=1000))
    await world.exchange()
    world.bridge.pause()
    for _ in range(100):
        world.client.ping(b"12345678")
    await world.exchange(deliver=False)
    assert world.wire.aborted


@aio
async def test_ping_is_answered() -> None:
    """Go sends none, others do."""
    world = Bridged(echo)
    world.client.ping(b"abcdefgh")
    events = await world.exchange()
    assert [e.ping_data for e in events if isinstance(e, PingAckReceived)] == [b"abcdefgh"]


@aio
async def test_rapid_resets_are_stopped() -> None:
    """Opening and cancelling requests in a loop (CVE-2023-44487) ends the connection."""
    started = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal started
        started += 1
        await receive()

    world = Bridged(app)
    await world.exchange()
    for _ in range(10_000):
        world.client.reset_stream(world.request())
    await world.exchange()
    [end] = [event for event in world.events if isinstance(event, ConnectionTerminated)]
    assert end.error_code == ErrorCodes.ENHANCE_YOUR_CALM
    assert world.wire.closed
    assert started < 1000


@pytest.mark.parametrize("flood", ["ping", "settings", "empty-data", "dead-window", "priority"])
@aio
async def test_a_flood_of_any_frame_is_stopped(flood: str) -> None:
    """Frames that only cost us something are counted whatever they are."""
    world = Bridged(echo)
    stream = world.request("POST", "/", end=False)
    dead = world.request()
    await world.exchange()
    frame = {
        "ping": b"\0\0\x08\x06\0\0\0\0\0" + b"12345678",
        "settings": b"\0\0\0\x04\0\0\0\0\0",
        "empty-data": b"\0\0\0\0\0" + stream.to_bytes(4, "big"),
        "dead-window": b"\0\0\x04\x08\0" + dead.to_bytes(4, "big") + b"\0\0\0\x01",
        "priority": b"\0\0\x05\x02\0" + stream.to_bytes(4, "big") + b"\0\0\0\0\x0f",
    }[flood]
    for _ in range(100):
        world.bridge.receive(frame * 1000)
    assert world.wire.closed


@aio
async def test_a_busy_honest_client_is_not_a_flood() -> None:
    """Five hundred requests in a row, and the acknowledgements of 20 MB, are fine."""
    world = Bridged(echo, settings={SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
    world.client.increment_flow_control_window(1 << 24)
    for _ in range(500):
        stream = world.request("POST", "/machine/update-health", end=False)
        world.client.send_data(stream, b"{}", end_stream=True)
        await world.exchange()
        assert world.status(stream) == 200
        world.events.clear()
    for _ in range(20):
        stream = world.request("GET", "/big/1000000")
        for event in await world.exchange():
            if isinstance(event, DataReceived) and event.flow_controlled_length:
                for _ in range(2 * event.flow_controlled_length // 4096):
                    world.client.increment_flow_control_window(2048)
        await world.exchange()
        assert len(world.body(stream)) == 1_000_000
        world.events.clear()
    assert not world.wire.closed


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 64, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64],
)
@aio
async def test_garbage_ends_the_connection(garbage: bytes) -> None:
    """What is not HTTP/2 is answered by GOAWAY and a close, never by an exception."""
    world = Bridged(echo)
    for _ in range(2):  # an announced 16 MiB frame is not waited for
        world.bridge.receive(garbage + b"\xff" * 500_000)
    assert world.wire.closed


@aio
async def test_an_oversized_header_list_ends_the_connection() -> None:
    """MAX_HEADER_LIST_SIZE is enforced, before the client has acknowledged it too."""
    world = Bridged(echo)
    fields = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")]
    world.client.send_headers(1, [*fields, ("x", "y" * 40_000)], end_stream=True)
    world.bridge.receive(world.client.data_to_send())
    assert world.wire.closed


@aio
async def test_connect_is_refused() -> None:
    """A request without a path resets its stream and nothing else."""
    world = Bridged(echo)
    world.client.send_headers(1, [(":method", "CONNECT"), (":authority", "a:1")], end_stream=True)
    await world.exchange()
    assert world.resets() == [(1, ErrorCodes.PROTOCOL_ERROR)]
    assert not world.wire.closed


@aio
async def test_shutdown_says_goaway_and_ends_handlers() -> None:
    """A stopping server tells its clients, and its handlers in the same turn."""
    app = Dripping()
    world = Bridged(app)
    world.request("POST", "/machine/map")
    await world.exchange()
    world.bridge.shutdown()
    events = await world.exchange()
    assert [e.error_code for e in events if isinstance(e, ConnectionTerminated)] == [0]
    assert world.wire.closed
    assert app.ended.is_set()


@aio
async def test_a_clients_goaway_closes() -> None:
    """A client that leaves in order frees its handlers."""
    app = Dripping()
    world = Bridged(app)
    world.request("POST", "/machine/map")
    await world.exchange()
    world.client.close_connection()
    await world.exchange(deliver=False)
    assert world.wire.closed
    assert app.ended.is_set()


@aio
async def test_handlers_of_reset_streams_are_bounded() -> None:
    """Handlers that outlive their streams count: beyond twice the limit requests are refused."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    world = Bridged(app, Limits(streams=4))
    await world.exchange()
    for _ in range(3):
        streams = [world.request() for _ in range(4)]
        await world.exchange()
        for stream in streams:
            if (stream, ErrorCodes.REFUSED_STREAM) not in world.resets():
                world.client.reset_stream(stream)
        await world.exchange()
    assert len(world.tasks) == 8
    last = world.request()
    await world.exchange()
    assert (last, ErrorCodes.REFUSED_STREAM) in world.resets()
    world.bridge.lost()
    for task in world.tasks:
        task.cancel()


@aio
async def test_sending_after_the_client_left_is_harmless() -> None:
    """A handler that goes on writing is ignored, with a turn of the loop per message."""
    go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go_on.wait()
        await answer(send, b"nobody hears this")

    world = Bridged(app)
    stream = world.request()
    await world.exchange()
    world.client.reset_stream(stream)
    await world.exchange()
    go_on.set()
    events = await world.exchange()
    assert not [e for e in events if isinstance(e, (ResponseReceived, StreamReset))]
    assert world.tasks == set()

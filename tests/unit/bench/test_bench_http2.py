"""The generator's HTTP/2 against hyper-h2 as the server."""

from __future__ import annotations

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, WindowUpdated
from h2.settings import SettingCodes

from bench import http2

HEAD = http2.request_head("control.test:8080", "/machine/map")


def server() -> H2Connection:
    """Return a server that has said its SETTINGS."""
    connection = H2Connection(H2Configuration(client_side=False, header_encoding=None))
    connection.initiate_connection()
    return connection


def test_a_request_arrives_as_it_was_meant() -> None:
    """Head and body are what a server reads from them, and the windows are a Go client's."""
    client, control = http2.Client(), server()
    stream_id = client.post(HEAD, b"{}")
    events = control.receive_data(client.take())
    request = next(one for one in events if isinstance(one, RequestReceived))
    assert request.headers == [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", b"control.test:8080"),
        (b":path", b"/machine/map"),
    ]
    assert [one.data for one in events if isinstance(one, DataReceived)] == [b"{}"]
    assert [one.stream_id for one in events if isinstance(one, StreamEnded)] == [stream_id]
    assert control.remote_settings[SettingCodes.INITIAL_WINDOW_SIZE] == 4 << 20
    assert control.outbound_flow_control_window == (1 << 30) + 65_535


@pytest.mark.parametrize("chunk_bytes", [1, 7, 100_000])
def test_a_response_in_any_chunking(chunk_bytes: int) -> None:
    """Status, body and end are the same however the bytes are cut."""
    client, control = http2.Client(), server()
    client.post(HEAD, b"{}")
    control.receive_data(client.take())
    control.send_headers(1, [(":status", "200"), ("content-type", "application/json")])
    control.send_data(1, b"one, ")
    control.send_data(1, b"two", end_stream=True)
    sent = control.data_to_send()
    events = [
        event
        for at in range(0, len(sent), chunk_bytes)
        for event in client.receive(sent[at : at + chunk_bytes])
    ]
    assert events == [
        http2.Event(http2.HEADERS, 1, status=200),
        http2.Event(http2.DATA, 1, b"one, "),
        http2.Event(http2.DATA, 1, b"two", ended=True),
    ]


def test_window_goes_back_from_four_kilobytes_on() -> None:
    """As Go does: small messages are not worth an update, larger ones give back all that was read."""
    client, control = http2.Client(), server()
    client.post(HEAD, b"{}")
    control.receive_data(client.take())
    control.send_headers(1, [(":status", "200")])
    client.receive(control.data_to_send())
    control.receive_data(client.take())
    control.send_data(1, bytes(http2.REFRESH_BYTES - 1))
    client.receive(control.data_to_send())
    assert client.take() == b""
    control.send_data(1, b"x")
    client.receive(control.data_to_send())
    events = control.receive_data(client.take())
    given = [(one.stream_id, one.delta) for one in events if isinstance(one, WindowUpdated)]
    assert given == [(0, http2.REFRESH_BYTES), (1, http2.REFRESH_BYTES)]


def test_settings_and_pings_are_answered() -> None:
    """Each gets one acknowledgement, a PING with its own eight bytes."""
    client, control = http2.Client(), server()
    control.receive_data(client.take())
    control.ping(b"12345678")
    client.receive(control.data_to_send())
    out = client.take()
    assert out == http2.frame(http2.SETTINGS, 1, 0) + http2.frame(http2.PING, 1, 0, b"12345678")


@pytest.mark.parametrize(
    ("block", "status"), [(b"\x88", 200), (b"\x20\x8d", 404), (b"\x48\x03" + b"503", 0), (b"", 0)]
)
def test_the_status_is_read_where_it_is_indexed(block: bytes, status: int) -> None:
    """HPACK's indexed statuses are known, after size updates too; others read as 0."""
    assert http2.status_of(block) == status

from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import H2Connection
from hypothesis import given, settings
from hypothesis import strategies as st

from support.aio import run, turns
from support.bridged import GET, Bridged, echo

FRAME = st.builds(
    lambda kind, flags, stream, body: (
        len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body
    ),
    st.integers(0, 12),
    st.integers(0, 255),
    st.integers(0, 9),
    st.binary(max_size=40),
)


def conversation() -> bytes:
    """Return what an honest client sends: preface, SETTINGS, two requests, one with a body."""
    client = H2Connection(H2Configuration())
    client.initiate_connection()
    client.send_headers(1, GET, end_stream=True)
    client.send_headers(3, GET)
    client.send_data(3, b"body", end_stream=False)
    return client.data_to_send()


HONEST = conversation()


async def survives(parts: list[bytes]) -> None:
    """Feed the parts; the bridge answers or closes, and no handler is left afterwards."""
    world = Bridged(echo)
    for part in parts:
        world.bridge.receive(part)
        await turns(2)
    world.bridge.shutdown()
    await turns()
    assert world.wire.closed
    assert world.tasks == set()


@settings(max_examples=150, deadline=None)
@given(st.lists(FRAME, max_size=12))
def test_no_sequence_of_frames_is_an_exception(frames: list[bytes]) -> None:
    """Well-formed and malformed frames in any order end in answers or a close."""
    run(survives([HONEST, *frames]))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(HONEST) - 1), st.integers(0, 255), st.integers(1, 64))
def test_no_changed_byte_is_an_exception(at: int, value: int, chunk: int) -> None:
    """One wrong byte anywhere, in any chunking, ends in answers or a close."""
    data = HONEST[:at] + bytes([value]) + HONEST[at + 1 :]
    run(survives([data[start : start + chunk] for start in range(0, len(data), chunk)]))

"""Map messages are cut as the project's own decoder cuts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.messages import Splitter, is_keepalive, text
from mergescale.wire import mapframe


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_any_chunking_gives_the_same_payloads(payloads: list[bytes], data: st.DataObject) -> None:
    """However the body is cut, each payload comes out once, in order and unchanged."""
    body = b"".join(mapframe.encode(payload) for payload in payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    splitter, found = Splitter(), list[bytes]()
    for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        found += splitter.feed(body[start:end])
    assert found == payloads


def test_a_message_without_length_is_refused() -> None:
    """A length of zero is what no client accepts (spec 4.2)."""
    with pytest.raises(ValueError, match="no length"):
        Splitter().feed(bytes(4))


def test_frames_one_after_another_are_one_text() -> None:
    """A payload may be several zstd frames."""
    assert text(mapframe.compress(b'{"a":') + mapframe.compress(b"1}")) == b'{"a":1}'


def test_the_keepalive_is_told_from_news() -> None:
    """Only the keepalive itself is one, however short the news."""
    assert is_keepalive(mapframe.KEEPALIVE_ZSTD[mapframe.LENGTH_BYTES :])
    assert not is_keepalive(mapframe.compress(b'{"PeersRemoved":[1]}'))

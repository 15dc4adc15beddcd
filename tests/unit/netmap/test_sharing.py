"""What is encoded or compressed once for many messages, and that it never goes stale."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from mergescale.domain.record import Put
from mergescale.kernel.ids import NodeId
from mergescale.netmap.blocks import BLOCK_SLOTS, Scene
from mergescale.netmap.encoder import Encoder
from mergescale.netmap.parts import Shared, join_parts, seal, separated, texts
from mergescale.netmap.recent import Recent
from mergescale.wire.mapframe import Compression, Decoder
from mergescale.wire.tailcfg.encode import MemberKey
from support.clock import START
from support.reach import EVERYONE, declare
from support.tailnet_story import REGION
from support.worlds import named, step, world

LARGE = world(
    "; ".join(f"u{n}@example.com: {', '.join(f'n{n}-{i}' for i in range(32))}" for n in range(6)),
    declaration=declare(EVERYONE),
)


def test_parts_make_the_same_text_with_and_without_zstd() -> None:
    """Commas stand where they belong, whatever is shared."""
    shared = Shared((b"1", b"2")), Shared((b"3",))
    array = [b"[", *separated([[shared[0]], [shared[1]], [b"4,5"], [shared[0]]]), b"]"]
    parts = join_parts([(MemberKey(b'"a":'), array), (MemberKey(b'"b":'), [b"null"])])
    text = b"".join(texts(parts))
    assert text == b'{"a":[1,2,3,4,5,1,2],"b":null}'
    assert Decoder(Compression.NONE).feed(seal(parts, Compression.NONE)) == [text]
    assert Decoder(Compression.ZSTD).feed(seal(parts, Compression.ZSTD)) == [text]


def test_an_object_without_members_is_an_object() -> None:
    """The empty object is well formed."""
    assert texts(join_parts([])) == [b"{}"]


def test_blocks_are_shared_by_viewers_who_see_them_whole() -> None:
    """Two viewers of one block share every other block, by identity, and not their own."""
    scene = Scene(LARGE, {})
    everyone = LARGE.slots.bits(LARGE.nodes)
    first, second = (
        [
            p
            for p in scene.peers(everyone & ~(1 << slot), LARGE.slot(NodeId(slot + 1)))
            if isinstance(p, Shared)
        ]
        for slot in (0, 1)
    )
    assert [id(part) for part in first] == [id(part) for part in second]
    assert len(first) == 2 + 1  # two blocks of three, and the comma between them


def test_one_changed_peer_replaces_one_block() -> None:
    """Everything else is taken over as it is."""
    before = Scene(LARGE, {})
    changed = replace(named(LARGE, "n3-0"), endpoints=())
    after = Scene(step(LARGE, [Put(changed)]), before.faces, before.blocks)
    fresh = [old is not new for old, new in zip(before.blocks, after.blocks, strict=True)]
    assert fresh == [number == (3 * 32) // BLOCK_SLOTS for number in range(len(before.blocks))]


def test_an_encoder_that_remembers_says_what_a_fresh_one_says() -> None:
    """Nothing that is kept shows in what is sent, in any order of old and new snapshots."""
    changed = replace(named(LARGE, "n3-0"), name="other", endpoints=())
    after = step(LARGE, [Put(changed)])
    encoder = Encoder(REGION)
    for snapshot in (LARGE, after, LARGE, after):
        for viewer in (NodeId(1), changed.id, NodeId(190)):
            for compression in Compression:
                warm = encoder.full(snapshot, viewer, compression, START)
                assert warm == Encoder(REGION).full(snapshot, viewer, compression, START)


def test_a_cache_forgets_what_was_not_used_lately() -> None:
    """It holds at least its limit, at most twice that, and keeps what is used."""
    cache: Recent[int, int] = Recent(4)
    made: list[int] = []

    def make(key: int) -> int:
        made.append(key)
        return key

    for key in range(100):
        for wanted in (0, key):
            assert cache.get(wanted, partial(make, wanted)) == wanted
    assert made == list(range(100))
    assert len(cache) <= 8

"""Whatever strangers and forges send to a webhook, no answer is an error of the server."""

from __future__ import annotations

import asyncio
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from support.aio import run
from support.deliveries import FORGES, OTHER
from support.hooked import Hooked

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
#: The members that other servers took for granted, with anything or nothing in them.
_MEMBERS = ("ref", "after", "commits", "repository", "project", "pull_request", "hook", "changes")
_PAYLOAD = st.dictionaries(st.sampled_from(_MEMBERS), _JSON) | _JSON
_BODY = _PAYLOAD.map(lambda one: json.dumps(one).encode()) | st.binary(max_size=64)
_TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=40
) | st.sampled_from(["", "sha256=", "v1,", "v1,=", "0", "9" * 30, "push", "ping"])
_NAMES = (
    "x-forgejo-signature",
    "x-gitea-signature",
    "webhook-signature",
    "webhook-id",
    "webhook-timestamp",
    "x-gitlab-token",
    "x-hub-signature-256",
    "x-signature",
    "x-github-event",
    "x-github-delivery",
    "content-type",
)


async def _answers(
    headers: dict[str, str], body: bytes, *, forge: str, name: str, signed: bool
) -> tuple[int, int]:
    here = Hooked(throttled=False)
    secret, now_s = await here.secret(), int(here.clock.now().timestamp())
    plain = await here.post(headers, body, name)
    by = FORGES[forge](secret if signed else OTHER, body, "7", now_s)
    forged = await here.post(by, body)
    return plain.status_code, forged.status_code


@settings(max_examples=150, deadline=None)
@given(
    headers=st.dictionaries(st.sampled_from(_NAMES), _TEXT),
    body=_BODY,
    forge=st.sampled_from(sorted(FORGES)),
    name=st.sampled_from(["one", "two", "three", "%00", "a%2fb"]),
    signed=st.booleans(),
)
def test_what_is_not_signed_is_refused_and_what_is_signed_is_accepted(
    headers: dict[str, str], body: bytes, forge: str, name: str, signed: bool
) -> None:
    """Empty arrays, nulls, wrong types, no JSON at all: the body is proof and nothing else."""
    seen: list[tuple[int, int]] = []

    async def once() -> None:
        seen.append(await _answers(headers, body, forge=forge, name=name, signed=signed))
        await asyncio.sleep(0)

    run(once())
    assert seen[0][0] in {401, 404}
    assert seen[0][1] == (202 if signed else 401)

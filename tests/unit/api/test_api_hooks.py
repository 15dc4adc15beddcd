"""The address that forges send to: order of what is checked, and what is answered."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from mergescale.api import hooks
from mergescale.gitops.hooks import MAX_BODY_BYTES
from mergescale.kernel.ids import TailnetName
from support.aio import aio
from support.deliveries import FORGES, OTHER, PUSH, github
from support.hooked import Hooked, Message
from support.rest import bearer, client, served
from support.worlds import world

PATH = "/api/v2/tailnet/-/gitops/webhooks"
URL = "https://control.example.com/hook/one"


@pytest.mark.parametrize("forge", FORGES)
@aio
async def test_a_signed_delivery_is_accepted(forge: str) -> None:
    """202, and what became of it; the second time too, so that the forge is content."""
    here = Hooked()
    secret, now_s = await here.secret(), int(here.clock.now().timestamp())
    headers = FORGES[forge](secret, PUSH, "7", now_s)
    first, second = await here.post(headers, PUSH), await here.post(headers, PUSH)
    assert (first.status_code, first.text) == (202, "accepted")
    assert (second.status_code, second.text) == (202, "repeated")
    elsewhere = await here.post(headers, PUSH, "two")
    assert elsewhere.status_code == 401


@aio
async def test_what_is_wrong_has_its_status() -> None:
    """And a count; nothing that was sent is repeated."""
    here = Hooked()
    await here.secret()
    wrong = await here.post(github(OTHER, PUSH, "7"), PUSH)
    assert (wrong.status_code, wrong.json()["detail"]) == (
        401,
        "the signature does not match any secret of this webhook",
    )
    nobody = await here.post(github(OTHER, PUSH, "7"), PUSH, "three")
    assert (nobody.status_code, nobody.json()["detail"]) == (
        404,
        "there is nothing at this address",
    )
    long = await here.post(github(OTHER, PUSH, "7"), b"x" * (MAX_BODY_BYTES + 1))
    assert long.status_code == 413
    assert (await here.http.get("/hook/one")).status_code == 405
    assert here.hooks["one"].counts == {"refused": 1, "too-large": 1}
    assert here.strangers == {"unknown": 1}


@aio
async def test_an_unknown_address_costs_what_a_known_one_does() -> None:
    """The secrets are read and the proof is made; a good proof opens nothing there."""
    here = Hooked()
    secret = await here.secret()
    here.vaults["one"].asked.clear()
    answer = await here.post(github(secret, PUSH, "7"), PUSH, "three")
    assert answer.status_code == 404
    assert len(here.vaults["one"].asked) == 1
    assert here.hooks["one"].counts == {}


@aio
async def test_who_fails_too_often_waits() -> None:
    """Before its body is read; at the tailnet where it failed, and nowhere else."""
    here = Hooked()
    secret, other = await here.secret(), await here.secret("two")
    bad, good = github(OTHER, PUSH, "7"), github(secret, PUSH, "8")
    answers = [(await here.post(bad, PUSH)).status_code for _ in range(31)]
    assert answers == [401] * 30 + [429]
    waits = await here.post(good, PUSH)
    assert (waits.status_code, waits.headers["retry-after"]) == (429, "10")
    assert here.hooks["one"].counts == {"refused": 30, "throttled": 2}
    assert (await here.post(github(other, PUSH, "9"), PUSH, "two")).status_code == 202

    async def unread() -> Message:
        raise AssertionError("the body was read")

    assert (await here.raw(unread, []))[0]["status"] == 429


@aio
async def test_good_deliveries_are_never_too_many() -> None:
    """A busy monorepo is not somebody who guesses."""
    here = Hooked()
    secret = await here.secret()
    for number in range(200):
        body = f"{number}".encode()
        assert (await here.post(github(secret, body, f"{number}"), body)).status_code == 202


@aio
async def test_the_body_is_capped_before_anything_is_made_of_it() -> None:
    """What says that it is long is not read; what does not say so is cut off where it is too long."""
    here = Hooked()
    await here.secret()
    reads = 0

    async def endless() -> Message:
        nonlocal reads
        reads += 1
        return {"type": "http.request", "body": b"x" * (1 << 20), "more_body": True}

    sent = await here.raw(endless, [(b"content-length", b"%d" % (MAX_BODY_BYTES + 1))])
    assert (sent[0]["status"], reads) == (413, 0)
    sent = await here.raw(endless, [])
    assert (sent[0]["status"], reads) == (413, 4)
    assert here.vaults["one"].asked == []


@aio
async def test_a_body_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that stays away, and one whose sender hangs up; neither is an error of ours."""
    monkeypatch.setattr(hooks, "READ_S", 0.01)
    here = Hooked()

    async def silent() -> Message:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    assert (await here.raw(silent, []))[0]["status"] == 408
    assert (await here.raw(gone, []))[0]["status"] == 400
    assert (await here.raw(gone, [(b"content-length", b"many")]))[0]["status"] == 400
    assert here.hooks["one"].counts == {"cut-off": 3}


@aio
async def test_a_database_that_is_away_is_no_verdict() -> None:
    """503 with a time: the forge sends it again, and nobody is blamed."""
    here = Hooked()
    secret = await here.secret()
    here.vaults["one"].away = True
    answer = await here.post(github(secret, PUSH, "7"), PUSH)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


@aio
async def test_a_signature_sent_twice_is_none() -> None:
    """Two headers of a name are one value with a comma, which nobody signs with."""
    here = Hooked()
    headers = github(await here.secret(), PUSH, "7")
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def body() -> Message:
        return {"type": "http.request", "body": PUSH, "more_body": False}

    assert (await here.raw(body, [*raw, *raw]))[0]["status"] == 401
    assert (await here.raw(body, raw))[0]["status"] == 202


@aio
async def test_nothing_of_a_delivery_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """Old Gitea puts the secret into the body; others put commit messages there."""
    logging.captureWarnings(capture=False)
    here = Hooked()
    secret, body = await here.secret(), b'{"secret": "hunter2-canary"}'
    await here.post(github(secret, body, "7"), body)
    await here.post(github(OTHER, body, "hunter2-canary"), body)
    said = capsys.readouterr()
    assert "hunter2-canary" not in said.out + said.err
    assert secret not in said.out + said.err


@aio
async def test_operators_make_list_and_drop_secrets() -> None:
    """The secret is told once; a tailnet without a repository has no webhook."""
    here = Hooked()
    tailnets = world("alice@example.com: "), world("bob@example.com: ", tailnet="two")
    known: Any = {TailnetName("default"): here.hooks["one"]}
    async with served(*tailnets, webhooks=known) as site:
        made = (await site.operator.post(PATH)).json()
        assert sorted(made) == ["id", "secret", "url"]
        assert made["url"] == URL
        told = (await site.operator.get(PATH)).json()
        assert (told["url"], [one["id"] for one in told["secrets"]]) == (URL, [made["id"]])
        assert made["secret"] not in str(told)
        assert (await here.post(github(made["secret"], PUSH, "1"), PUSH)).status_code == 202
        dropped = await site.operator.delete(f"{PATH}/{made['id']}")
        assert (dropped.status_code, dropped.json()) == (200, {})
        again = await site.operator.delete(f"{PATH}/{made['id']}")
        assert (again.status_code, again.json()) == (
            404,
            {"message": "no such secret; see mergescale gitops webhook list"},
        )
        bob = client(site.app, headers=bearer(site.tokens["two"]))
        for method in ("GET", "POST"):
            assert (await bob.request(method, PATH)).status_code == 404
        assert (await site.anybody.post(PATH)).status_code == 401

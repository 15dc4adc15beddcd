from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import httpx

from mergescale.kernel.ids import ApiKeyId
from mergescale.state import apikeys
from mergescale.state.ports import StoreUnavailable
from support.aio import aio
from support.rest import Site, basic, bearer, client, issued, served
from support.worlds import world

DEVICES = "/api/v2/tailnet/-/devices"
REFUSED = {"message": "an API token is needed; send it as `Authorization: Bearer mskey-api-…`"}


def endpoints(site: Site) -> Iterator[tuple[str, str]]:
    """Yield every (method, path) below ``/api/v2`` that the application describes."""
    for path, item in site.app.openapi_schema.to_schema()["paths"].items():
        if path.startswith("/api/v2") and not path.startswith("/api/v2/oauth/"):
            for method in item:
                yield method.upper(), path


def filled(path: str, tailnet: str = "-", thing: str = "1") -> str:
    """Return a path with its parameters filled in."""
    for name in ("device_id", "user_id", "key_id", "login_id"):
        path = path.replace(f"{{{name}}}", thing)
    return path.replace("{tailnet}", tailnet)


@aio
async def test_nobody_gets_anywhere_without_a_token() -> None:
    """Every endpoint answers 401 in the same words, before it reads a body."""
    async with served(world("alice@example.com: laptop")) as site:
        found = list(endpoints(site))
        assert len(found) == 68
        for method, path in found:
            answer = await site.anybody.request(method, filled(path), content=b"no json")
            assert (answer.status_code, answer.json()) == (401, REFUSED), (method, path)
            assert answer.headers["www-authenticate"] == 'Bearer realm="mergescale"'


@aio
async def test_what_is_no_good_token_is_refused_alike() -> None:
    """No answer tells what was wrong with it."""
    async with served(world("alice@example.com: laptop")) as site:
        good = site.tokens["default"]
        wrong_secret = good[:-1] + ("2" if good[-1] == "1" else "1")
        for headers in (
            bearer(wrong_secret),
            bearer(good.replace("-api-", "-auth-")),
            bearer(""),
            bearer("x" * 2000),
            basic("", good),
            basic(wrong_secret),
            {"authorization": "Basic !!!"},
            {"authorization": good},
            {"authorization": f"Digest {good}"},
        ):
            answer = await client(site.app, headers=headers).get(DEVICES)
            assert (answer.status_code, answer.json()) == (401, REFUSED), headers


@aio
async def test_a_token_works_as_bearer_and_as_basic_user() -> None:
    """Tailscale's own clients send it as a user name with an empty password."""
    async with served(world("alice@example.com: laptop")) as site:
        for headers in (
            bearer(site.tokens["default"]),
            basic(site.tokens["default"]),
            {"authorization": f"bEARER {site.tokens['default']}"},
        ):
            assert (await client(site.app, headers=headers).get(DEVICES)).status_code == 200


@aio
async def test_a_revoked_token_is_refused_at_once() -> None:
    """The first request after the revocation is."""
    async with served(world("alice@example.com: laptop")) as site:
        engine = site.tailnets.default
        text = await issued(engine, "second")
        second = client(site.app, headers=bearer(text))
        assert (await second.get(DEVICES)).status_code == 200
        await engine.apply(apikeys.revoke(ApiKeyId(text.split("-")[2])))
        assert (await second.get(DEVICES)).json() == REFUSED


@aio
async def test_a_token_sees_its_own_tailnet_only() -> None:
    """By name, by dash or by nothing it is its own; any other is not there, known or not."""
    one, two = world("alice@example.com: laptop"), world("bob@example.com: box", tailnet="two")
    async with served(one, two) as site:
        bob = client(site.app, headers=bearer(site.tokens["two"]))

        async def names(caller: httpx.AsyncClient, path: str) -> list[str]:
            answer = await caller.get(path)
            return [device["hostname"] for device in answer.json()["devices"]]

        for path in (DEVICES, "/api/v2/tailnet/two/devices", f"{DEVICES}?tailnet=two"):
            assert await names(bob, path) == ["box"]
        for method, path in endpoints(site):
            for foreign in ("default", "nowhere"):
                where = filled(path, foreign)
                if "{tailnet}" not in path:
                    where += f"?tailnet={foreign}"
                answer = await bob.request(method, where, content=b"{}")
                said = (answer.status_code, answer.json())
                assert said == (404, {"message": "no such tailnet"}), (method, where)


@aio
async def test_things_of_another_tailnet_are_not_found() -> None:
    """Ids that exist elsewhere only do not exist."""
    one = world("alice@example.com: laptop, phone; carol@example.com: ")
    two = world("bob@example.com: box", tailnet="two")
    async with served(one, two) as site:
        bob = client(site.app, headers=bearer(site.tokens["two"]))
        key_of_one = next(iter(site.snapshot.api_keys))
        for path in (
            "/api/v2/device/n2CNTRL",
            "/api/v2/device/2",
            "/api/v2/users/2",
            f"/api/v2/tailnet/-/keys/{key_of_one}",
        ):
            assert (await site.operator.get(path)).status_code == 200, path
            assert (await bob.get(path)).status_code == 404, path
        assert (await bob.delete("/api/v2/device/2")).status_code == 404
        assert len(site.snapshot.nodes) == 2


@aio
async def test_the_unix_socket_is_trusted_and_chooses_the_tailnet() -> None:
    """The path names it, or ``?tailnet=``, or it is the default one."""
    one, two = world("alice@example.com: laptop"), world("bob@example.com: box", tailnet="two")
    async with served(one, two) as site:
        for path, hostname in (
            (DEVICES, "laptop"),
            (f"{DEVICES}?tailnet=two", "box"),
            ("/api/v2/tailnet/two/devices", "box"),
        ):
            found = (await site.local.get(path)).json()["devices"]
            assert [one["hostname"] for one in found] == [hostname]
        assert (await site.local.get("/api/v2/device/1?tailnet=two")).json()["hostname"] == "box"
        assert (await site.local.get("/api/v2/tailnet/nowhere/devices")).status_code == 404


@aio
async def test_only_the_edge_makes_a_caller_local() -> None:
    """Nothing that a request says does, and a token that comes along counts more."""
    async with served(world("alice@example.com: laptop")) as site:
        claims = {"local": "true", "x-forwarded-for": "127.0.0.1", "forwarded": "for=unix:"}
        answer = await site.anybody.get(f"{DEVICES}?local=true", headers=claims)
        assert answer.status_code == 401
        wrong = await site.local.get(DEVICES, headers=bearer("mskey-api-wrong"))
        assert wrong.status_code == 401


@aio
async def test_the_use_of_a_token_is_noted_once_a_minute() -> None:
    """A busy tool costs one write a minute, not one a request."""
    async with served(world("alice@example.com: laptop")) as site:
        [key] = site.snapshot.api_keys
        for wait_s, uses in ((0, 2), (0, 2), (59, 2), (1, 3)):
            site.clock.advance(timedelta(seconds=wait_s))
            await site.operator.get(DEVICES)
            # The first batch made the token.
            assert len(site.journal.batches[site.snapshot.tailnet]) == uses
        assert site.snapshot.api_keys[key].last_used == site.clock.now()


@aio
async def test_reading_goes_on_when_nothing_can_be_written() -> None:
    """That a use could not be noted is no reason to refuse it."""
    async with served(world("alice@example.com: laptop")) as site:
        site.journal.fail_next = StoreUnavailable("disk full")
        assert (await site.operator.get(DEVICES)).status_code == 200

"""SSH logins that need a check, from a destination's request over Noise to an operator's word."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote, urlsplit

import pytest

from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import LoginId
from mergescale.state import sshchecks
from mergescale.state.throttle import SSH_CHECK
from support.aio import aio
from support.control_world import ALICE, BOB, URL, Control, Device, Json, controlled, people
from support.failures import MemoryFailures
from support.noise_client import Answer, Call
from support.ssh import entry, ssh_text
from support.worlds import named

RULES = (
    entry(ALICE, "tag:web", "ubuntu deploy", action="check", checkPeriod="1h"),
    entry(ALICE, "tag:web", "root", action="check", checkPeriod="always"),
)
POLICY = ssh_text(*RULES)
ACCEPT = {
    "accept": True,
    "allowAgentForwarding": True,
    "allowLocalPortForwarding": True,
    "allowRemotePortForwarding": True,
}
TEMPLATE = f"{URL}/machine/ssh/action/$SRC_NODE_ID/to/$DST_NODE_ID?local_user=$LOCAL_USER&auth_id="


@dataclass(slots=True)
class Login:
    """A login in progress, as the destination sees it: it follows URLs, as spec 5.2 says."""

    control: Control
    target: Device
    source: str
    user: str = "ubuntu"
    url: str = ""

    def path(self, template: str = "") -> str:
        """Expand a template as a Go client does, the policy's own if none is given."""
        snapshot = self.control.snapshot
        if not template:
            rules = snapshot.access.ssh_rules(snapshot.slot(named(snapshot, self.target.name).id))
            assert rules
            template = TEMPLATE.removesuffix("&auth_id=")
        for word, value in (
            ("$SRC_NODE_ID", str(named(snapshot, self.source).id)),
            ("$DST_NODE_ID", str(named(snapshot, self.target.name).id)),
            ("$LOCAL_USER", quote(self.user, safe="")),
        ):
            template = template.replace(word, value)
        parts = urlsplit(template)
        assert f"{parts.scheme}://{parts.netloc}" == URL
        return f"{parts.path}?{parts.query}"

    async def ask(self, template: str = "") -> Json:
        answer = await self.target.noise.get(self.path(template))
        return told(answer)

    async def hold(self, template: str) -> Call:
        """Repeat the request at the check; return while it is held."""
        call = await self.target.noise.open("GET", self.path(template))
        check = check_in(template)
        while check not in self.control.bell._waiting:  # noqa: ASYNC110 - see aio.until
            await asyncio.sleep(0)
        return call


def told(answer: Answer) -> Json:
    assert answer.status == 200, answer.body
    found: Json = json.loads(answer.body)
    return found


def check_in(template: str) -> LoginId:
    assert template.startswith(TEMPLATE)
    return LoginId(template.removeprefix(TEMPLATE))


@asynccontextmanager
async def tailnet(**more: object) -> AsyncIterator[tuple[Control, Device]]:
    """Serve a laptop of Alice, one of Bob and a connected web server."""
    async with controlled(_people(), **more) as control:  # type: ignore[arg-type]
        keys = [await control.auth_key(), await control.auth_key(user=BOB)]
        for name, key in zip(("laptop", "other"), keys, strict=True):
            async with control.device(name) as device:
                await device.join(key)
        async with control.device("web") as web:
            await web.join(await control.auth_key(tags=["tag:web"]))
            yield control, web


def _people() -> Snapshot:
    return people(policy_text=POLICY)


@aio
async def test_a_login_is_held_until_an_operator_approves_it() -> None:
    """First the page to visit, then a wait, then in; until the period is over at once."""
    async with tailnet() as (control, web):
        login = Login(control, web, "laptop")
        first = await login.ask()
        check = check_in(first["holdAndDelegate"])
        assert first == {
            "message": "# This login needs the approval of an operator.\n"
            f"# To ask for it, visit: {URL}/ssh/{check}\n",
            "holdAndDelegate": TEMPLATE + check,
        }
        held = await login.hold(first["holdAndDelegate"])
        assert not held.ended
        await control.apply(sshchecks.approve(check))
        assert told(await held.answer()) == ACCEPT
        assert await login.ask() == ACCEPT
        control.clock.advance(timedelta(hours=1))
        assert "holdAndDelegate" in await login.ask()


@aio
async def test_a_rejected_login_is_told_why() -> None:
    """The client shows the text and ends the session."""
    async with tailnet() as (control, web):
        login = Login(control, web, "laptop")
        first = await login.ask()
        held = await login.hold(first["holdAndDelegate"])
        await control.apply(sshchecks.reject(check_in(first["holdAndDelegate"])))
        assert told(await held.answer()) == {"reject": True, "message": "the login was rejected\n"}


@aio
async def test_always_means_each_login() -> None:
    """What was approved lets in the login that waited, and the next one asks again."""
    async with tailnet() as (control, web):
        login = Login(control, web, "laptop", user="root")
        first = await login.ask()
        held = await login.hold(first["holdAndDelegate"])
        await control.apply(sshchecks.approve(check_in(first["holdAndDelegate"])))
        assert told(await held.answer()) == ACCEPT
        again = await login.ask()
        assert again["holdAndDelegate"] != first["holdAndDelegate"]
        assert dict(control.snapshot.ssh_checks).keys() == {check_in(again["holdAndDelegate"])}


@aio
async def test_a_login_that_nobody_decides_comes_back_to_its_check() -> None:
    """The wait ends before proxies lose patience; the same URL again, without another banner."""
    async with tailnet(hold_s=0.01) as (control, web):
        login = Login(control, web, "laptop")
        first = await login.ask()
        url = first["holdAndDelegate"]
        assert await login.ask(url) == {"holdAndDelegate": url}
        assert len(control.snapshot.ssh_checks) == 1


@aio
async def test_a_forgotten_check_is_replaced() -> None:
    """Whoever comes back too late is shown another page."""
    async with tailnet() as (control, web):
        login = Login(control, web, "laptop")
        url = (await login.ask())["holdAndDelegate"]
        control.clock.advance(sshchecks.LIFE)
        again = await login.ask(url)
        assert check_in(again["holdAndDelegate"]) != check_in(url)
        assert URL + "/ssh/" in again["message"]


@aio
async def test_who_has_no_rule_is_refused() -> None:
    """Neither another person nor another user gets a check, and the machine itself none either."""
    async with tailnet() as (control, web):
        for login in (
            Login(control, web, "other"),
            Login(control, web, "laptop", user="admin"),
            Login(control, web, "web"),
        ):
            assert (await login.ask())["reject"] is True
        assert dict(control.snapshot.ssh_checks) == {}


@aio
async def test_only_the_destination_may_ask() -> None:
    """The source cannot find out for itself, nor can anybody else."""
    async with tailnet() as (control, web):
        path = Login(control, web, "laptop").path()
        for name in ("laptop", "other", "stranger"):
            async with control.device(name) as device:
                assert (await device.noise.get(path)).status == 404
        assert dict(control.snapshot.ssh_checks) == {}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/machine/ssh/action/1/to/99?local_user=ubuntu", 404),
        ("/machine/ssh/action/0/to/3?local_user=ubuntu", 400),
        ("/machine/ssh/action/1/to/3", 400),
        ("/machine/ssh/action/1/to/3?local_user=", 400),
        (f"/machine/ssh/action/1/to/3?local_user={'u' * 257}", 400),
        (f"/machine/ssh/action/{'9' * 30}/to/3?local_user=ubuntu", 400),
        ("/machine/ssh/action/one/to/3?local_user=ubuntu", 404),
    ],
)
@aio
async def test_nonsense_is_refused(path: str, status: int) -> None:
    """With a text that echoes nothing; the connection goes on."""
    async with tailnet() as (control, web):
        answer = await web.noise.get(path)
        assert (answer.status, b"ubuntu" in answer.body) == (status, False)
        assert (await Login(control, web, "laptop").ask())["holdAndDelegate"]


@aio
async def test_a_destination_begins_so_many_checks() -> None:
    """Then it has to wait; those that it has begun go on."""
    rule = entry(ALICE, "tag:web", "autogroup:nonroot", action="check")
    snapshot = people(policy_text=ssh_text(rule))
    async with controlled(snapshot, failures=MemoryFailures()) as control:
        async with control.device("laptop") as device:
            await device.join(await control.auth_key())
        async with control.device("web") as web:
            await web.join(await control.auth_key(tags=["tag:web"]))
            for number in range(SSH_CHECK.burst):
                await Login(control, web, "laptop", user=f"u{number}").ask()
            one_more = Login(control, web, "laptop", user="one-more")
            answer = await web.noise.get(one_more.path())
            assert answer.status == 429
            assert (await Login(control, web, "laptop", user="u0").ask())["holdAndDelegate"]
            control.clock.advance(timedelta(seconds=SSH_CHECK.every_s))
            assert (await one_more.ask())["holdAndDelegate"]

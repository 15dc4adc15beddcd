from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser

from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.sshcheck import SshCheck
from mergescale.kernel.ids import LoginId
from mergescale.state import sshchecks
from mergescale.state.sshchecks import LIFE, ask
from mergescale.web.pages import CONTENT_SECURITY_POLICY
from support.aio import aio
from support.rest import Site, served
from support.ssh_checks import attempt, checked
from support.worlds import named, step

ID = LoginId("check-1")


class Page(HTMLParser):
    """The state of a page, the text people read, and what browsers run or fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.state: str | None = None
        self.words: list[str] = []
        self.active: list[str] = []
        self.feed(html)
        self.text = " ".join(self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.state = dict(attrs).get("data-state") or self.state
        if tag in {"script", "form", "iframe", "object", "embed", "button", "input"}:
            self.active.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.extend(data.split())


async def page(site: Site, status: int = 200) -> Page:
    answer = await site.anybody.get(f"/ssh/{ID}")
    assert answer.status_code == status
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert answer.headers["cache-control"] == "no-store"
    return Page(answer.text)


async def asked(site: Site, snapshot: Snapshot | None = None) -> None:
    await site.tailnets.default.apply(ask(attempt(snapshot or site.snapshot)))


@aio
async def test_a_waiting_check_shows_who_wants_in_where_and_the_command() -> None:
    """All that an operator asks about, and the exact line to run; opening it changes nothing."""
    async with served(checked()) as site:
        await asked(site)
        before = site.snapshot
        shown = await page(site)
        assert shown.state == "pending"
        assert shown.active == ["script"]
        assert f"mergescale ssh approve {ID}" in shown.text
        assert f"mergescale ssh reject {ID}" in shown.text
        for words in (
            "Who ana@example.com From laptop.default.tailnet.internal",
            "To w1.default.tailnet.internal As ubuntu",
            "Asked 2026-01-01 00:00:00 UTC Waits until 2026-01-01 00:30:00 UTC",
        ):
            assert words in shown.text
        assert site.snapshot is before


@aio
async def test_a_decided_check_says_so() -> None:
    """Approved, rejected or too old; no command is left on the page, and nothing runs."""
    for decision, state in (
        (sshchecks.approve, "approved"),
        (sshchecks.reject, "rejected"),
        (None, "expired"),
    ):
        async with served(checked()) as site:
            await asked(site)
            if decision is None:
                site.clock.advance(LIFE + timedelta(seconds=1))
            else:
                await site.tailnets.default.apply(decision(ID))
            shown = await page(site)
            assert (shown.state, shown.active) == (state, [])
            assert "mergescale ssh" not in shown.text


@aio
async def test_an_unknown_check_says_nothing_about_any() -> None:
    """Whoever guesses learns nothing."""
    async with served(checked()) as site:
        shown = await page(site, status=404)
        assert shown.state == "missing"
        assert "example.com" not in shown.text


@aio
async def test_names_are_text() -> None:
    """What a login holds is shown and never run."""
    before = checked()
    ana = next(user for user in before.users.values() if user.login == "ana@example.com")
    before = step(before, [Put(replace(ana, login="<script>x</script>@example.com"))])
    laptop = named(before, "laptop")
    check = SshCheck(
        ID, laptop.id, ana.id, named(before, "w1").id, "<b>u", laptop.created, laptop.created + LIFE
    )
    async with served(step(before, [Put(check)])) as site:
        shown = await page(site)
        assert "Who <script>x</script>@example.com" in shown.text
        assert "As <b>u" in shown.text
        assert shown.active == ["script"]

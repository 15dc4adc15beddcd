from __future__ import annotations

from datetime import timedelta
from html.parser import HTMLParser

from mergescale.identity.fingerprint import fingerprint
from mergescale.kernel.ids import LoginId, NodeId
from mergescale.state import logins, nodes
from mergescale.state.engine import Engine
from mergescale.state.logins import Approval
from mergescale.state.registration import LoginNeeded, register
from mergescale.web.pages import CONTENT_SECURITY_POLICY, shown
from support.access import table
from support.aio import aio
from support.machines import Machine, hostinfo
from support.rest import served
from support.worlds import world

PHONE = Machine("phone")
PEOPLE = "alice@example.com: "
BY_ALICE = Approval("nSTABLECNTRL", user="alice@example.com")
#: What browsers run or fetch by themselves.
ACTIVE = {"script", "iframe", "object", "embed", "img", "svg", "link", "form", "base", "style"}


class Page(HTMLParser):
    """What is on a page: elements with their attributes, and the text people read."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.extend(data.split())

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def state(self) -> str | None:
        return next(a["data-state"] for _, a in self.elements if "data-state" in a)

    @property
    def active(self) -> list[str]:
        return sorted(tag for tag, _ in self.elements if tag in ACTIVE)


async def asked(engine: Engine, machine: Machine = PHONE, **said: object) -> LoginId:
    told = hostinfo("phone", **said)
    answer = await engine.apply(register(machine.asks(hostinfo=told)))
    assert isinstance(answer, LoginNeeded)
    return answer.login_id


@aio
async def test_a_pending_login_shows_who_asks_and_the_command() -> None:
    """All that an operator compares, and the exact line to run."""
    async with served(world(PEOPLE, declaration=table())) as site:
        login_id = await asked(
            site.tailnets.default, OSVersion="12", IPNVersion="1.98.1", RequestTags=["tag:web"]
        )
        answer = await site.anybody.get(f"/register/{login_id}")
        page = Page(answer.text)
        assert (answer.status_code, page.state) == (200, "pending")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert answer.headers["cache-control"] == "no-store"
        for words in (
            "A device asks to join",
            f"mergescale auth approve {login_id} --user LOGIN",
            f"mergescale auth reject {login_id}",
            f"Fingerprint {fingerprint(PHONE.key)}",
            "Calls itself phone",
            "System linux 12",
            "Client 1.98.1",
            "Asks for tags tag:web",
            "Asked 2026-01-01 00:00:00 UTC",
            "Waits until 2026-01-01 01:00:00 UTC",
        ):
            assert words in page.text, words
        refresh = [a for tag, a in page.elements if tag == "meta" and "http-equiv" in a]
        assert refresh == [{"http-equiv": "refresh", "content": "15"}]
        assert [a["src"] for tag, a in page.elements if tag == "script"] != []


@aio
async def test_the_page_follows_the_login() -> None:
    """Approved, removed, rejected, expired: each has its words, and none looks again."""
    async with served(world(PEOPLE, declaration=table())) as site:
        engine = site.tailnets.default

        async def look(login_id: LoginId) -> Page:
            answer = await site.anybody.get(f"/register/{login_id}")
            assert answer.status_code == 200
            page = Page(answer.text)
            assert "script" not in page.active
            assert "approve" not in page.text
            return page

        approved = await asked(engine)
        await engine.apply(logins.approve(approved, BY_ALICE))
        page = await look(approved)
        assert page.state == "approved"
        assert "It is called phone.default.tailnet.internal from now on" in page.text
        await engine.apply(nodes.delete(NodeId(1)))
        assert "It has been removed since" in (await look(approved)).text

        rejected = await asked(engine, Machine("tablet"))
        await engine.apply(logins.reject(rejected))
        assert (await look(rejected)).state == "rejected"

        late = await asked(engine, Machine("watch"))
        site.clock.advance(timedelta(hours=1))
        assert (await look(late)).state == "expired"


@aio
async def test_opening_the_page_changes_nothing() -> None:
    """However often and however it is asked for, the login stays as it was."""
    async with served(world(PEOPLE, declaration=table())) as site:
        login_id = await asked(site.tailnets.default)
        before = site.snapshot
        for method in ("GET", "GET", "HEAD", "POST", "PUT", "DELETE"):
            await site.operator.request(method, f"/register/{login_id}?approve=1&user=alice")
        assert site.snapshot is before


@aio
async def test_an_unknown_link_says_so() -> None:
    """404, in words and with what to do, whatever stands in the address."""
    async with served(world(PEOPLE)) as site:
        for name in ("nobody", "%3Cimg%20src=x%20onerror=alert(1)%3E", "%00", "{{7*7}}"):
            answer = await site.anybody.get(f"/register/{name}")
            page = Page(answer.text)
            assert (answer.status_code, page.state) == (404, "missing"), name
            assert "Nobody waits behind this link" in page.text
            assert "tailscale up --force-reauth" in page.text
            assert "alert" not in answer.text
        for name in ("..%2f..%2fetc", "a/b", ""):
            assert (await site.anybody.get(f"/register/{name}")).status_code == 404, name


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</code></pre><svg/onload=alert(1)>",
    "{{ 7*7 }}{% raw %}",
    "javascript:alert(1)",
    "<!--",
    "]]><iframe src=//evil.example>",
    "&lt;b&gt;",
    "\u202egnp.exe",
    "a\u200bb\u0000c\nd",
    "x" * 5000,
)


@aio
async def test_what_a_device_says_stays_text() -> None:
    """Nothing of it becomes markup, code or layout, wherever on the page it stands."""
    async with served(world(PEOPLE, declaration=table())) as site:
        engine = site.tailnets.default
        plain = await asked(engine, Machine("plain"), IPNVersion="x", RequestTags=["tag:x"])
        expected = Page((await site.anybody.get(f"/register/{plain}")).text)
        for number, text in enumerate(HOSTILE):
            said = hostinfo(text, OS=text, OSVersion=text, IPNVersion=text, RequestTags=[text])
            request = Machine(f"evil {number}").asks(hostinfo=said)
            answer = await engine.apply(register(request))
            assert isinstance(answer, LoginNeeded)
            html = (await site.anybody.get(f"/register/{answer.login_id}")).text
            page = Page(html)
            assert [tag for tag, _ in page.elements] == [tag for tag, _ in expected.elements], text
            assert [sorted(a) for _, a in page.elements] == [
                sorted(a) for _, a in expected.elements
            ]
            assert " ".join(shown(text).split()) in page.text
            assert len(html) < 10_000
            assert not set("\u202e\u200b\u0000") & set(html)


def test_text_without_shape_is_made_visible() -> None:
    """Overrides, joiners and controls become a replacement character; long text is cut."""
    assert shown("laptop é 日本 😀") == "laptop é 日本 😀"
    assert shown("a\u202eb\u200dc\td\x7f") == "a\ufffdb\ufffdc\ufffdd\ufffd"
    assert shown("x" * 254) == "x" * 252 + "…"
    assert shown("x" * 253) == "x" * 253

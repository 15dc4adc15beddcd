"""What real clients may reach, as the policy in the repository says."""

from __future__ import annotations

import pytest

from support.real_clients import eventually
from support.site import BOB, CLOSED, OPEN, WEB, Site

pytestmark = pytest.mark.interop


@pytest.mark.both_databases
def test_http_by_magicdns_name(site: Site) -> None:
    """A client fetches a page from another by its short name, its whole name and its addresses."""
    site.apply("open", policy=OPEN)
    server = site.joined_tagged("pages", "tag:web")
    addresses = site.device("pages")["addresses"]
    names = ["pages", "pages.default.tailnet.internal", *addresses]
    reader = site.joined("reader", peers=names)

    eventually("the first page", lambda: reader.reaches("pages"), within_s=15)

    own = site.device("reader")["addresses"]
    for name in names:
        reply = reader.fetch(name)
        # The server side sees the reader's own address: nothing translates in between.
        assert reply.status == 200
        assert reply.body.removeprefix("hello from pages ").removesuffix("\\n").strip() in own
    assert server.state == "Running"


@pytest.mark.both_databases
def test_a_commit_cuts_and_restores_access(site: Site) -> None:
    """A commit that removes the rule cuts new connections, and reverting it lets them in again."""
    site.apply("the web is open", policy=WEB)
    server = site.joined_tagged("shop", "tag:web")
    alice = site.joined("alices", peers=["shop"])
    eventually("alice is let in", lambda: alice.reaches("shop"), within_s=15)

    site.apply("take it away", policy=CLOSED)
    eventually("alice is cut off", lambda: alice.cut_off("shop"), within_s=15)

    site.repository.git("revert", "--no-edit", "HEAD")
    eventually("alice is let in again", lambda: alice.reaches("shop"), within_s=20)
    assert (alice.state, server.state) == ("Running", "Running")


@pytest.mark.both_databases
def test_a_rule_lets_in_whom_it_names_and_nobody_else(site: Site) -> None:
    """One user reaches the port of the rule; another user, and the way back, get nothing."""
    site.apply("the web is open", policy=WEB)
    site.joined_tagged("kiosk", "tag:web")
    kiosk_address = site.device("kiosk")["addresses"][0]
    alice = site.joined("insider", peers=["kiosk"])
    bob = site.joined("outsider", user=BOB, peers=["kiosk", kiosk_address])
    eventually("alice is let in", lambda: alice.reaches("kiosk"), within_s=15)

    assert bob.cut_off(kiosk_address)
    assert bob.cut_off("kiosk")
    assert bob.state == "Running"


def test_the_filter_drops_what_no_rule_allows(site: Site) -> None:
    """A peer that is seen for one port drops packets to another one, until a commit opens it."""
    site.apply("another port", policy=WEB.replace("tag:web:80", "tag:web:443"))
    server = site.joined_tagged("strict", "tag:web")
    alice = site.joined("knocker", peers=["strict"])

    assert alice.cut_off("strict")
    # It is the server's side that says no: the packets got there.
    eventually("the drop is logged", lambda: server.said("no rules matched"), within_s=15)

    site.apply("the web is open", policy=WEB)
    eventually("alice is let in", lambda: alice.reaches("strict"), within_s=15)


def test_a_bad_commit_changes_nothing(site: Site) -> None:
    """A commit with a mistake is reported with its place; what was reachable stays so, or not."""
    good = site.apply("the web is open", policy=WEB)
    site.joined_tagged("till", "tag:web")
    alice = site.joined("buyer", peers=["till"])
    bob = site.joined("thief", user=BOB, peers=["till"])
    eventually("alice is let in", lambda: alice.reaches("till"), within_s=15)

    mistake = OPEN.replace('"dst": ["*:*"]', '"dst": ["tag:wbe:80"]')
    bad = site.repository.commit("a mistake", policy=mistake)
    eventually("it is seen", lambda: site.gitops()["target"]["commit"] == bad)
    eventually("it is judged", lambda: bool(site.gitops()["problems"]))

    status = site.gitops()
    assert status["current"]["commit"] == good
    problem = status["problems"][0]
    line = next(n for n, text in enumerate(mistake.splitlines(), 1) if "tag:wbe" in text)
    column = mistake.splitlines()[line - 1].index('"tag:wbe') + 1
    place = (problem["file"], problem["line"], problem["column"])
    assert place in {("policy.hujson", line, column), ("policy.hujson", line, column + 1)}
    assert "tag:wbe" in problem["rendered"]
    shown = site.server.cli("gitops", "status")
    assert f"policy.hujson:{line}:" in shown.stdout + shown.stderr
    assert alice.reaches("till")
    assert bob.cut_off("till")

    site.apply("without it", policy=WEB)
    assert site.gitops()["problems"] == []


def test_a_node_is_renamed_under_its_peers(site: Site) -> None:
    """After a rename peers reach the node by its new name, and no longer by the old one."""
    site.apply("open", policy=OPEN)
    site.joined_tagged("oldname", "tag:web")
    reader = site.joined("follower", peers=["oldname", "newname"])
    eventually("by the old name", lambda: reader.reaches("oldname"), within_s=15)

    site.act("oldname", "name", name="newname")

    eventually("by the new name", lambda: reader.reaches("newname"))
    assert reader.cut_off("oldname")


def test_tags_given_by_an_operator_count_at_once(site: Site) -> None:
    """A node that gets the tag of a rule is reachable under it, without having to log in again."""
    site.apply("the web is open", policy=WEB)
    site.joined("promoted", user=BOB)
    alice = site.joined("visitor", peers=[site.device("promoted")["addresses"][0], "promoted"])
    assert alice.cut_off("promoted")

    site.act("promoted", "tags", tags=["tag:web"])

    eventually("alice is let in", lambda: alice.reaches("promoted"), within_s=15)

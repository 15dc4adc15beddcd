"""Each forge's API as its documentation has it, spoken to a forge on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mergescale.gitops.forges.comments import Author, may_be
from mergescale.gitops.forges.making import forge_of
from mergescale.gitops.forges.place import ForgePlace, Kind
from mergescale.gitops.forges.port import Forge, Note, Pull, Said, State
from mergescale.gitops.forges.tokens import given
from mergescale.gitops.git.source import Source
from mergescale.gitops.outbox import Retry, Undeliverable
from mergescale.gitops.vault import FORGE
from mergescale.kernel.errors import Invalid
from support.aio import aio
from support.clock import START, FakeClock
from support.forge import APP, TOKEN, ForgeStandIn
from support.forge_api import Fault
from support.forge_api import Kind as Spoken
from support.vault import MemoryVault

pytestmark = pytest.mark.enable_socket
MARKER = "<!-- mergescale -->"
EACH = pytest.mark.parametrize("kind", [Kind.GITHUB, Kind.GITLAB, Kind.GITEA])


@pytest.fixture
def standing(tmp_path: Path, kind: Kind) -> Iterator[ForgeStandIn]:
    """A forge of that kind with one commit."""
    with ForgeStandIn(tmp_path / "forge", Spoken(kind)) as forge:
        forge.commit({"policy.hujson": "{}"}, "start")
        yield forge


@asynccontextmanager
async def speaking(standing: ForgeStandIn, credential: object = None) -> AsyncIterator[Forge]:
    """Speak to it as the server does."""
    place = ForgePlace(Kind(standing.kind), standing.api_url, standing.project)
    vault = MemoryVault()
    words = credential or {"kind": "token", "token": TOKEN}
    await vault.put(FORGE, place.api_url, given(words, place.kind))
    forge = forge_of(place, vault, FakeClock())
    try:
        yield forge
    finally:
        await forge.close()


def tip(standing: ForgeStandIn) -> str:
    return standing.git("rev-parse", "main")


@EACH
def test_a_status_is_set_in_the_words_of_the_forge(standing: ForgeStandIn, kind: Kind) -> None:
    """Every state has one, the description is cut to what is taken, pending again is no error."""

    @aio
    async def check() -> None:
        async with speaking(standing) as forge:
            for state in (State.PENDING, State.PENDING, *State):
                await forge.set_status(
                    tip(standing), Said("mergescale/plan", state, "x\n" * 300, "")
                )

    check()
    odd = {
        Kind.GITHUB: ["pending", "pending", "pending", "success", "failure", "error", "pending"],
        Kind.GITLAB: ["pending", "success", "failed", "canceled", "skipped"],
        Kind.GITEA: ["pending", "pending", "pending", "success", "failure", "error", "warning"],
    }
    assert standing.history(tip(standing), "mergescale/plan") == odd[kind]
    told = standing.statuses(tip(standing))["mergescale/plan"].description
    assert told.startswith("x x x")
    assert told.endswith("…")
    assert len(told) == (140 if kind is Kind.GITHUB else 255)


@EACH
def test_the_link_of_a_status_is_there_if_there_is_one(standing: ForgeStandIn) -> None:
    """A forge that is sent an empty link would refuse it."""

    @aio
    async def check() -> None:
        async with speaking(standing) as forge:
            await forge.set_status(
                tip(standing), Said("a", State.SUCCESS, "", "https://m.example.com/p")
            )
            await forge.set_status(tip(standing), Said("b", State.SUCCESS, "", ""))

    check()
    assert standing.statuses(tip(standing))["a"].url == "https://m.example.com/p"
    assert "target_url" not in standing.requests[-1].body


@EACH
def test_the_comment_is_found_again_behind_many_others(standing: ForgeStandIn) -> None:
    """Whatever the forge's pages are; an equal text is not written again."""
    number = standing.open_pull("main")
    standing.chat(number, "first!", times=120)

    @aio
    async def check() -> None:
        async with speaking(standing) as forge:
            await forge.upsert_comment(number, MARKER, f"{MARKER}\none")
            standing.chat(number, f"they said: {MARKER}")
            await forge.upsert_comment(number, MARKER, f"{MARKER}\ntwo")
            await forge.upsert_comment(number, MARKER, f"{MARKER}\ntwo")

    check()
    assert [one for one in standing.comments(number) if one.startswith(MARKER)] == [
        f"{MARKER}\ntwo"
    ]
    assert len([one for one in standing.requests if one.method in {"PATCH", "PUT"}]) == 1
    assert len([one for one in standing.requests if one.method == "POST"]) == 1


@EACH
def test_a_marker_of_somebody_else_is_no_comment_of_ours(standing: ForgeStandIn) -> None:
    """They keep what they wrote though we could write over it: later they could change the plan."""
    number = standing.open_pull("main")
    standing.chat(number, f"{MARKER}\nfake")

    @aio
    async def check() -> None:
        async with speaking(standing) as forge:
            for text in ("fake", "plan", "again"):
                await forge.upsert_comment(number, MARKER, f"{MARKER}\n{text}")

    check()
    assert standing.comments(number) == [f"{MARKER}\nfake", f"{MARKER}\nagain"]


@EACH
def test_a_token_that_may_not_know_whose_it_is_takes_what_may_be_written_over(
    standing: ForgeStandIn,
) -> None:
    """Where somebody else's may not, the plan stands below it."""
    number, standing.nameless = standing.open_pull("main"), True
    standing.chat(number, f"{MARKER}\nfake")
    edits = "/notes/" if standing.kind == "gitlab" else "/issues/comments/"
    standing.faults.append(Fault(403, match=edits))

    @aio
    async def check() -> None:
        async with speaking(standing) as forge:
            await forge.upsert_comment(number, MARKER, f"{MARKER}\nplan")
            assert standing.comments(number) == [f"{MARKER}\nfake", f"{MARKER}\nplan"]
            await forge.upsert_comment(number, MARKER, f"{MARKER}\nagain")

    check()
    assert standing.comments(number) == [f"{MARKER}\nagain", f"{MARKER}\nplan"]


def test_an_app_knows_its_comment_by_its_number(tmp_path: Path) -> None:
    """A token of an installation is nobody's account."""
    app = {"kind": "github-app", "appId": APP, "installationId": 8, "privateKey": pem()}
    with ForgeStandIn(tmp_path / "forge", installation=True) as standing:
        standing.commit({"policy.hujson": "{}"})
        number = standing.open_pull("main")
        standing.chat(number, f"{MARKER}\nfake")

        @aio
        async def check() -> None:
            async with speaking(standing, app) as forge:
                for text in ("one", "two"):
                    await forge.upsert_comment(number, MARKER, f"{MARKER}\n{text}")

        check()
        assert standing.comments(number) == [f"{MARKER}\nfake", f"{MARKER}\ntwo"]
        assert standing.asked("/user") == []


PERSON, OTHER = Author(user=1), Author(user=3)
BOT, APPS = Author(user=2, bot=True), Author(user=2, app=APP, bot=True)


@pytest.mark.parametrize(
    ("own", "authors"),
    [
        (None, {PERSON, OTHER, BOT, APPS, Author()}),
        (PERSON, {PERSON, Author()}),
        (Author(app=APP), {BOT, APPS, Author()}),
        (Author(app=APP + 1), {BOT, Author()}),
    ],
)
def test_a_comment_is_ours_or_cannot_be_told_from_one(
    own: Author | None, authors: set[Author]
) -> None:
    """A person's is never an app's; what a forge does not tell must not make a flood of comments."""
    everybody = {PERSON, OTHER, BOT, APPS, Author()}
    assert {one for one in everybody if may_be(own, one)} == authors


def test_gitlab_is_told_which_branch_or_merge_request_a_commit_is_of(tmp_path: Path) -> None:
    """It knows no place for a fork's commit by itself; a long link is left out."""
    with ForgeStandIn(tmp_path / "forge", Spoken.GITLAB) as standing:
        first = standing.commit({"policy.hujson": "{}"})
        theirs = standing.commit({"policy.hujson": "{ }"}, branch="theirs")
        number = standing.open_pull("theirs", fork=True)

        @aio
        async def check() -> None:
            async with speaking(standing) as forge:
                with pytest.raises(Retry):
                    await forge.set_status(theirs, Said("a", State.SKIPPED, ""))
                said = Said("a", State.SKIPPED, "", "https://m.example.com/" + 250 * "x")
                await forge.set_status(theirs, replace(said, ref=forge.head_ref(number)))
                await forge.set_status(first, Said("a", State.SUCCESS, "", ref="main"))

        check()
        assert standing.statuses(theirs)["a"].ref == "refs/merge-requests/1/head"
        assert standing.statuses(theirs)["a"].url == ""
        assert standing.statuses(first)["a"].ref == "main"


@EACH
def test_pull_requests_into_the_branch_are_listed(standing: ForgeStandIn, kind: Kind) -> None:
    """Those into others are not, nor closed ones; what comes from a fork says so."""
    heads = [standing.commit({"a": str(n)}, branch=f"b{n}") for n in range(4)]
    standing.open_pull("b0", title="one")
    standing.open_pull("b1", base="other")
    standing.open_pull("b2", fork=True)
    standing.close(standing.open_pull("b3"))

    @aio
    async def check() -> None:
        async with speaking(standing) as forge:
            assert list(await forge.open_pulls("main")) == [
                Pull(3, heads[2], fork=True),
                Pull(1, heads[0], fork=False, title="one"),
            ]
            ref = "refs/merge-requests/1/head" if kind is Kind.GITLAB else "refs/pull/1/head"
            assert forge.head_ref(1) == ref
            assert standing.git("rev-parse", ref) == heads[0]

    check()


def test_gitea_lists_all_pages(tmp_path: Path) -> None:
    """It has fifty a page and no filter by branch."""
    with ForgeStandIn(tmp_path / "forge", Spoken.GITEA) as standing:
        standing.commit({"a": "b"})
        first = standing.open_pull("main")
        for _ in range(60):
            standing.open_pull("main", base="other")

        @aio
        async def check() -> None:
            async with speaking(standing) as forge:
                assert [one.number for one in await forge.open_pulls("main")] == [first]

        check()


BUSY = [
    (Fault(429, {"retry-after": "90"}), "the forge asks to wait", 90),
    (Fault(403, {"retry-after": "7"}), "the forge asks to wait", 7),
    (
        Fault(403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1767225900"}),
        "the forge asks to wait",
        300,
    ),
    (
        Fault(403, body={"message": "You have exceeded a secondary rate limit. Please wait"}),
        "the forge asks to wait",
        60,
    ),
    (
        Fault(503, {"retry-after": format_datetime(START + timedelta(seconds=30))}),
        "the forge is in trouble (503)",
        30,
    ),
    (
        Fault(429, {"retry-after": format_datetime(START + timedelta(seconds=30))}),
        "the forge asks to wait",
        30,
    ),
    (Fault(429, {"retry-after": "soon, \x7f"}), "the forge asks to wait", 60),
    (Fault(401), "the forge refuses the token (401)", None),
    (Fault(500), "the forge is in trouble (500)", None),
    (Fault(0), "the forge could not be reached", None),
    (
        Fault(302, {"location": "https://elsewhere.example.com/"}),
        "the forge sends elsewhere (302), which is not followed",
        None,
    ),
]


@EACH
@pytest.mark.parametrize(("fault", "message", "after_s"), BUSY, ids=lambda it: str(it)[:40])
def test_trouble_says_when_to_come_back(
    standing: ForgeStandIn, fault: Fault, message: str, after_s: float | None
) -> None:
    """It is the whole forge's, and holds nothing of what was answered."""
    standing.faults.append(Fault(fault.status, fault.headers, fault.body))

    @aio
    async def check() -> None:
        async with speaking(standing) as forge:
            with pytest.raises(Retry) as failed:
                await forge.set_status(tip(standing), Said("a", State.SUCCESS, "", ""))
        error = failed.value
        assert (error.message, error.everything, error.after_s) == (message, True, after_s)
        assert (error.longest_s < 60) is (fault.status == 401)

    check()


@EACH
def test_what_the_forge_does_not_know_or_take_is_this_ones_trouble(
    standing: ForgeStandIn, kind: Kind
) -> None:
    """Other statuses go on; a description that is refused will not be taken later either."""

    @aio
    async def check() -> None:
        async with speaking(standing) as forge:
            wanted = Retry if kind is Kind.GITLAB else Undeliverable
            with pytest.raises(wanted) as failed:
                await forge.set_status("0" * 40, Said("a", State.SUCCESS, "", ""))
            assert getattr(failed.value, "everything", False) is False
            standing.faults.append(Fault(403))
            with pytest.raises(Retry, match="refuses it to this token") as failed:
                await forge.set_status(tip(standing), Said("a", State.SUCCESS, "", ""))
            assert failed.value.everything is False
            standing.faults.append(Fault(400))
            with pytest.raises(Undeliverable):
                await forge.set_status(tip(standing), Said("a", State.SUCCESS, "", ""))

    check()


def test_a_slow_forge_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call has an end."""
    monkeypatch.setattr("mergescale.gitops.forges.calls.CALL_S", 0.2)
    with ForgeStandIn(tmp_path / "forge") as standing:
        standing.commit({"a": "b"})
        standing.faults.append(Fault(200, slow_s=1.0))

        @aio
        async def check() -> None:
            async with speaking(standing) as forge:
                with pytest.raises(Retry, match="could not be reached"):
                    await forge.open_pulls("main")

        check()


def test_an_answer_without_an_end_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor kept in memory."""
    monkeypatch.setattr("mergescale.gitops.forges.calls.MAX_ANSWER_BYTES", 1000)
    with ForgeStandIn(tmp_path / "forge") as standing:
        standing.commit({"a": "b"})
        number = standing.open_pull("main")
        standing.chat(number, "x" * 2000)

        @aio
        async def check() -> None:
            async with speaking(standing) as forge:
                with pytest.raises(Retry, match="without an end"):
                    await forge.upsert_comment(number, MARKER, MARKER)

        check()


@EACH
def test_an_answer_that_makes_no_sense_breaks_nothing(standing: ForgeStandIn) -> None:
    """Entries of lists that are none are left out; no list at all is tried again."""

    @aio
    async def check() -> None:
        async with speaking(standing) as forge:
            for body in ([{}, {"number": "1", "head": None}, None, 7], [{"iid": -1, "sha": []}]):
                standing.faults.append(Fault(201, body=body))
                assert list(await forge.open_pulls("main")) == []
            standing.faults.append(Fault(201, body={"message": "hello"}))
            with pytest.raises(Retry, match="did not answer as"):
                await forge.open_pulls("main")

    check()


# -------------------------------------------------------------------- GitHub Apps


def pem() -> str:
    key = generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def test_an_app_annotates_lines_fifty_at_a_time(tmp_path: Path) -> None:
    """With a token of its installation, made once; a person's token annotates nothing."""
    notes = [Note("policy.hujson", n, n, n == 1, f"wrong {n}") for n in range(1, 121)]
    app = {"kind": "github-app", "appId": 7, "installationId": 8, "privateKey": pem()}
    with ForgeStandIn(tmp_path / "forge", installation=True) as standing:
        head = standing.commit({"policy.hujson": "{}"})

        @aio
        async def check() -> None:
            async with speaking(standing) as forge:
                await forge.annotate(head, "mergescale/problems", notes)
            assert standing.requests == []
            async with speaking(standing, app) as forge:
                await forge.annotate(head, "mergescale/problems", notes)
                await forge.set_status(head, Said("a", State.FAILURE, "", ""))
                await forge.annotate(head, "mergescale/problems", [])

        check()
        assert [one["start_line"] for one in standing.annotations(head)] == list(range(1, 121))
        assert standing.annotations(head)[0] == {
            "path": "policy.hujson",
            "start_line": 1,
            "end_line": 1,
            "annotation_level": "failure",
            "message": "wrong 1",
        }
        made = standing.asked("/app/installations/8/access_tokens")
        assert [one.body["repositories"] for one in made] == [["policy"]]
        # The newest of a name counts: what is good by now is no longer shown as failed.
        assert [one["conclusion"] for one in standing.runs.values()] == ["failure", "neutral"]


# -------------------------------------------------------------------- tokens


@aio
async def test_a_token_is_only_for_the_address_it_was_given_for() -> None:
    """Another address finds none, and the vault forgets it; nobody is asked without one."""
    vault = MemoryVault()
    await vault.put(
        FORGE, "https://one.example.com", given({"kind": "token", "token": "t"}, Kind.GITHUB)
    )
    forge = forge_of(ForgePlace(Kind.GITHUB, "https://two.example.com", "a/b"), vault, FakeClock())
    with pytest.raises(Retry, match="there is no token of the forge") as failed:
        await forge.open_pulls("main")
    assert failed.value.longest_s <= 5, "somebody is about to set one"
    assert vault.kept == {}


@pytest.mark.parametrize(
    "words",
    [
        {},
        [],
        {"kind": "token"},
        {"kind": "token", "token": ""},
        {"kind": "token", "token": "CANARY\r\nx-evil: 1"},
        {"kind": "token", "token": "CANARY " * 2},
        {"kind": "token", "token": "CANARY" * 1000},
        {"kind": "token", "token": "CANARY", "CANARY": 1},
        {"kind": "CANARY", "token": "x"},
        {"kind": "github-app", "appId": 1, "installationId": 2, "privateKey": "CANARY"},
        {"kind": "github-app", "appId": 0, "installationId": 2, "privateKey": "CANARY"},
    ],
)
def test_what_opens_nothing_is_refused_without_repeating_it(words: object) -> None:
    """Whatever somebody pasted, no error says it."""
    with pytest.raises(Invalid) as refused:
        given(words, Kind.GITHUB)
    assert "CANARY" not in refused.value.message + refused.value.help
    if isinstance(words, dict) and "appId" in words:
        with pytest.raises(Invalid):
            given({**words, "appId": 1, "privateKey": pem()}, Kind.GITLAB)


# -------------------------------------------------------------------- places

PLACES = [
    ("https://github.com/team/policy.git", "github", "https://api.github.com", "team/policy"),
    ("git@github.com:team/policy.git", "github", "https://api.github.com", "team/policy"),
    ("ssh://git@ghe.example.com:2222/team/policy", "github", "https://ghe.example.com/api/v3", "team/policy"),
    ("https://ghe.example.com:8443/team/policy", "github", "https://ghe.example.com:8443/api/v3", "team/policy"),
    ("https://corp.ghe.com/team/policy", "github", "https://api.corp.ghe.com", "team/policy"),
    ("https://gitlab.com/a/b/c/policy.git", "gitlab", "https://gitlab.com/api/v4", "a/b/c/policy"),
    ("git@gitlab.example.com:a/policy.git", "gitlab", "https://gitlab.example.com/api/v4", "a/policy"),
    ("https://git.example.com/team/policy/", "gitea", "https://git.example.com/api/v1", "team/policy"),
    ("ssh://git@codeberg.org/team/policy.git", "forgejo", "https://codeberg.org/api/v1", "team/policy"),
]  # fmt: skip


@pytest.mark.parametrize(("url", "kind", "api", "project"), PLACES)
def test_the_api_and_the_project_follow_from_the_repository(
    url: str, kind: str, api: str, project: str
) -> None:
    """Whoever watches a repository of a forge has to say which kind it is, and nothing else."""
    place = ForgePlace.parse(Kind(kind), Source.parse(url), loopback=False)
    assert (place.api_url, place.project) == (api, project)


@pytest.mark.parametrize(
    ("api_url", "project"),
    [
        ("http://git.example.com/api/v3", "a/b"),
        ("http://127.0.0.1/api/v3", "a/b"),
        ("https://user:secret@git.example.com", "a/b"),
        ("https://git.example.com/?a=b", "a/b"),
        ("ftp://git.example.com", "a/b"),
        ("git.example.com", "a/b"),
        ("https://git.example.com", "a"),
        ("https://git.example.com", "a/../b"),
        ("https://git.example.com", "a/b/c"),
        ("https://git.example.com", "a/.."),
        ("https://git.example.com", "a/b?c"),
        ("https://git.example.com", "-a/b c"),
        ("", ""),
    ],
)
def test_odd_places_are_refused(api_url: str, project: str) -> None:
    """Tokens go over https, to a host that is named, for a project that is a name."""
    source = Source.parse("/srv/policy.git")
    with pytest.raises(Invalid) as refused:
        ForgePlace.parse(Kind.GITHUB, source, api_url=api_url, project=project, loopback=False)
    assert "secret" not in refused.value.message


def test_http_is_for_this_machine_and_only_if_somebody_says_so() -> None:
    """For tests and demonstrations."""
    source = Source.parse("/srv/policy.git")
    place = ForgePlace.parse(
        Kind.GITEA, source, api_url="http://127.0.0.1:3000/api/v1/", project="a/b", loopback=True
    )
    assert place.api_url == "http://127.0.0.1:3000/api/v1"
    with pytest.raises(Invalid):
        ForgePlace.parse(
            Kind.GITEA, source, api_url="http://10.0.0.1/api/v1", project="a/b", loopback=True
        )


@aio
async def test_calls_at_once_share_a_client() -> None:
    """And what is closed can be used again."""
    vault = MemoryVault()
    place = ForgePlace(Kind.GITHUB, "http://127.0.0.1:1", "a/b")
    await vault.put(FORGE, place.api_url, given({"kind": "token", "token": "t"}, Kind.GITHUB))
    forge = forge_of(place, vault, FakeClock())
    for _ in range(2):
        told = await asyncio.gather(
            *(forge.open_pulls("main") for _ in range(3)), return_exceptions=True
        )
        assert [str(one) for one in told] == ["the forge could not be reached"] * 3
        await forge.close()

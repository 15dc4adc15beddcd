from __future__ import annotations

import asyncio
import base64
from hashlib import sha256
from typing import Any

import pytest
from httpx import Response

from mergescale.domain.declaration import Deployment, fingerprint
from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import TailnetName
from mergescale.policy import hujson
from mergescale.policy.policyfile import UNSET
from mergescale.policy.repository import declare
from support.aio import aio
from support.clock import START
from support.rest import MemoryRepository, Site, bearer, client, served
from support.worlds import step, world

ACL = "/api/v2/tailnet/-/acl"
HUJSON = {"accept": "application/hujson"}
JSON = {"accept": "application/json"}
PEOPLE = "alice@example.com: laptop; bob@example.com: desk; tag:web: web1"
COMMIT = "a" * 40

#: Not laid out, so that its hash tells whether it was.
POLICY = """// who may what
{"tagOwners": {"tag:web": []},
  "acls": [{"action": "accept", "src": ["alice@example.com"], "dst": ["tag:web:22"]},],
  "tests": [{"src": "alice@example.com", "accept": ["tag:web:22"]}]}
"""
FAILING = POLICY.replace('"accept": ["tag:web:22"]', '"accept": ["tag:web:22", "tag:web:80"]')


def etag(text: str) -> str:
    return f'"{sha256(hujson.format(text).encode()).hexdigest()}"'


def following(files: dict[str, str], people: str = PEOPLE) -> Snapshot:
    """Return a tailnet with a commit in force."""
    declaration, said = declare(files)
    assert declaration is not None, said
    deployment = Deployment(COMMIT, files, "first", "ana", START, START, declaration)
    return step(world(people), [Put(deployment)])


class Followed(MemoryRepository):
    """A watched repository."""

    def status(self) -> dict[str, Any]:
        return {"repository": "https://git.example.com/net/policy"}

    async def sync(self, *, retry: bool = False) -> None:
        raise AssertionError("nobody asked for it")


async def put(site: Site, text: str, **headers: str) -> Response:
    """Send a policy as gitops-pusher does."""
    how = {
        "content-type": "application/hujson",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    return await site.operator.post(ACL, content=text, headers=how)


@aio
async def test_the_policy_in_force_is_shown_with_the_hash_of_its_layout() -> None:
    """HuJSON is the text as committed, JSON is it without comments; both have one tag."""
    async with served(following({"policy.hujson": POLICY})) as site:
        for accept in (
            HUJSON,
            {"accept": "*/*"},
            {"accept": "application/json, application/hujson"},
        ):
            shown = await site.operator.get(ACL, headers=accept)
            assert (shown.status_code, shown.text) == (200, POLICY)
            assert shown.headers["content-type"] == "application/hujson"
            assert shown.headers["etag"] == etag(POLICY)
        plain = await site.operator.get(ACL, headers=JSON)
        assert plain.headers["content-type"] == "application/json"
        assert plain.headers["etag"] == etag(POLICY)
        assert list(plain.json()) == ["tagOwners", "acls", "tests"]


@aio
async def test_details_come_with_warnings() -> None:
    """The text is in base64, as Go's client decodes it; warnings have their places."""
    text = '{\n"acls": [], "groups": {"group:none": []}}'
    files = {"policy.hujson": text}
    async with served(following(files)) as site:
        shown = await site.operator.get(ACL, params={"details": "1"}, headers=HUJSON)
        assert (shown.status_code, shown.headers["etag"]) == (200, etag(text))
        told = shown.json()
        assert base64.b64decode(told["acl"]).decode() == text
        warned = [one for one in declare(files)[1] if one.severity == "warning"]
        assert [one.partition(": ")[0] for one in told["warnings"]] == [
            f"line {one.span.start_line}, column {one.span.start_column}" for one in warned
        ]
        assert told["errors"] == []


@aio
async def test_a_policy_in_parts_is_shown_joined() -> None:
    """What is shown means what the parts mean, and is one text."""
    files = {
        "policy.hujson": '{"acls": [], "tagOwners": {"tag:a": []}}',
        "policy.d/b.hujson": '{"tagOwners": {"tag:b": []}}',
    }
    async with served(following(files)) as site:
        shown = await site.operator.get(ACL, headers=HUJSON)
        assert hujson.parse(shown.text, "x")[0].plain() == {  # type: ignore[union-attr]
            "acls": [],
            "tagOwners": {"tag:a": [], "tag:b": []},
        }
        assert shown.headers["etag"] == etag(shown.text) == f'"{sha256(shown.content).hexdigest()}"'


@aio
async def test_a_watched_repository_is_where_the_policy_is_changed() -> None:
    """A POST is refused with the repository and the commit in force, and changes nothing."""
    repositories = {TailnetName("default"): Followed()}
    before = following({"policy.hujson": POLICY})
    async with served(before, repositories=repositories) as site:
        answer = await put(site, '{"acls": []}', if_match=etag(POLICY))
        assert (answer.status_code, answer.json()) == (
            409,
            {
                "message": "the policy of this tailnet is in the repository"
                f" https://git.example.com/net/policy, commit {COMMIT} is in force; change it there"
            },
        )
        assert site.snapshot.deployment is before.deployment
    async with served(world(PEOPLE), repositories=repositories) as site:
        answer = await put(site, POLICY)
        assert "none of its commits is in force yet" in answer.json()["message"]


@aio
async def test_a_server_that_was_not_set_up_for_it_takes_no_policy() -> None:
    """Without a repository and without the setting nothing is taken either."""
    async with served(world(PEOPLE)) as site:
        answer = await put(site, POLICY)
        assert (answer.status_code, answer.json()) == (
            409,
            {
                "message": "this server does not take the policy of this tailnet over the API;"
                " set MERGESCALE_REPOSITORY, or MERGESCALE_POLICY_BY_API"
            },
        )
        assert site.snapshot.deployment is None


@aio
async def test_a_policy_set_over_the_api_is_in_force_at_once() -> None:
    """It is kept as a commit is, under the hash of its text, and decides who reaches what."""
    async with served(world(PEOPLE), by_api=True) as site:
        unset = await site.operator.get(ACL, headers=HUJSON)
        assert (unset.text, unset.headers["etag"]) == (UNSET, etag(UNSET))
        answer = await put(site, POLICY, if_match=unset.headers["etag"])
        assert (answer.status_code, answer.text) == (200, POLICY)
        assert answer.headers["etag"] == etag(POLICY)
        deployment = site.snapshot.deployment
        assert deployment is not None
        assert (deployment.commit, deployment.files, deployment.of_api) == (
            fingerprint(POLICY),
            {"policy.hujson": POLICY},
            True,
        )
        assert deployment.author.startswith("token ")
        laptop, web = site.snapshot.names["laptop"], site.snapshot.names["web1"]
        visible = site.snapshot.access.visible(site.snapshot.slot(laptop))
        assert visible >> site.snapshot.slot(web) & 1


@aio
async def test_what_stands_beside_the_policy_stays() -> None:
    """People, tags and settings of an earlier commit are kept; parts of the policy are replaced."""
    files = {
        "policy.hujson": '{"acls": []}',
        "policy.d/b.hujson": '{"tagOwners": {"tag:b": []}}',
        "tailnet.hujson": '{"domain": "example.com"}',
    }
    async with served(following(files), by_api=True) as site:
        assert (await put(site, POLICY)).status_code == 200
        assert site.snapshot.deployment is not None
        assert site.snapshot.deployment.files == {
            "policy.hujson": POLICY,
            "tailnet.hujson": '{"domain": "example.com"}',
        }
        assert site.snapshot.settings.domain == "example.com"


@aio
async def test_if_match_names_what_is_replaced() -> None:
    """A tag of something else is a 412 and changes nothing; `ts-default` is for the first policy."""
    async with served(world(PEOPLE), by_api=True) as site:
        for wrong in ('"' + "0" * 64 + '"', etag(POLICY), ""):
            answer = await put(site, POLICY, if_match=wrong)
            assert (answer.status_code, answer.json()) == (
                412,
                {"message": "precondition failed, invalid old hash"},
            )
        assert site.snapshot.deployment is None
        assert (await put(site, POLICY, if_match='"ts-default"')).status_code == 200
        assert (await put(site, '{"acls": []}', if_match='"ts-default"')).status_code == 412
        assert (await put(site, '{"acls": []}', if_match=f'"x", {etag(POLICY)}')).status_code == 200
        assert (await put(site, POLICY, if_match="*")).status_code == 200
        assert (await put(site, '{"acls": []}')).status_code == 200


@aio
async def test_of_two_that_replace_the_same_policy_one_does() -> None:
    """Both saw the same tag; whoever is second changes nothing, however close they come."""
    async with served(world(PEOPLE), by_api=True) as site:
        texts = [POLICY, '{"acls": []}']
        answers = await asyncio.gather(*(put(site, one, if_match=etag(UNSET)) for one in texts))
        assert sorted(one.status_code for one in answers) == [200, 412]
        won = next(text for text, one in zip(texts, answers, strict=True) if one.status_code == 200)
        assert site.snapshot.deployment is not None
        assert site.snapshot.deployment.files == {"policy.hujson": won}
        lost = next(one for one in answers if one.status_code == 412)
        assert lost.json() == {"message": "another policy came into force meanwhile"}


REFUSED: list[tuple[str, dict[str, Any]]] = [
    (
        FAILING,
        {
            "message": "test(s) failed",
            "data": [
                {
                    "user": "alice@example.com",
                    "errors": [
                        (
                            "test(s) failed: alice@example.com should reach tag:web:80,"
                            " the policy denies it"
                        )
                    ],
                }
            ],
        },
    ),
    (
        '{"acls": [],\n "groops": {}}',
        {
            "message": 'line 2, column 2: policy key "groops" is not known; did you mean "groups"?',
            "data": [
                {
                    "errors": [
                        'line 2, column 2: policy key "groops" is not known; did you mean "groups"?'
                    ]
                }
            ],
        },
    ),
]


@pytest.mark.parametrize(("text", "told"), REFUSED)
@aio
async def test_a_bad_policy_changes_nothing(text: str, told: dict[str, Any]) -> None:
    """A POST is a 400, trying it a 200; both say what gitops-pusher prints."""
    async with served(world(PEOPLE), by_api=True) as site:
        answer = await put(site, text)
        assert (answer.status_code, answer.json()) == (400, told)
        assert site.snapshot.deployment is None
        tried = await site.operator.post(f"{ACL}/validate", content=text)
        assert (tried.status_code, tried.json()) == (200, told)


@aio
async def test_no_text_is_no_policy() -> None:
    """An empty body and one that is no text are refused, and never widen anything."""
    async with served(world(PEOPLE), by_api=True) as site:
        assert (await put(site, "")).status_code == 400
        broken = await site.operator.post(ACL, content=b"\xff")
        assert (broken.status_code, broken.json()) == (
            400,
            {"message": "the body cannot be read: it is not UTF-8"},
        )
        large = await site.operator.post(ACL, content=b" " * (hujson.MAX_TEXT_BYTES + 2000))
        assert large.status_code == 413
        assert site.snapshot.deployment is None


@aio
async def test_a_good_policy_is_told_with_nothing() -> None:
    """gitops-pusher sends JSON and calls it HuJSON; nothing comes into force by it."""
    repositories = {TailnetName("default"): Followed()}
    async with served(world(PEOPLE), repositories=repositories) as site:
        for text in (POLICY, hujson.standardize(POLICY)):
            tried = await site.operator.post(
                f"{ACL}/validate", content=text, headers={"content-type": "application/hujson"}
            )
            assert (tried.status_code, tried.json()) == (200, {})
        assert site.snapshot.deployment is None


@aio
async def test_a_list_of_tests_is_run_on_the_policy_in_force() -> None:
    """As Go's client asks whether one reaches another; old spellings count."""
    async with served(
        following(
            {"policy.hujson": FAILING.replace("tests", "sshTests", 0).replace(', "tag:web:80"', "")}
        )
    ) as site:

        async def asked(*tests: dict[str, Any]) -> Any:
            answer = await site.operator.post(f"{ACL}/validate", json=list(tests))
            assert answer.status_code == 200
            return answer.json()

        assert await asked({"user": "alice@example.com", "allow": ["tag:web:22"]}) == {}
        assert await asked({"src": "bob@example.com", "deny": ["tag:web:22"]}) == {}
        assert await asked() == {}
        assert await asked(
            {"src": "bob@example.com", "accept": ["tag:web:22"]},
            {"src": "alice@example.com", "deny": ["tag:web:22"], "accept": ["tag:web:80"]},
        ) == {
            "message": "test(s) failed",
            "data": [
                {
                    "user": "bob@example.com",
                    "errors": [
                        (
                            "test(s) failed: bob@example.com should reach tag:web:22,"
                            " the policy denies it"
                        )
                    ],
                },
                {
                    "user": "alice@example.com",
                    "errors": [
                        (
                            "test(s) failed: alice@example.com should not reach tag:web:22,"
                            " the policy admits it"
                        ),
                        (
                            "test(s) failed: alice@example.com should reach tag:web:80,"
                            " the policy denies it"
                        ),
                    ],
                },
            ],
        }
        wrong = await asked({"src": "tag:nobody", "accept": ["tag:web:22"]})
        assert wrong["message"].startswith('test(s) failed: tag not found: "tag:nobody"')


RULES = """{
	"groups": {"group:ops": ["alice@example.com"]},
	"tagOwners": {"tag:web": []},
	"acls": [
		{"action": "accept", "src": ["group:ops"], "dst": ["tag:web:22,80-90"]},
		{"action": "accept", "src": ["*"], "dst": ["192.0.2.0/24:443"]},
	],
	"grants": [
		{"src": ["bob@example.com"], "dst": ["tag:web"], "ip": ["tcp:80", "icmp:*"]},
		{"src": ["autogroup:member"], "dst": ["autogroup:self"], "ip": ["*"]},
		{"src": ["*"], "dst": ["tag:web"], "app": {"example.com/cap/x": [{}]}},
	],
}
"""


@pytest.mark.parametrize(
    ("kind", "subject", "lines"),
    [
        ("user", "alice@example.com", [5, 6, 10]),
        ("user", "Bob@example.com", [6, 9, 10]),
        ("user", "stranger@example.org", [6, 10]),
        ("ipport", "192.0.2.7:443", [6]),
        ("ipport", "192.0.2.7:444", []),
        ("ipport", "web1:80", [5, 9]),
        ("ipport", "web1:22", [5]),
        ("ipport", "laptop:22", [10]),
        ("ipport", "203.0.113.1:443", []),
    ],
)
@aio
async def test_the_rules_that_concern_somebody_are_shown(
    kind: str, subject: str, lines: list[int]
) -> None:
    """By who asks or by where it leads, of a policy that is only sent; capabilities are no way in."""
    async with served(world(PEOPLE)) as site:
        name, _, port = subject.rpartition(":")
        if name in site.snapshot.names:
            node = site.snapshot.nodes[site.snapshot.names[name]]
            subject = f"[{node.ipv6}]:{port}" if port == "22" else f"{node.ipv4}:{port}"
        answer = await site.operator.post(
            f"{ACL}/preview", params={"type": kind, "previewFor": subject}, content=RULES
        )
        told = answer.json()
        assert (answer.status_code, told["type"], told["previewFor"]) == (200, kind, subject)
        assert [one["lineNumber"] for one in told["matches"]] == lines


@aio
async def test_a_previewed_rule_is_told_as_it_is_written() -> None:
    """Sources and destinations are the file's words."""
    async with served(world(PEOPLE)) as site:
        asked = {"type": "user", "previewFor": "bob@example.com"}
        answer = await site.operator.post(f"{ACL}/preview", params=asked, content=RULES)
        assert answer.json()["matches"][1] == {
            "users": ["bob@example.com"],
            "ports": ["tag:web:tcp:80", "tag:web:icmp:*"],
            "lineNumber": 9,
            "via": [],
            "postures": [],
        }


@pytest.mark.parametrize(
    "subject", ["", "laptop:22", "192.0.2.1", "192.0.2.1:x", "1:2:3", ":" + "9" * 5000]
)
@aio
async def test_what_is_no_address_and_port_is_told(subject: str) -> None:
    async with served(world(PEOPLE)) as site:
        asked = {"type": "ipport", "previewFor": subject}
        answer = await site.operator.post(f"{ACL}/preview", params=asked, content=RULES)
        assert (answer.status_code, answer.json()) == (
            400,
            {"message": 'previewFor is not an address and a port; write "100.64.0.1:22"'},
        )


@aio
async def test_a_tailnet_is_shown_its_own_policy_only() -> None:
    """A token of another tailnet neither sees nor sets this one's."""
    two = world("carol@example.com: ", tailnet="two")
    async with served(following({"policy.hujson": POLICY}), two, by_api=True) as site:
        carol = client(site.app, headers=bearer(site.tokens["two"]))
        assert (await carol.get(ACL, headers=HUJSON)).text == UNSET
        for method in ("GET", "POST"):
            other = "/api/v2/tailnet/default/acl"
            assert (await carol.request(method, other, content=POLICY)).status_code == 404
        assert (await site.anybody.get(ACL)).status_code == 401

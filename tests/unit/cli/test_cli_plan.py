"""``mergescale policy plan``: what a pull request will do, from two commits and an inventory."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from mergescale.cli.plan import _FORMS, BLAST_PERCENT, REDACTIONS
from mergescale.plan.gates import Limits
from mergescale.plan.redaction import Redaction
from mergescale.plan.rendering import FORMS
from support.command_line import CommandLine, Ended

INVENTORY: dict[str, Any] = {
    "domain": "example.com",
    "users": [{"login_name": "ana@example.com"}, {"login_name": "ben@example.com"}],
    "nodes": [
        {
            "name": "laptop",
            "ipv4": "100.64.0.1",
            "ipv6": "fd7a:115c:a1e0::1",
            "user": "ana@example.com",
        },
        {
            "name": "desk",
            "ipv4": "100.64.0.2",
            "ipv6": "fd7a:115c:a1e0::2",
            "user": "ben@example.com",
        },
        {"name": "web", "ipv4": "100.64.0.3", "ipv6": "fd7a:115c:a1e0::3", "tags": ["tag:web"]},
    ],
}
POLICY: dict[str, Any] = {
    "groups": {"group:dev": ["ana@example.com"]},
    "tagOwners": {"tag:web": ["group:dev"]},
    "grants": [{"src": ["group:dev"], "dst": ["tag:web"], "ip": ["tcp:443"]}],
    "tests": [{"src": "ana@example.com", "accept": ["tag:web:443"]}],
}


class Checkout:
    """A work tree with a branch ``main`` and one on top of it that is checked out."""

    def __init__(self, path: Path, folder: str = "") -> None:
        self.path = path
        self.folder = folder
        (path / folder).mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main")
        self.commit(POLICY)
        self.git("checkout", "-q", "-b", "change")
        self.inventory.write_text(json.dumps(INVENTORY))

    @property
    def inventory(self) -> Path:
        return self.path.parent / "inventory.json"

    def git(self, *words: str) -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.path),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Ana",
            "GIT_AUTHOR_EMAIL": "ana@example.com",
            "GIT_COMMITTER_NAME": "Ana",
            "GIT_COMMITTER_EMAIL": "ana@example.com",
        }
        done = subprocess.run(
            ["git", *words], cwd=self.path, env=environment, capture_output=True, check=True
        )
        return done.stdout.decode()

    def commit(self, policy: dict[str, Any] | str, name: str = "policy.hujson") -> None:
        text = policy if isinstance(policy, str) else json.dumps(policy, indent=1)
        (self.path / self.folder / name).write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "change")

    def plan(self, *options: str) -> Ended:
        place = ("--repo", str(self.path), "--inventory", str(self.inventory))
        return CommandLine()("policy", "plan", *place, *options)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "repo")


def test_a_redefined_group_is_an_effect(checkout: Checkout) -> None:
    """What a name stands for counts, not the rule that names it; exit code 2."""
    checkout.commit({**POLICY, "groups": {"group:dev": ["ana@example.com", "ben@example.com"]}})
    done = checkout.plan()

    assert done.code == 2
    assert done.out.splitlines()[:4] == [
        "verdict: widening; 1 of 6 pairs of devices change (16.7%), 2 devices are told",
        "",
        "gains:",
        "  + ben@example.com -> tag:web : tcp:443",
    ]


def test_a_comment_has_no_effect(checkout: Checkout) -> None:
    """Neither has another order, nor another name for the same thing; exit code 0."""
    renamed = json.dumps(POLICY).replace("group:dev", "group:developers")
    checkout.commit("// better names\n" + renamed)
    done = checkout.plan("--format", "json")

    plan = json.loads(done.out)
    assert done.code == 0
    assert (plan["version"], plan["verdict"], plan["nodes"]) == (1, "no effect", [])
    assert plan["identity"]["groups"] == [
        "group:dev: ana@example.com -> none",
        "group:developers: none -> ana@example.com",
    ]


def test_a_test_that_fails_is_told_with_the_plan(checkout: Checkout) -> None:
    """Exit code 3, and the place of the expectation."""
    checkout.commit({**POLICY, "grants": []})
    done = checkout.plan("--format", "json")

    plan = json.loads(done.out)
    assert done.code == 3
    assert plan["verdict"] == "narrowing"
    assert plan["tests"]["newly_failing"] == plan["tests"]["failing"]
    assert "ana@example.com should reach tag:web:443" in plan["tests"]["failing"][0]


def test_what_the_base_got_meanwhile_is_no_part_of_the_change(checkout: Checkout) -> None:
    """The merge of both is compared with the base."""
    checkout.commit('{"grants": []}', "policy.d.md")
    checkout.commit({"magicDNSSuffix": "corp.example.com"}, "tailnet.hujson")
    checkout.git("checkout", "-q", "main")
    checkout.commit({**POLICY, "grants": [], "tests": []})
    done = checkout.plan("--head", "change", "--format", "json")

    plan = json.loads(done.out)
    assert (plan["verdict"], plan["gained"], plan["lost"]) == ("mixed", [], [])
    assert plan["identity"]["settings"] == ["settings.magic_dns_suffix: none -> corp.example.com"]


def test_nothing_is_written_into_the_repository(checkout: Checkout) -> None:
    """Not even the objects of the trial merge."""
    checkout.commit({**POLICY, "grants": []})
    checkout.git("checkout", "-q", "main")
    checkout.commit("{}", "other.json")
    before = checkout.git("count-objects", "-v")
    assert checkout.plan("--head", "change").code == 3

    assert checkout.git("count-objects", "-v") == before
    assert checkout.git("status", "--porcelain") == ""


def test_a_policy_in_a_folder(tmp_path: Path) -> None:
    """`--folder` is what the server watches."""
    checkout = Checkout(tmp_path / "repo", "net")
    other = [{"src": ["group:dev"], "dst": ["tag:web"], "ip": ["tcp:80"]}]
    checkout.commit({**POLICY, "tests": [], "grants": other})

    assert checkout.plan("--folder", "net").code == 2
    notes = checkout.plan("--folder", "./net/", "--format", "github").out.splitlines()
    assert notes[-1].startswith("::warning file=net/policy.hujson,line=1,")
    assert notes[-2].startswith("::warning file=net/policy.hujson,line=")
    assert "line=1," not in notes[-2]
    checkout.commit("{")
    sarif = json.loads(checkout.plan("--folder", "net", "--format", "sarif").out)
    place = sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "net/policy.hujson"


def test_markdown_is_safe_to_post(checkout: Checkout) -> None:
    """What people wrote stands in code spans, and the marker is first."""
    checkout.commit({**POLICY, "groups": {"group:dev": ["ana@example.com", "ben@example.com"]}})
    lines = checkout.plan("--format", "markdown").out.splitlines()

    assert lines[0] == "<!-- mergescale-plan -->"
    assert "| `ben@example.com` | `tag:web` | `tcp:443` | 1 |" in lines


@pytest.mark.parametrize("form", ["sarif", "junit", "github"])
def test_scanners_and_reports_get_the_rows(checkout: Checkout, form: str) -> None:
    """As notes beside what is wrong; a failing test is an error in each of them."""
    checkout.commit({**POLICY, "groups": {"group:dev": ["ben@example.com"]}})
    done = checkout.plan("--format", form)

    assert done.code == 3
    assert "gains: ben@example.com -&gt; tag:web" in done.out.replace("->", "-&gt;")
    assert "ana@example.com should reach tag:web:443" in done.out
    if form == "sarif":
        results = json.loads(done.out)["runs"][0]["results"]
        assert {one["level"] for one in results} == {"warning", "error"}


def test_changed_rules_without_a_test_and_unknown_names_are_told(checkout: Checkout) -> None:
    """So that a reviewer asks for them."""
    more = {"src": ["eve@example.com"], "dst": ["tag:web"], "ip": ["tcp:80"]}
    checkout.commit({**POLICY, "grants": [*POLICY["grants"], more]})
    plan = json.loads(checkout.plan("--format", "json").out)

    assert (plan["verdict"], plan["gained"]) == ("widening", [])
    assert plan["absent_gained"] == plan["unresolved"] == ["eve@example.com"]
    assert len(plan["tests"]["untested"]) == 1
    assert plan["tests"]["untested"][0].startswith("policy.hujson:")


@pytest.mark.parametrize("form", FORMS)
def test_what_a_gate_refuses_is_told_in_every_form(checkout: Checkout, form: str) -> None:
    """With exit code 4; a failing test comes first."""
    checkout.commit({**POLICY, "tests": [], "grants": []})
    done = checkout.plan("--format", form)
    said = "nobody may send anything to anybody any more (1 pair could)"

    assert done.code == 4
    assert said in done.out
    if form == "json":
        assert json.loads(done.out)["gates"] == [
            {"gate": "empty", "message": said, "who": [], "refuses": True},
            {"gate": "tests", "message": "the policy has no tests", "who": [], "refuses": False},
        ]
    checkout.commit({**POLICY, "grants": []})
    assert checkout.plan("--format", form).code == 3


@pytest.mark.parametrize("form", FORMS)
def test_no_form_tells_more_than_is_allowed(checkout: Checkout, form: str) -> None:
    """`counts` has no name of anybody or anything, `names` no address; both have the figures."""
    grants = [{"src": ["ben@example.com", "100.64.0.1"], "dst": ["tag:web"], "ip": ["tcp:22"]}]
    groups = {"group:dev": ["ben@example.com"]}
    checkout.commit({**POLICY, "groups": groups, "grants": grants})
    addresses = ("100.64", "fd7a:")
    names = ("ana", "ben@", "laptop", "desk", "group:dev", "tag:web", "example.com")
    full, named, counted = (
        checkout.plan("--format", form, "--redact", level) for level in ("full", "names", "counts")
    )

    assert full.code == named.code == counted.code == 3
    assert all(one in full.out for one in ("ben@", "tag:web"))
    assert "tag:web" in named.out
    assert not [one for one in addresses if one in named.out]
    assert not [one for one in (*addresses, *names) if one in counted.out]
    assert "tcp:22" in counted.out or form == "junit"


@pytest.mark.parametrize("level", REDACTIONS)
def test_the_json_is_what_the_published_schema_says(checkout: Checkout, level: str) -> None:
    """Whatever is left out of it; a member that nobody described is in no plan."""
    schema = json.loads((Path(__file__).parents[3] / "schemas" / "plan.schema.json").read_text())
    ssh = [{"action": "check", "src": ["group:dev"], "dst": ["tag:web"], "users": ["root"]}]
    grants = [{"src": ["ben@example.com"], "dst": ["tag:web"], "ip": ["tcp:22"]}]
    checkout.commit({**POLICY, "groups": {"group:dev": []}, "grants": grants, "ssh": ssh})
    plan = json.loads(checkout.plan("--format", "json", "--redact", level).out)

    Draft202012Validator(schema).validate(plan)
    assert plan.keys() == schema["properties"].keys()
    with pytest.raises(ValidationError):
        Draft202012Validator(schema).validate({**plan, "version": 2})


def test_the_options_have_the_defaults_of_the_gates() -> None:
    """They are written twice, so that the command line starts quickly."""
    assert (*Redaction,) == REDACTIONS
    assert FORMS == _FORMS
    assert Limits().blast_percent == BLAST_PERCENT


def test_what_telling_the_devices_costs(checkout: Checkout) -> None:
    """Every device of an inventory counts as connected."""
    checkout.commit({**POLICY, "groups": {"group:dev": ["ana@example.com", "ben@example.com"]}})
    told = json.loads(checkout.plan("--format", "json").out)["delivery"]

    assert (told["nodes"], told["online"], told["messages"]) == (2, 2, 2)
    assert 600 < told["bytes"] < 2000
    assert told["seconds"] == 0.15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--head", "nowhere"), '"nowhere" is no commit of the repository'),
        (("--head=--output=x",), '"--output=x" is no commit of the repository'),
        (("--folder", "none"), 'none of "main": the watched folder is not in this commit'),
        (("--folder", "../x"), '"../x" is not within the repository'),
    ],
)
def test_what_cannot_be_compared_says_why(
    checkout: Checkout, options: tuple[str, ...], message: str
) -> None:
    """Exit code 1 and one line."""
    done = checkout.plan(*options)

    assert done.code == 1
    assert message in done.err


def test_conflicts_and_refused_policies_are_errors(checkout: Checkout) -> None:
    """A plan of something that cannot come into force would be a lie."""
    checkout.commit('{"acls": [{}]}')
    refused = checkout.plan()
    assert refused.code == 1
    assert "the policy of the head is refused" in refused.err
    assert "policy.hujson:1:" in refused.out

    checkout.git("checkout", "-q", "main")
    checkout.commit('{"acls": []}')
    conflict = checkout.plan("--head", "change")
    assert conflict.code == 1
    assert 'they conflict in "policy.hujson"' in conflict.err


@pytest.mark.parametrize("form", FORMS)
def test_a_refused_policy_is_told_in_every_form(checkout: Checkout, form: str) -> None:
    """With its place, so that whoever reads the file that was asked for can; nothing else in it."""
    checkout.commit('{"acls": [],\n "groops": {"group:secret": ["ana@example.com"]}}')
    done = checkout.plan("--format", form)
    counted = checkout.plan("--format", form, "--redact", "counts")

    assert (done.code, counted.code) == (1, 1)
    assert done.err.startswith("error: the policy of the head is refused")
    assert "groops" in done.out
    assert "groops" not in counted.out
    match form:
        case "json":
            found = json.loads(done.out)
            assert found["message"] == "the policy of the head is refused"
            assert [(one["file"], one["line"]) for one in found["problems"]] == [
                ("policy.hujson", 2)
            ]
        case "sarif":
            (one,) = json.loads(done.out)["runs"][0]["results"]
            assert one["locations"][0]["physicalLocation"]["region"]["startLine"] == 2
        case "gitlab":
            assert json.loads(done.out)[0]["location"]["lines"]["begin"] == 2
        case "github":
            assert done.out.startswith("::error file=policy.hujson,line=2,")
        case "junit":
            assert 'failures="1"' in done.out
        case "markdown":
            assert done.out.startswith("<!-- mergescale-plan -->\n### No plan\n")
        case _:
            assert done.out.startswith("policy.hujson:2:")


def test_a_base_that_is_no_policy_says_what_to_compare_with(checkout: Checkout) -> None:
    """A commit that broke the branch is not in force."""
    checkout.git("checkout", "-q", "main")
    checkout.commit("{")
    broken = checkout.plan("--head", "main")

    assert broken.code == 1
    assert "error: the policy of the base is refused" in broken.err
    assert "--base COMMIT" in broken.err


def test_a_first_policy_is_compared_with_nothing(checkout: Checkout) -> None:
    """Until it is merged nobody reaches anything; a repository may have begun without one."""
    checkout.git("rm", "-q", "policy.hujson")
    checkout.commit("{}", "other.json")
    checkout.git("branch", "-q", "before")
    checkout.commit({"acls": []})
    none = checkout.plan("--base", "before", "--head", "HEAD")
    checkout.commit(POLICY)
    first = checkout.plan("--base", "before", "--head", "HEAD", "--format", "json")

    assert "verdict: no effect" in none.out
    assert json.loads(first.out)["verdict"] == "widening"
    assert json.loads(first.out)["lost"] == []


@pytest.mark.parametrize("folder", [".", "./", "/", "net/.."])
def test_the_folder_may_be_written_in_many_ways(checkout: Checkout, folder: str) -> None:
    """As long as it is one of the repository."""
    checkout.commit({**POLICY, "grants": [], "tests": []})

    assert checkout.plan("--folder", folder).code == (1 if ".." in folder else 4)


def test_commits_with_nothing_in_common_say_what_is_missing(
    checkout: Checkout, tmp_path: Path
) -> None:
    """Mostly it is the history, which CI leaves out."""
    checkout.commit({**POLICY, "grants": []})
    checkout.git("checkout", "-q", "main")
    checkout.commit("{}", "other.json")
    source = f"file://{checkout.path}"
    checkout.git("clone", "-q", "--depth", "1", "--no-single-branch", source, str(tmp_path / "low"))
    checkout.path = tmp_path / "low"
    shallow = checkout.plan("--base", "origin/main", "--head", "origin/change")

    assert shallow.code == 1
    assert '"origin/change" and "origin/main" have no commit in common' in shallow.err
    assert "git fetch --unshallow" in shallow.err


def test_a_bad_inventory_says_where(checkout: Checkout) -> None:
    """The place in the JSON."""
    checkout.inventory.write_text('{"nodes": [{"name": "x"}]}')
    done = checkout.plan()

    assert done.code == 1
    assert "not an inventory" in done.err
    assert "$.nodes[0]" in done.err


@pytest.mark.parametrize(
    "words",
    [
        ("--bogus",),
        ("--redact", "x"),
        (),
        ("--server", "not a URL"),
        ("--server", "http://[::1]:1"),
    ],
)
def test_what_goes_wrong_looks_like_no_answer(words: tuple[str, ...]) -> None:
    """A wrong option is no effect (2), a token that is not accepted no gate (4): it is all 1."""
    done = CommandLine()("policy", "plan", *words)
    assert (done.code, done.out, done.err.startswith("error: ")) == (1, "", True)

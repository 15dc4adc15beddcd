"""The CI of ``policy_examples/ci``: its very scripts, run by a shell on a change of a policy."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.faults import staff_and_web
from support.replicas import Replica
from support.server_process import Api, PolicyRepository, ServerProcess, serving

pytestmark = pytest.mark.enable_socket

CI = Path(__file__).parents[2] / "policy_examples" / "ci"
yaml: Any = importlib.import_module("yaml")
_INPUT = re.compile(r"\$\{\{ inputs\.([a-z-]+) \}\}")


@dataclass(frozen=True, slots=True)
class Ran:
    """How one step ended.

    Attributes:
        said: what it printed, both streams.
        outputs: of a GitHub step.
        summary: of a GitHub step.
    """

    code: int
    said: str
    outputs: Mapping[str, str]
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Runner:
    """What runs a step: a clone of the policy repository, and a folder of its own."""

    clone: Path
    temp: Path

    def shell(self, script: str, environment: Mapping[str, str]) -> Ran:
        """Run a script as both forges do: bash, ending at the first command that fails."""
        bin_ = self.temp / "bin"
        bin_.mkdir(exist_ok=True)
        for name, text in (
            ("mergescale", f'#!/bin/sh\nexec {sys.executable} -m mergescale "$@"\n'),
            ("python", f'#!/bin/sh\nexec {sys.executable} "$@"\n'),
        ):
            (bin_ / name).write_text(text, "utf-8")
            (bin_ / name).chmod(0o755)
        files = {name: self.temp / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.write_text("", "utf-8")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MERGESCALE_")}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=self.clone,
            env={
                **inherited,
                "PATH": f"{bin_}:{os.environ['PATH']}",
                "RUNNER_TEMP": str(self.temp),
                **{name: str(file) for name, file in files.items()},
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        outputs = dict(
            line.partition("=")[::2] for line in files["GITHUB_OUTPUT"].read_text().splitlines()
        )
        return Ran(done.returncode, done.stdout, outputs, files["GITHUB_STEP_SUMMARY"].read_text())

    def github(self, step: str, base_ref: str = "", **inputs: str) -> Ran:
        """Run one step of the composite action."""
        action = yaml.safe_load((CI / "github" / "action.yml").read_text("utf-8"))
        defaults = {name: one["default"] for name, one in action["inputs"].items()}
        given = {**defaults, **{name.replace("_", "-"): value for name, value in inputs.items()}}
        (found,) = [one for one in action["runs"]["steps"] if one.get("id") == step]
        assert "${{" not in found["run"], "an input in a script can be a command"
        environment = {
            name: _INPUT.sub(lambda match: given[match[1]], value)
            for name, value in found["env"].items()
        }
        assert not any("${{" in value for value in environment.values())
        return self.shell(found["run"], {"GITHUB_BASE_REF": base_ref, **environment})

    def gitlab(self, job: str, **variables: str) -> Ran:
        """Run one job of the template."""
        jobs = yaml.safe_load((CI / "gitlab" / "policy.gitlab-ci.yml").read_text("utf-8"))
        return self.shell("\n".join(jobs[job]["script"]), {**jobs["variables"], **variables})


@dataclass(frozen=True, slots=True)
class World:
    """A server, its repository, and a clone with a change that is proposed."""

    server: ServerProcess
    api: Api
    repository: PolicyRepository
    runner: Runner
    secret: str

    def propose(self, policy: str) -> str:
        """Commit a policy on a branch of the clone; return the commit."""
        clone = PolicyRepository(self.runner.clone)
        clone.git("clean", "--quiet", "--force", "-d")
        clone.git("checkout", "--quiet", "--force", "-B", "proposal", "origin/main")
        return clone.commit("a proposal", policy=policy)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("ci")
    repository = PolicyRepository.from_example(folder / "policy", "01-start-up")
    repository.git("clone", "--quiet", str(repository.folder), str(folder / "clone"))
    server = ServerProcess(folder / "server", repository.folder)
    (folder / "runner").mkdir()
    with serving(server) as api:
        token = (server.state_dir / "admin-token").read_text("utf-8").strip()
        asyncio.run(staff_and_web(Replica(server, token)))
        made = server.cli("-o", "json", "oauth-clients", "create", "--scope", "all:read")
        runner = Runner(folder / "clone", folder / "runner")
        yield World(server, api, repository, runner, json.loads(made.stdout)["key"])


def test_a_bad_policy_is_an_annotation_and_a_failure(world: World) -> None:
    """On GitHub at its line, and in the SARIF log; on GitLab in Code Quality."""
    world.propose(world.repository.read().replace("group:ops", "group:opps", 1))

    github = world.runner.github("check")
    assert github.code == 1
    assert "::error file=policy.hujson,line=" in github.said
    sarif = json.loads(Path(github.outputs["sarif"]).read_text())
    assert [one["level"] for one in sarif["runs"][0]["results"]].count("error") >= 1

    gitlab = world.runner.gitlab("policy:check")
    assert gitlab.code == 1
    found = json.loads((world.runner.clone / "mergescale-quality.json").read_text())
    assert {one["location"]["path"] for one in found} == {"policy.hujson"}


def test_a_failing_test_fails_the_run(world: World) -> None:
    """Annotated, and in the test report."""
    world.propose(
        world.repository.read().replace('"accept": ["tag:web:22"]', '"deny": ["tag:web:22"]')
    )

    github = world.runner.github("test")
    assert (github.code, "::error file=policy.hujson" in github.said) == (3, True)
    assert "<failure" in Path(github.outputs["junit"]).read_text()

    gitlab = world.runner.gitlab("policy:test")
    assert gitlab.code == 3
    assert "<failure" in (world.runner.clone / "mergescale-junit.xml").read_text()


def test_a_good_policy_passes_and_coverage_can_be_asked_for(world: World) -> None:
    """The steps end well; with more coverage asked for than there is they do not."""
    world.propose(world.repository.read())
    assert world.runner.github("check").code == 0
    assert world.runner.github("test").code == 0
    assert world.runner.github("test", min_coverage="100").code == 3
    assert world.runner.gitlab("policy:test", MIN_COVERAGE="100").code == 3


def test_the_plan_says_what_a_change_does(world: World) -> None:
    """In the summary and as outputs on GitHub, in a file on GitLab; an effect is no failure."""
    policy = world.repository.read().replace("tag:web:80", "tag:web:80,443", 1)
    assert policy != world.repository.read()
    world.propose(policy)

    about = {"server": world.server.url, "token": world.secret}
    github = world.runner.github("plan", "main", **about)
    assert (github.code, github.outputs["verdict"]) == (0, "widening"), github.said
    assert json.loads(Path(github.outputs["plan"]).read_text())["verdict"] == "widening"
    assert "tcp:443" in github.summary

    gitlab = world.runner.gitlab(
        "policy:plan",
        MERGESCALE_URL=world.server.url,
        MERGESCALE_OAUTH_SECRET=world.secret,
        CI_MERGE_REQUEST_TARGET_BRANCH_NAME="main",
    )
    assert gitlab.code == 0, gitlab.said
    assert "tcp:443" in (world.runner.clone / "mergescale-plan.md").read_text()
    assert world.secret not in github.said + github.summary + gitlab.said


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        ('{"acls": [], "tests": [{"src": "alice@example.com", "accept": ["tag:web:80"]}]}', 3),
        ('{"acls": []}', 4),
    ],
)
def test_what_must_not_be_merged_is_planned_and_fails_the_run(
    world: World, policy: str, code: int
) -> None:
    """A failing test is 3, a gate is 4; reviewers see the plan all the same."""
    world.propose(policy)
    about = {"server": world.server.url, "token": world.secret}
    github = world.runner.github("plan", "main", **about)
    assert (github.code, "verdict" in github.outputs) == (code, True), github.said
    assert "### Plan" in github.summary
    gitlab = world.runner.gitlab(
        "policy:plan",
        MERGESCALE_URL=world.server.url,
        MERGESCALE_OAUTH_SECRET=world.secret,
        CI_MERGE_REQUEST_TARGET_BRANCH_NAME="main",
    )
    assert (gitlab.code, "### Plan" in gitlab.said) == (code, True), gitlab.said


@pytest.mark.parametrize("path", [".policy", "./.policy/"])
def test_the_policy_may_stand_in_any_folder(world: World, path: str) -> None:
    """Also one that begins with a dot."""
    clone = PolicyRepository(world.runner.clone)
    world.propose(world.repository.read())
    (clone.folder / ".policy").mkdir()
    for file in clone.folder.glob("*.hujson"):
        file.rename(clone.folder / ".policy" / file.name)
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "--message", "move it")
    clone.git("branch", "--force", "moved")

    about = {"server": world.server.url, "token": world.secret, "path": path}
    assert world.runner.github("check", path=path).code == 0
    github = world.runner.github("plan", base="moved", **about)
    assert (github.code, github.outputs["verdict"]) == (0, "no effect"), github.said
    clone.git("push", "--quiet", "origin", "moved")
    gitlab = world.runner.gitlab(
        "policy:plan",
        POLICY=path,
        MERGESCALE_URL=world.server.url,
        MERGESCALE_OAUTH_SECRET=world.secret,
        CI_MERGE_REQUEST_TARGET_BRANCH_NAME="moved",
    )
    assert gitlab.code == 0, gitlab.said
    world.repository.git("branch", "--delete", "--force", "moved")


def test_strangers_get_no_secrets_and_no_rights() -> None:
    """No run of a pull request has more than it needs; actions are pinned or the forge's own."""
    workflow = yaml.safe_load((CI / "github" / "workflow.yml").read_text("utf-8"))
    action = yaml.safe_load((CI / "github" / "action.yml").read_text("utf-8"))
    # YAML reads the key `on` as true.
    assert set(workflow[True]) == {"pull_request", "push"}
    assert workflow["permissions"] == {}
    assert {name: job.get("permissions") for name, job in workflow["jobs"].items()} == {
        "policy": {"contents": "read", "security-events": "write"},
        "delivered": None,
    }
    steps = [
        *action["runs"]["steps"],
        *(s for job in workflow["jobs"].values() for s in job["steps"]),
    ]
    used = [step["uses"] for step in steps if "uses" in step]
    pinned = re.compile(r"\./|github/|[a-z-]+/[a-z-]+@[0-9a-f]{40}$")
    assert [one for one in used if not pinned.match(one)] == []

    jobs = yaml.safe_load((CI / "gitlab" / "policy.gitlab-ci.yml").read_text("utf-8"))
    fork = "$CI_MERGE_REQUEST_SOURCE_PROJECT_ID != $CI_MERGE_REQUEST_PROJECT_ID"
    assert jobs["policy:plan"]["rules"][0] == {"if": fork, "when": "never"}
    assert jobs["policy:plan"]["variables"] == {"GIT_DEPTH": "0"}


def test_nothing_is_planned_without_a_secret_or_a_pull_request(world: World) -> None:
    """A fork's run has none: it says so and ends well; the rest was checked all the same."""
    world.propose(world.repository.read())
    fork = world.runner.github("plan", "main", server=world.server.url)
    push = world.runner.github("plan", server=world.server.url, token=world.secret)
    assert (fork.code, push.code) == (0, 0)
    assert "no token" in fork.said
    assert "no pull request" in push.said
    assert dict(fork.outputs) == dict(push.outputs) == {}


def test_a_plan_that_cannot_be_made_fails_the_run(world: World) -> None:
    """A wrong token is no reason to be green."""
    world.propose(world.repository.read())
    wrong = world.runner.github("plan", "main", server=world.server.url, token="mskey-client-a-b")
    assert wrong.code == 1
    assert "plan" not in wrong.outputs


def test_what_is_merged_is_waited_for(world: World) -> None:
    """The job ends well once the commit is in force and every connected client has it."""
    commit = world.repository.commit("a comment", policy=world.repository.read() + "// more\n")
    done = world.runner.gitlab(
        "policy:delivered",
        MERGESCALE_URL=world.server.url,
        MERGESCALE_OAUTH_SECRET=world.secret,
        CI_COMMIT_SHA=commit,
    )
    assert done.code == 0, done.said
    workflow = yaml.safe_load((CI / "github" / "workflow.yml").read_text("utf-8"))
    wait = workflow["jobs"]["delivered"]["steps"][-1]["run"]
    wait = wait.replace("https://mergescale.example.com", world.server.url)
    done = world.runner.shell(wait, {"GITHUB_SHA": commit, "MERGESCALE_TOKEN": world.secret})
    assert done.code == 0, done.said

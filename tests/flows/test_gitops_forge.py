"""From pull request to status: a real server, a real repository, and a forge on loopback."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import httpx
import pytest

from support.forge import SECRET, TOKEN, ForgeStandIn
from support.forge_api import Fault, Kind
from support.real_clients import eventually
from support.server_process import EXAMPLES, Api, ServerProcess, serving

pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(180)]
EXAMPLE = "01-start-up"
CHECKS = ("validate", "test", "plan")


@dataclass(slots=True)
class Place:
    """A forge, and the server that follows its repository."""

    forge: ForgeStandIn
    server: ServerProcess

    def states(self, commit: str) -> dict[str, str]:
        """Return check -> newest state, without the prefix."""
        return {
            name.removeprefix("mergescale/"): told.state
            for name, told in self.forge.statuses(commit).items()
        }

    def says(self, commit: str, **states: str) -> None:
        """Wait until the statuses of a commit are these."""
        eventually(
            f"{commit[:8]} has {states}",
            lambda: states.items() <= self.states(commit).items(),
            within_s=30,
        )

    def plan(self, number: int) -> str:
        """Return the one comment of ours, empty before there is one."""
        found = [one for one in self.forge.comments(number) if one.startswith("<!-- mergescale")]
        assert len(found) <= 1
        return found[0] if found else ""

    def comments(self, number: int, words: str) -> None:
        """Wait until the comment of a pull request holds these words."""
        eventually(f"the comment says {words}", lambda: words in self.plan(number), within_s=30)


@contextlib.contextmanager
def standing(
    tmp_path: Path,
    kind: Kind = Kind.GITHUB,
    *,
    trust: Mapping[str, object] = MappingProxyType({}),
    **settings: object,
) -> Iterator[Place]:
    """Set up a forge with an example's policy, and a server that is not started yet."""
    with ForgeStandIn(tmp_path / "forge", kind) as forge:
        forge.seed(EXAMPLES / EXAMPLE)
        told = {
            "kind": str(kind),
            "api_url": forge.api_url,
            "project": forge.project,
            "loopback_http": True,
            "poll_s": 1,
            "replan_s": 1,
            **settings,
        }
        tailnets = {"default": {"url": str(forge.repository), "forge": told, "trust": dict(trust)}}
        server = ServerProcess(tmp_path / "state", settings={"tailnets": json.dumps(tailnets)})
        try:
            yield Place(forge, server)
        finally:
            server.stop()


def give_token(api: Api) -> None:
    given = api.http.put("/tailnet/-/gitops/forge/token", json={"kind": "token", "token": TOKEN})
    assert given.status_code == 200, given.text


def wider(policy: str) -> str:
    """Let everybody of the start-up reach more of the web server."""
    rule = '{"action": "accept", "src": ["autogroup:member"], "dst": ["tag:web:8081"]},'
    return policy.replace('"acls": [', f'"acls": [\n{rule}', 1)


@pytest.mark.parametrize("kind", [Kind.GITHUB, Kind.GITLAB, Kind.FORGEJO])
def test_a_pull_request_from_its_first_plan_to_its_delivery(tmp_path: Path, kind: Kind) -> None:
    """Statuses and one comment, which follows what is pushed; merged, it is said to be in force."""
    with standing(tmp_path, kind, poll_s=3600) as place, serving(place.server) as api:
        forge = place.forge
        give_token(api)
        secret = api.http.post("/tailnet/-/gitops/webhooks").json()
        forge.deliver_to(secret["url"].replace("localhost", "127.0.0.1"), secret["secret"])
        first = forge.git("rev-parse", "main")
        place.says(first, validate="success", test="success", applied="success")

        head = forge.commit({"policy.hujson": wider(forge.read())}, branch="change")
        number = forge.open_pull("change", title="Let us in")
        place.says(head, validate="success", test="success", plan="success")
        assert forge.hooks[0].answers == [202]
        for check in CHECKS:
            told = forge.history(head, f"mergescale/{check}")
            assert told in (["pending", "success"], ["success"]), told
        place.comments(number, "### Plan")
        (pull,) = api.http.get("/tailnet/-/gitops/pulls").json()["pulls"]
        assert (pull["number"], pull["head"], pull["stale"]) == (number, head, False)
        assert pull["title"] == ("Let us in")

        forge.commit({"policy.hujson": forge.read() + "// a comment\n"}, branch="change")
        head = forge.update(number)
        place.says(head, plan="success")
        place.comments(number, "No effect")

        merged = forge.merge(number)
        place.says(merged, validate="success", test="success", applied="success")
        assert forge.statuses(merged)["mergescale/applied"].description.startswith("Delivered 0/0")
        eventually(
            "no pull request is open",
            lambda: api.http.get("/tailnet/-/gitops/pulls").json() == {"pulls": []},
        )
        assert TOKEN not in place.server.log.read_text()
        assert {one.status for one in forge.requests} <= {200, 201, 400}


def test_what_is_wrong_is_said_with_its_line(tmp_path: Path) -> None:
    """On the branch, where nothing changes, and on a pull request, before anything could."""
    with standing(tmp_path) as place, serving(place.server) as api:
        forge = place.forge
        give_token(api)
        first = forge.git("rev-parse", "main")
        place.says(first, applied="success")
        good = forge.read()
        bad = forge.commit({"policy.hujson": '{\n  "acls": [],\n  "groops": {}\n}'})
        place.says(bad, validate="failure", test="error", applied="failure")
        told = forge.statuses(bad)
        assert told["mergescale/validate"].description.startswith("policy.hujson:3:3: policy")
        assert told["mergescale/applied"].description.startswith("not in force: policy.hujson:3:3")

        forge.commit({"policy.hujson": good}, "mend it", branch="mend")
        fixed = forge.open_pull("mend")
        place.says(forge.pulls[fixed].head, validate="success", plan="success")
        place.comments(fixed, "No effect")

        failing = '"tests": [{"src": "alice@example.com", "accept": ["tag:web:80"]}]'
        text = f'{{"acls": [], {failing}}}'
        head = forge.commit({"policy.hujson": text}, branch="tests")
        number = forge.open_pull("tests")
        place.says(head, validate="success", test="failure", plan="error")
        assert "policy.hujson:1:" in forge.statuses(head)["mergescale/test"].description
        place.comments(number, "Tests of the policy fail")

        head = forge.commit({"policy.hujson": '{"acls": [}'}, branch="syntax")
        number = forge.open_pull("syntax")
        place.says(head, validate="failure", test="error", plan="error")
        place.comments(number, "This is not a policy")
        verdicts = {
            one["number"]: one["verdict"]
            for one in api.http.get("/tailnet/-/gitops/pulls").json()["pulls"]
        }
        assert verdicts == {fixed: "no effect", fixed + 1: "tests fail", number: "invalid"}


def test_zero_tests_are_no_success(tmp_path: Path) -> None:
    """A green mark means that something was looked at; and what conflicts is not looked at.

    What nobody who is listed wrote is planned all the same, with a warning.
    """
    trust = {"authors": ["ana@example.com"]}
    with standing(tmp_path, trust=trust) as place, serving(place.server) as api:
        forge = place.forge
        give_token(api)
        bare = forge.commit({"policy.hujson": '{"acls": []}'}, branch="bare")
        forge.open_pull("bare")
        place.says(bare, validate="success", test="failure", plan="success")
        assert "no tests" in forge.statuses(bare)["mergescale/test"].description
        one = forge.commit({"policy.hujson": f"// one\n{forge.read()}"}, branch="one")
        number = forge.open_pull("one")
        place.says(one, plan="success")
        assert "Not verified" not in place.plan(number)
        eve = forge.git("cat-file", "commit", one).replace("author Ana Example <ana", "author E <e")
        eve = forge.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=f"{eve}\n")
        forge.git("update-ref", "refs/heads/eve", eve)
        place.comments(forge.open_pull("eve"), "**Not verified**: `the author of commit")
        two = forge.commit({"policy.hujson": f"// two\n{forge.read()}"})
        place.says(two, applied="success")
        place.says(one, validate="error", test="error", plan="failure")
        place.comments(number, "It cannot be merged")
        place.comments(number, "- `policy.hujson`")


def test_a_plan_is_made_again_when_the_devices_move(tmp_path: Path) -> None:
    """And of a fork's pull request nothing is planned."""
    with standing(tmp_path) as place, serving(place.server) as api:
        forge = place.forge
        give_token(api)
        head = forge.commit({"policy.hujson": wider(forge.read())}, branch="change")
        number = forge.open_pull("change")
        place.says(head, plan="success")

        def digest() -> str:
            (pull,) = [
                one
                for one in api.http.get("/tailnet/-/gitops/pulls").json()["pulls"]
                if one["number"] == number
            ]
            return "" if pull["stale"] else pull["hash"]

        place.comments(number, "plan ")
        before, said = digest(), place.plan(number)
        made = place.server.cli("users", "create", "newcomer@example.com")
        assert made.returncode == 0, made.stderr
        eventually("it is planned anew", lambda: digest() not in {"", before}, within_s=30)
        eventually("the comment too", lambda: place.plan(number) not in {"", said}, within_s=10)

        theirs = forge.commit({"policy.hujson": wider(forge.read())}, "x", branch="theirs")
        fork = forge.open_pull("theirs", fork=True)
        place.says(theirs, plan="pending")
        told = forge.statuses(theirs)["mergescale/plan"]
        assert told.description == "not planned: it comes from a fork"
        assert forge.comments(fork) == []


def test_a_forge_in_trouble_is_told_later_and_blocks_nothing(tmp_path: Path) -> None:
    """Down, slow, refusing or rate-limiting, across kill -9: commits come into force meanwhile."""
    with standing(tmp_path) as place:
        forge, server = place.forge, place.server
        with serving(server) as api:
            give_token(api)
            first = forge.git("rev-parse", "main")
            place.says(first, applied="success")
            forge.away = True
            second = forge.commit({"policy.hujson": f"// two\n{forge.read()}"})
            _in_force(api, second)
            head = forge.commit({"policy.hujson": wider(forge.read())}, branch="change")
            number = forge.open_pull("change")
            server.stop(signal.SIGKILL)
        with serving(server) as api:
            third = forge.commit({"policy.hujson": f"// three\n{forge.read()}"})
            _in_force(api, third)
            forge.faults += [
                Fault(429, {"retry-after": "1"}),
                Fault(403),
                Fault(500),
                Fault(200, slow_s=3.0),
            ]
            forge.away = False
            place.says(second, applied="success")
            place.says(third, applied="success")
            place.says(head, validate="success", test="success", plan="success")
            place.comments(number, "### Plan")
            for commit in (first, second, third, head):
                for name in forge.statuses(commit):
                    told = forge.history(commit, name)
                    assert "pending" not in told[1:], (name, told)
        assert TOKEN not in server.log.read_text()


def test_the_token_is_nowhere_to_be_read(tmp_path: Path) -> None:
    """Neither in answers nor in the log, the state directory or the command line's output."""
    with standing(tmp_path) as place, serving(place.server) as api:
        forge, server = place.forge, place.server
        give_token(api)
        place.says(forge.git("rev-parse", "main"), applied="success")
        shown = [api.http.get(f"/tailnet/-/gitops{path}").text for path in ("", "/forge", "/pulls")]
        shown += [server.cli("gitops", "forge", "show").stdout, server.cli("config", "show").stdout]
        refused = api.http.put("/tailnet/-/gitops/forge/token", json={"token": f"{TOKEN} x"})
        assert refused.status_code == 400
        shown.append(refused.text)
        forge.token = "another"
        forge.commit({"policy.hujson": f"// two\n{forge.read()}"})
        refusal = "the forge refuses the token (401)"
        eventually(
            "it is refused",
            lambda: refusal in {one["why"] for one in server.events("outbox.trouble")},
        )
        eventually(
            "operators are shown it",
            lambda: refusal in server.cli("gitops", "forge", "show").stdout,
            within_s=20,
        )
        server.stop()
        shown += [one.read_bytes().decode("latin1") for one in _files(server.state_dir)]
        assert [text for text in shown if TOKEN in text or SECRET in text] == []


def _files(folder: Path) -> list[Path]:
    return [one for one in folder.rglob("*") if one.is_file()]


def _in_force(api: Api, commit: str) -> None:
    def current() -> str:
        with contextlib.suppress(httpx.TransportError):
            return str(api.http.get("/tailnet/-/gitops").json()["current"]["commit"])
        return ""

    eventually(f"{commit[:8]} is in force", lambda: current() == commit, within_s=20)

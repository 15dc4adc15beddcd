"""The command line against a real server, its unix socket and its port, with a device that joins."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from mergescale.kernel.keys import MachineKey, PrivateKey
from mergescale.wire.noise import public_key
from support.command_line import CommandLine, Ended
from support.noise_client import NoiseClient
from support.real_clients import eventually
from support.server_process import PolicyRepository, ServerProcess, serving

pytestmark = pytest.mark.enable_socket

ALICE = "alice@example.com"
_CAPABILITY_VERSION = 130


@dataclass(frozen=True, slots=True)
class World:
    """A running server.

    Attributes:
        local: somebody on its machine.
    """

    server: ServerProcess
    repository: PolicyRepository
    local: CommandLine

    def remote(self, *, token: str = "") -> CommandLine:
        """Return somebody elsewhere, who has the server's URL and perhaps a token."""
        environment = {"MERGESCALE_TOKEN": token} if token else {}
        return CommandLine(("--server", self.server.url), environment)

    def register(self, name: str, **members: object) -> dict[str, Any]:
        """Let a device ask to join; return the server's answer."""
        return asyncio.run(self._register(name, members))

    async def _register(self, name: str, members: dict[str, object]) -> dict[str, Any]:
        async with httpx.AsyncClient() as http:
            told = await http.get(f"{self.server.url}/key?v={_CAPABILITY_VERSION}")
        key = MachineKey.parse(told.json()["publicKey"])
        machine = PrivateKey(os.urandom(32))
        body = {
            "Version": _CAPABILITY_VERSION,
            "NodeKey": f"nodekey:{public_key(PrivateKey(os.urandom(32))).raw.hex()}",
            "Hostinfo": {
                "Hostname": name,
                "OS": "linux",
                "RoutableIPs": ["10.7.0.0/24", "0.0.0.0/0"],
            },
            **members,
        }
        port = self.server.port
        async with NoiseClient.connect("127.0.0.1", port, machine=machine, server=key) as client:
            answer = await client.post("/machine/register", json.dumps(body).encode())
        registered: dict[str, Any] = json.loads(answer.body)
        return registered

    def join(self, name: str, *how: str) -> str:
        """Let a device in by a fresh key; return its stable id."""
        key = self.local("authkeys", "create", *(how or ("--user", ALICE))).out.strip()
        assert self.register(name, Auth={"AuthKey": key})["MachineAuthorized"]
        node_id: str = self.local("nodes", "get", name, "-o", "json").json["nodeId"]
        return node_id


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("cli")
    repository = PolicyRepository.from_example(folder / "policy", "01-start-up")
    server = ServerProcess(folder / "state", repository.folder)
    local = CommandLine(("--state-dir", str(server.state_dir)))
    with serving(server):
        eventually(
            "the policy is in force", lambda: "alice" in local("users", "list").out, within_s=20
        )
        yield World(server, repository, local)


def plain(text: str) -> str:
    """Return an output with what differs from run to run replaced."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>", text)
    return re.sub(r"100\.\d+\.\d+\.\d+,fd7a:[0-9a-f:]+", "<addresses>", text)


def words(text: str) -> list[list[str]]:
    return [line.split() for line in plain(text).splitlines()]


def test_health_needs_no_token(world: World) -> None:
    """The server and its parts, by the socket and by the port, exit code 0."""
    assert words(world.local("health").out)[:4] == [
        ["PART", "STATE", "WHY"],
        ["server", "pass", "version", "0.1.0"],
        ["database", "pass", "-"],
        ["clock", "pass", "-"],
    ]
    ended = world.remote()("health", "-o", "json")
    assert (ended.code, ended.json["status"]) == (0, "pass")


def test_users_live_and_end(world: World) -> None:
    """Create, list, role, suspend, restore, delete, by login and by id, in any case."""
    cli = world.local
    assert cli("users", "create", "zoe@example.com", "--name", "Zoe") == Ended(
        0, "created zoe@example.com\n", ""
    )
    user = next(u for u in cli("users", "list", "-o", "json").json if u["displayName"] == "Zoe")
    assert cli("users", "role", "Zoe@example.com", "auditor").code == 0
    assert cli("users", "suspend", user["id"]).out == "zoe@example.com is suspended\n"
    row = [user["id"], "zoe@example.com", "Zoe", "auditor", "suspended", "0", "no", "-"]
    assert row in words(cli("users", "list").out)
    assert cli("users", "restore", "zoe@example.com", "-o", "json").json["status"] == "active"
    refused = Ended(1, "", "error: nobody can be asked here\nhelp: say --yes if you are sure\n")
    assert cli("users", "delete", "zoe@example.com") == refused
    assert cli("users", "delete", "zoe@example.com", "--yes").out == "deleted zoe@example.com\n"
    missing = 'error: no user "zoe@example.com"\nhelp: `mergescale users list` shows who there is\n'
    assert cli("users", "suspend", "zoe@example.com") == Ended(1, "", missing)


def test_a_key_is_alone_on_standard_output(world: World) -> None:
    """What `$(mergescale authkeys create …)` captures is the key; the hint goes past it."""
    made = world.local(
        "authkeys",
        "create",
        "--tag",
        "tag:web",
        "--ephemeral",
        "--expiry",
        "1d",
        "--description",
        "ci",
    )
    assert re.fullmatch(r"mskey-auth-[A-Za-z0-9]{12}-[A-Za-z0-9]{44}\n", made.out)
    assert made.err.startswith("Shown this once; expires 20")
    key_id = made.out.split("-")[2]
    row = [key_id, "tag:web", "ephemeral", "0", "good", "<time>", "ci"]
    assert row in words(world.local("authkeys", "list").out)
    wrong = world.local("apikeys", "revoke", key_id)
    assert wrong.err.splitlines() == [
        f"error: {key_id} is a pre-auth key",
        f"help: `mergescale authkeys revoke {key_id}` revokes it",
    ]
    assert world.local("authkeys", "revoke", made.out.strip()).out == f"revoked {key_id}\n"
    assert key_id not in world.local("authkeys", "list").out
    row[4] = "revoked"
    assert row in words(world.local("authkeys", "list", "--all").out)


def test_a_token_opens_the_port_until_it_is_revoked(world: World) -> None:
    """Made on the server's machine, used elsewhere; afterwards exit code 4, as for no token."""
    token = world.local("apikeys", "create", "--description", "laptop").out.strip()
    assert world.remote(token=token)("users", "list").code == 0
    assert world.local("apikeys", "revoke", token).code == 0
    url = world.server.url
    ended = world.remote(token=token)("users", "list")
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.startswith(
        f"error: {url} does not accept the token of MERGESCALE_TOKEN\nhelp: "
    )
    ended = world.remote()("users", "list")
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.startswith(f"error: {url} wants an API token\nhelp: ")


def test_the_secret_of_an_oauth_client_stands_for_a_token(world: World) -> None:
    """CI needs nothing but the secret; once the client is revoked it opens nothing."""
    made = world.local("-o", "json", "oauth-clients", "create", "--scope", "policy_file:read").json
    ci = world.remote(token=made["key"])

    assert ci("gitops", "status", "-o", "json").json["current"] is not None
    refused = ci("nodes", "list")
    assert (refused.code, made["key"] in refused.err) == (4, False)

    assert world.local("oauth-clients", "revoke", made["id"]).code == 0
    ended = ci("gitops", "status")
    assert (ended.code, ended.err.splitlines()[0]) == (
        4,
        f"error: {world.server.url} does not accept the token of MERGESCALE_TOKEN",
    )


def test_an_oauth_client_is_made_listed_and_revoked(world: World) -> None:
    """The secret is alone on standard output, the hint has the id, and tokens have the scope only."""
    made = world.local("oauth-clients", "create", "--scope", "policy_file:read")
    assert re.fullmatch(r"mskey-client-[A-Za-z0-9]{12}-[A-Za-z0-9]{44}\n", made.out)
    key_id = made.out.split("-")[2]
    assert made.err.strip() == (
        f"Shown this once; expires never. In CI: TS_OAUTH_ID={key_id} TS_OAUTH_SECRET=SECRET"
    )
    row = [key_id, "policy_file:read", "good", "<time>", "-", "-"]
    assert row in words(world.local("oauth-clients", "list").out)
    assert key_id not in world.local("apikeys", "list").out
    form = {"client_id": key_id, "client_secret": made.out.strip()}
    told = httpx.post(f"{world.server.url}/api/v2/oauth/token", data=form).json()
    ended = world.remote(token=told["access_token"])("users", "list")
    assert (ended.code, ended.err) == (4, "error: this needs the scope `all:read`\n")
    assert world.remote(token=told["access_token"])("gitops", "status").code == 0
    assert world.local("oauth-clients", "revoke", made.out.strip()).code == 0
    assert world.remote(token=told["access_token"])("gitops", "status").code == 4
    bad = world.local("oauth-clients", "create", "--scope", "devices")
    assert bad.code == 2


def test_the_administrator_token_is_found(world: World) -> None:
    """On the server's machine a loopback URL needs no token to be typed."""
    environment = {"MERGESCALE_STATE_DIR": str(world.server.state_dir)}
    cli = CommandLine(("--server", world.server.url), environment)
    assert cli("users", "list").code == 0


def test_a_node_is_found_by_its_names_and_ids(world: World) -> None:
    """Its label in any case, its whole name and both ids mean the same node."""
    node_id = world.join("Finder")
    node = world.local("nodes", "get", node_id, "-o", "json").json
    for called in ("finder", "FINDER", node["name"], node["name"] + ".", node["id"]):
        assert world.local("nodes", "get", called, "-o", "json").json["nodeId"] == node_id
    shown = words(world.local("nodes", "get", "finder").out)
    assert ["Name", node["name"]] in shown
    assert ["Owner", ALICE] in shown
    assert ["Advertises", "10.7.0.0/24,0.0.0.0/0"] in shown or [
        "Advertises",
        "0.0.0.0/0,10.7.0.0/24",
    ] in shown
    row = [node["id"], "finder", ALICE, "<addresses>", "offline"]
    assert row in [line[:5] for line in words(world.local("nodes", "list").out)]
    missing = 'error: no node "nobody"\nhelp: `mergescale nodes list` shows which there are\n'
    assert world.local("nodes", "get", "nobody") == Ended(1, "", missing)


def test_a_node_is_changed_and_deleted(world: World) -> None:
    """Every verb of nodes does what it says, and says what it did."""
    cli, node_id = world.local, world.join("laptop")
    assert cli("nodes", "rename", "laptop", "desk").out == "renamed laptop to desk\n"
    assert cli("nodes", "deauthorize", "desk").out == "desk is no longer authorized\n"
    assert ["desk", "unauthorized"] in [
        [line[1], line[4]] for line in words(cli("nodes", "list").out)
    ]
    assert cli("nodes", "authorize", "desk", "-o", "json").json["authorized"] is True
    assert cli("nodes", "key-expiry", "desk", "off").out == "the key of desk never expires\n"
    assert cli("nodes", "get", "desk", "-o", "json").json["keyExpiryDisabled"] is True
    assert cli("nodes", "key-expiry", "desk", "on").out == "the key of desk expires\n"
    assert cli("nodes", "expire", "desk").out == "the key of desk expired\n"
    tagged = cli("nodes", "tag", "desk", "tag:web", "-o", "json").json
    assert (tagged["nodeId"], tagged["tags"]) == (node_id, ["tag:web"])
    assert cli("nodes", "delete", "desk").code == 1
    assert cli("nodes", "delete", "desk", "-y").out == "deleted desk\n"
    assert cli("nodes", "get", node_id).code == 1


def test_routes_are_approved_one_by_one(world: World) -> None:
    """Approving adds, taking back takes away, an exit node is both families at once."""
    cli, _ = world.local, world.join("router", "--tag", "tag:web")

    def routes() -> dict[str, list[str]]:
        table = words(cli("nodes", "routes", "router").out)[1:]
        return {route: rest for route, _, *rest in table}

    assert routes() == {"10.7.0.0/24": ["yes", "no"], "0.0.0.0/0": ["yes", "no"]}
    told = cli("nodes", "approve-routes", "router", "10.7.0.0/24").out
    assert told == "router may carry 10.7.0.0/24\n"
    assert cli("nodes", "approve-routes", "router", "0.0.0.0/0").code == 0
    assert routes() == {
        "10.7.0.0/24": ["yes", "yes"],
        "0.0.0.0/0": ["yes", "yes"],
        "::/0": ["no", "yes"],
    }
    both = cli("nodes", "unapprove-routes", "router", "::/0", "-o", "json").json
    assert both["enabledRoutes"] == ["10.7.0.0/24"]
    ended = cli("nodes", "unapprove-routes", "router", "10.9.0.0/16")
    assert ended.err.startswith("error: 10.9.0.0/16 is not approved for router\n")
    assert cli("nodes", "unapprove-routes", "router").code == 2
    assert cli("nodes", "unapprove-routes", "router", "--all").out == "router may carry -\n"


def test_a_waiting_device_is_approved_or_turned_away(world: World) -> None:
    """By the id or the whole address that it shows, for a user."""
    asked = world.register("phone")["AuthURL"]
    login_id = asked.rpartition("/")[2]
    row = next(line for line in words(world.local("auth", "list").out) if line[0] == login_id)
    assert row[1:3] == ["phone", "linux"]
    approved = world.local("auth", "approve", asked, "--user", ALICE)
    assert plain(approved.out) == f"phone is in, owned by {ALICE} (<addresses>)\n"
    login_id = world.register("stranger")["AuthURL"].rpartition("/")[2]
    assert world.local("auth", "reject", login_id).out == "stranger was turned away\n"
    assert login_id not in world.local("auth", "list").out
    ended = world.local("auth", "approve", "nonsense", "--user", ALICE)
    assert ended.err.splitlines() == [
        "error: no such login, or it has expired",
        "help: the device shows a new address when it retries",
    ]


def test_a_bad_commit_is_shown_with_its_place(world: World) -> None:
    """Status and sync show what is in force, what is newest and why not, and end with 3."""
    cli, good = world.local, world.repository.read()
    ended = cli("gitops", "status")
    head = world.repository.git("rev-parse", "HEAD")[:12]
    assert ended.code == 0
    assert f'In force    {head} "a first policy" by Ana, since <time>' in plain(ended.out)
    bad = world.repository.commit("oops", policy=good.replace('"group:ops"', '"group:opps"'))
    try:
        ended = cli("gitops", "sync")
        assert (ended.code, ended.err) == (3, "")
        shown = plain(ended.out)
        assert f'In force    {head} "a first policy" by Ana, since <time>\n' in shown
        assert f'Newest      {bad[:12]} "oops" by Ana\n' in shown
        assert ["Stalled", "true", "<time>", "Invalid"] in [line[:4] for line in words(shown)]
        assert re.search(r"^policy\.hujson:5:\d+: error: .*group:opps", shown, re.MULTILINE)
        assert 'help: did you mean "group:ops"?' in shown
        status = cli("gitops", "status", "-o", "json")
        assert status.code == 3
        assert status.json["target"]["commit"] == bad
    finally:
        world.repository.commit("back", policy=good)
    assert cli("gitops", "sync").code == 0


def test_what_the_server_refuses_is_one_line(world: World) -> None:
    """The server's own words, with what to do about it."""
    ended = world.local("users", "create", "nobody")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith('error: "nobody" is not a login\nhelp: ')
    assert world.local("--tailnet", "other", "users", "list") == Ended(
        1, "", "error: no such tailnet\n"
    )


def test_a_second_server_says_why_it_cannot_start(world: World, tmp_path: Path) -> None:
    """The port is taken: one line that is no traceback, exit code 1."""
    environment = {**world.server.environment(), "MERGESCALE_STATE_DIR": str(tmp_path / "state")}
    done = subprocess.run(
        [sys.executable, "-m", "mergescale", "serve"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        f"error: cannot listen on 127.0.0.1:{world.server.stun_port}: address already in use",
        "help: stun_listen (MERGESCALE_STUN_LISTEN) names the address",
    ]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_stop_ends_well(number: signal.Signals, tmp_path: Path) -> None:
    """The greeting tells how to go on, and the exit code is 0."""
    server = ServerProcess(tmp_path / "state").start()
    greeting = server.log.read_text("utf-8")
    assert f"Mergescale serves {server.url}" in greeting
    assert "mergescale authkeys create --user you@example.com" in greeting
    assert server.stop(number) == 0


def test_a_folder_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    """Where the state folder should be there is a file: one line, exit code 1."""
    (tmp_path / "state").write_text("a file", "utf-8")
    server = ServerProcess(tmp_path / "state")
    done = subprocess.run(
        [sys.executable, "-m", "mergescale", "serve"],
        env=server.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f'error: cannot use "{tmp_path / "state"}": File exists',
        "help: --state-dir names the server's folder",
    ]


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        (("--listen", "x"), 'error: the setting listen cannot be: "host:port"'),
        (
            ("--server-url", "example.com"),
            "error: the setting server_url cannot be: an http:// or https:// URL with a host",
        ),
    ],
)
def test_a_bad_setting_is_named(setting: tuple[str, ...], error: str, tmp_path: Path) -> None:
    """Which setting, what was expected, where settings come from."""
    ended = CommandLine()("serve", "--state-dir", tmp_path, *setting)
    assert (ended.code, ended.out) == (1, "")
    said, help_ = ended.err.splitlines()
    assert said == f"{error} was expected"
    assert help_.startswith("help: it comes from the command line, MERGESCALE_")


def test_an_inventory_says_what_the_server_knows(world: World, tmp_path: Path) -> None:
    """Users, devices and routes, in the form that policy commands read; by socket and by port."""
    world.join("router", "--tag", "tag:web")
    world.local("nodes", "approve-routes", "router", "10.7.0.0/24")
    world.local("users", "create", "zoe@example.com", "--role", "auditor")
    world.local("users", "suspend", "zoe@example.com")

    exported = world.local("inventory", "export").json
    [router] = [one for one in exported["nodes"] if one["name"] == "router"]
    told = {name: router[name] for name in ("tags", "advertised_routes", "approved_routes")}
    assert told == {
        "tags": ["tag:web"],
        "advertised_routes": ["0.0.0.0/0", "10.7.0.0/24"],
        "approved_routes": ["10.7.0.0/24"],
    }
    assert "user" not in router
    [zoe] = [one for one in exported["users"] if one["login_name"] == "zoe@example.com"]
    assert zoe == {
        "login_name": "zoe@example.com",
        "name": "zoe",
        "role": "auditor",
        "suspended": True,
    }

    token = world.local("apikeys", "create").out.strip()
    file = tmp_path / "tailnet.json"
    ended = world.remote(token=token)("inventory", "export", "--out", file)
    assert ended.out.startswith(f"{file}: {len(exported['nodes'])} node")
    assert json.loads(file.read_text("ascii")) == {**exported, "server_url": world.server.url}


def test_a_policy_is_tested_with_the_devices_of_a_server(world: World, tmp_path: Path) -> None:
    """--server or --state-dir stand for an inventory; the environment alone does not."""
    world.join("asked", "--tag", "tag:web")
    address = world.local("nodes", "get", "asked", "-o", "json").json["addresses"][0]
    policy = tmp_path / "policy.hujson"
    policy.write_text(
        json.dumps(
            {
                "tagOwners": {"tag:web": []},
                "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
                "ssh": [
                    {"action": "accept", "src": [ALICE], "dst": ["tag:web"], "users": ["root"]}
                ],
                "sshTests": [{"src": ALICE, "dst": [address], "accept": ["root"]}],
            }
        ),
        "utf-8",
    )
    assert world.local("policy", "test", policy).out.splitlines()[-1] == "1 expectation met"
    token = world.local("apikeys", "create").out.strip()
    remote = world.remote(token=token)("policy", "test", policy)
    assert remote.out.splitlines()[-1] == "1 expectation met"
    elsewhere = CommandLine(environment={"MERGESCALE_SERVER": world.server.url})
    told = elsewhere("policy", "test", policy)
    assert (told.code, told.out.splitlines()[-1]) == (0, "0 expectations met, 1 not run")

"""``mergescale policy can|who-can|compile|explain``: answers about a policy, with their reasons."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.command_line import CommandLine, Ended

mergescale = CommandLine()

POLICY = """{
  "groups": {"group:ops": ["ana@example.com"]},
  "tagOwners": {"tag:web": [], "tag:db": [], "tag:east": []},
  "hosts": {"printer": "10.1.0.9"},
  "postures": {"posture:mac": ["node:os == 'macos'"]},
  "grants": [
    {"src": ["group:ops"], "dst": ["tag:web"], "ip": ["tcp:22", "tcp:8000-8080"]},
    {"src": ["*"], "dst": ["tag:web"], "ip": ["80"]},
    {"src": ["ben@example.com"], "dst": ["tag:db"], "ip": ["5432"], "srcPosture": ["posture:mac"]},
    {"src": ["autogroup:member"], "dst": ["autogroup:self"], "ip": ["*"]},
    {"src": ["ana@example.com"], "dst": ["10.1.0.0/24"], "ip": ["udp:53"]},
    {"src": ["ana@example.com"], "dst": ["10.2.0.0/24"], "ip": ["*"], "via": ["tag:east"]},
    {"src": ["tag:web"], "dst": ["tag:db"], "app": {"example.com/cap/x": [{}]}},
  ],
  "ssh": [
    {"action": "check", "src": ["ana@example.com"], "dst": ["tag:web"], "users": ["root"]},
  ],
}
"""


def _node(number: int, name: str, **more: object) -> dict[str, object]:
    return {"name": name, "ipv4": f"100.64.0.{number}", "ipv6": f"fd7a:115c:a1e0::{number}", **more}


INVENTORY = {
    "users": [{"login_name": "ana@example.com"}, {"login_name": "ben@example.com"}],
    "nodes": [
        _node(1, "laptop", user="ana@example.com"),
        _node(2, "tablet", user="ana@example.com"),
        _node(3, "desk", user="ben@example.com", os="linux"),
        _node(4, "web", tags=["tag:web"]),
        _node(5, "db", tags=["tag:db"]),
        _node(
            6,
            "router",
            tags=["tag:db"],
            advertised_routes=["10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"],
            approved_routes=["10.1.0.0/24", "10.2.0.0/24"],
        ),
    ],
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.hujson").write_text(POLICY, "utf-8")
    (tmp_path / "tailnet.json").write_text(json.dumps(INVENTORY), "utf-8")
    return tmp_path


def ask(*arguments: str) -> Ended:
    return mergescale("policy", *arguments, "--inventory", "tailnet.json")


def test_yes_names_the_rule() -> None:
    """The two ends with their addresses, the protocol that gets through, the rule; exit code 0."""
    assert ask("can", "laptop", "web:22") == Ended(
        0,
        "yes: laptop (100.64.0.1) can reach web (100.64.0.4) by tcp:22\n"
        "rule policy.hujson:7: group:ops -> tag:web:22, tag:web:8000-8080\n",
        "",
    )


@pytest.mark.parametrize(
    ("source", "destination", "line", "why"),
    [
        ("laptop", "web:23", 7, "wrong port: it admits tag:web:22, tag:web:8000-8080, not 23"),
        ("laptop", "web:22/udp", 7, "wrong protocol: it admits tcp, not udp:22"),
        ("desk", "web:22", 8, "wrong port: it admits tag:web:80, not 22"),
        ("laptop", "db:5432", 9, "laptop is not in its src (ben@example.com)"),
        ("desk", "db:5432", 9, "desk has none of the postures it asks for (posture:mac)"),
        ("laptop", "desk:22", 7, "desk is not in its dst (tag:web:22, tag:web:8000-8080)"),
        ("laptop", "10.2.0.7:80", 12, "no router with its via (tag:east) routes 10.2.0.7"),
        ("desk", "printer:53/udp", 11, "desk is not in its src (ana@example.com)"),
    ],
)
def test_no_names_the_closest_rule_and_why_it_fails(
    source: str, destination: str, line: int, why: str
) -> None:
    """Exit code 3, and the one thing that would have to be different."""
    ended = ask("can", source, destination)
    assert (ended.code, ended.err) == (3, "")
    first, *rest = ended.out.splitlines()
    assert first.startswith(f"no: {source} (")
    assert rest == [f"closest rule policy.hujson:{line}:", f"  {why}"]


def test_an_address_is_reached_through_its_router() -> None:
    """A name of ``hosts`` or an address; who routes it is told."""
    ended = ask("can", "laptop", "printer:53/udp")
    assert (ended.code, ended.out.splitlines()[0]) == (
        0,
        "yes: laptop (100.64.0.1) can reach 10.1.0.9 by udp:53 through router",
    )


@pytest.mark.parametrize(
    ("source", "destination", "why"),
    [
        ("laptop", "10.3.0.1:80", "no device may route 10.3.0.1"),
        ("laptop", "laptop:80", "laptop is both ends"),
        ("router", "10.1.0.9:80", "router routes 10.1.0.9 itself"),
    ],
)
def test_what_no_rule_is_to_blame_for_is_told(source: str, destination: str, why: str) -> None:
    """A missing route is no rule's fault."""
    ended = ask("can", source, destination)
    assert ended.code == 3
    assert ended.out.splitlines()[1] == why


def test_a_login_or_a_tag_is_all_its_devices() -> None:
    """Own devices reach each other; yes needs every pair, and what cannot is told."""
    ended = ask("can", "ana@example.com", "ana@example.com:22")
    assert ended.code == 0
    assert [line for line in ended.out.splitlines() if line.startswith("yes")] == [
        "yes: laptop (100.64.0.1) can reach tablet (100.64.0.2) by tcp:22",
        "yes: tablet (100.64.0.2) can reach laptop (100.64.0.1) by tcp:22",
    ]
    ended = ask("can", "tag:db", "tag:web:80", "-o", "json")
    assert ended.json["allowed"] is True
    ended = ask("can", "autogroup:member", "web:22")
    assert ended.code == 3
    assert ended.out.splitlines()[0] == "not all: 2 of 3 pairs can"
    assert ended.out.splitlines()[1].startswith("no: desk ")


def test_programs_get_every_pair() -> None:
    """The rule, or the closest one with its gaps."""
    ended = ask("can", "desk", "db:5432", "-o", "json")
    assert ended.code == 3
    assert ended.json == {
        "allowed": False,
        "pairs": [
            {
                "source": "desk",
                "sourceAddress": "100.64.0.3",
                "destination": "db",
                "destinationAddress": "100.64.0.5",
                "protocol": "tcp",
                "port": 5432,
                "allowed": False,
                "rule": None,
                "through": None,
                "obstacle": "",
                "closest": {
                    "rule": "policy.hujson:9",
                    "gaps": ["posture"],
                    "why": ["desk has none of the postures it asks for (posture:mac)"],
                },
            }
        ],
    }


@pytest.mark.parametrize(
    ("source", "destination", "code", "line"),
    [
        ("ana@example.com", "tag:web:22", 0, 7),
        ("ben@example.com", "tag:web:80/tcp", 0, 8),
        ("ana@example.com", "ana@example.com:22", 0, 10),
        ("ana@example.com", "ben@example.com:22", 3, 7),
        ("group:ops", "10.1.0.9:53/udp", 0, 11),
        ("ana@example.com", "10.2.0.7:443", 0, 12),
        ("ben@example.com", "10.2.0.7:443", 3, 12),
        ("tag:web", "printer:53", 3, 11),
        ("tag:db", "tag:web:80/icmp", 0, 8),
    ],
)
def test_without_devices_any_device_of_the_kind_is_meant(
    source: str, destination: str, code: int, line: int
) -> None:
    """As in a policy's own tests: no inventory is needed, and addresses are behind some router."""
    ended = mergescale("policy", "can", source, destination)
    assert (ended.code, ended.err) == (code, "")
    assert f"rule policy.hujson:{line}:" in ended.out
    assert "100.127" not in ended.out


@pytest.mark.parametrize(
    ("arguments", "error", "help_"),
    [
        (("laptop", "web:80"), '"laptop" is not known', "a device's name needs --inventory"),
        (("tag:web", "tag:wep:80"), '"tag:wep" is not known', 'did you mean "tag:web"?'),
        (("tag:web", "web"), '"web" is not a destination', "write DST:PORT"),
        (("tag:web", "web:1-9"), '"web:1-9" is not a destination', "write DST:PORT"),
        (("tag:web", "web:80/tpc"), 'protocol "tpc" is not known', "write tcp, udp"),
        (("*", "tag:web:80"), '"*" does not stand for devices', "name a device"),
        (("tag:web", "10.0.0.0/8:80"), '"10.0.0.0/8" is more than one address', "ask about one"),
    ],
)
def test_what_stands_for_nothing_is_told(
    arguments: tuple[str, str], error: str, help_: str
) -> None:
    """One line and what to write instead; exit code 1."""
    ended = mergescale("policy", "can", *arguments)
    assert (ended.code, ended.out) == (1, "")
    said, helped = ended.err.splitlines()
    assert said == f"error: {error}"
    assert helped.startswith("help: ")
    assert help_ in helped


def test_a_device_that_is_not_there_is_told() -> None:
    """With the one that may be meant."""
    ended = ask("can", "laptpo", "web:80")
    assert ended == Ended(1, "", 'error: "laptpo" is not known\nhelp: did you mean "laptop"?\n')


def test_who_can_lists_everybody_with_the_rule() -> None:
    """One line a device; the exit code says whether there is one."""
    ended = ask("who-can", "web:22")
    assert (ended.code, ended.out.splitlines()) == (
        0,
        [
            "DEVICE  REACHES  BY      THROUGH  RULE",
            "laptop  web      tcp:22  -        policy.hujson:7",
            "tablet  web      tcp:22  -        policy.hujson:7",
        ],
    )
    assert [one["source"] for one in ask("who-can", "web:80", "-o", "json").json] == [
        "laptop",
        "tablet",
        "desk",
        "db",
        "router",
    ]
    ended = ask("who-can", "db:5432")
    assert (ended.code, ended.out.splitlines()) == (
        3,
        [
            "nobody can reach db:5432",
            "no: desk (100.64.0.3) can not reach db (100.64.0.5) by tcp:5432",
            "closest rule policy.hujson:9:",
            "  desk has none of the postures it asks for (posture:mac)",
        ],
    )


def test_compile_shows_what_a_device_is_sent() -> None:
    """The filter, the peers with their routes, own capabilities and SSH rules."""
    ended = ask("compile", "--node", "web", "-o", "json")
    assert ended.code == 0
    assert sorted(ended.json) == ["PacketFilter", "Peers", "SSHRules", "SelfNode"]
    assert {"laptop", "db", "router"} <= ended.json["Peers"].keys()
    assert ended.json["SSHRules"][0]["sshUsers"] == {"root": "root"}
    lines = ask("compile", "--node", "web").out.splitlines()
    assert lines[0] == "packet filter:"
    ops = "100.64.0.1, 100.64.0.2, fd7a:115c:a1e0::1, fd7a:115c:a1e0::2"
    ports = (
        "100.64.0.4:22, [fd7a:115c:a1e0::4]:22, 100.64.0.4:8000-8080, [fd7a:115c:a1e0::4]:8000-8080"
    )
    assert f"  {ops} -> {ports} (protocols 6)" in lines
    assert f"  check {ops} as root" in lines
    laptop = ask("compile", "--node", "laptop").out
    assert "  router: 100.64.0.6/32, fd7a:115c:a1e0::6/128, 10.1.0.0/24\n" in laptop


def test_explain_tells_both_directions_with_their_rules() -> None:
    """What a device is, what it reaches and what reaches it."""
    lines = ask("explain", "laptop").out.splitlines()
    assert lines[:5] == [
        "name       laptop",
        "addresses  100.64.0.1, fd7a:115c:a1e0::1",
        "owner      ana@example.com",
        "role       member",
        "groups     group:ops",
    ]
    told = ask("explain", "laptop", "-o", "json").json
    assert [(one["node"], one["rule"]) for one in told["reaches"]] == [
        ("tablet", "policy.hujson:10"),
        ("web", "policy.hujson:7"),
        ("web", "policy.hujson:8"),
        ("router", "policy.hujson:11"),
    ]
    assert [(one["node"], one["rule"]) for one in told["reachedBy"]] == [
        ("tablet", "policy.hujson:10")
    ]
    router = ask("explain", "router", "-o", "json").json
    assert router["routes"] == [
        {"route": "10.1.0.0/24", "state": "carried"},
        {"route": "10.2.0.0/24", "state": "carried"},
        {"route": "10.3.0.0/24", "state": "not approved"},
    ]
    [app] = [one for one in router["reachedBy"] if one["app"]]
    assert (app["node"], app["app"]) == ("web", ["example.com/cap/x"])


@pytest.mark.parametrize(
    "arguments", [("who-can", "web:80"), ("compile", "--node", "web"), ("explain", "web")]
)
def test_questions_about_devices_need_devices(arguments: tuple[str, ...]) -> None:
    """Nobody is asked who was not named."""
    ended = mergescale("policy", *arguments)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(
        "error: nobody said which devices there are\nhelp: give --inventory"
    )


def test_a_policy_that_is_refused_answers_nothing(folder: Path) -> None:
    """Its errors are shown past the answer; exit code 1."""
    (folder / "policy.hujson").write_text(POLICY.replace("group:ops", "group:op", 1), "utf-8")
    ended = ask("can", "laptop", "web:22")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("policy.hujson:7:")
    assert ended.err.endswith("error: the policy is refused: 1 error\n")

"""The tree of commands: what exists, how wrong usage ends, what starting costs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mergescale import __version__
from mergescale.cli.app import root
from support.command_line import CommandLine, Ended

ROOT = Path(__file__).parents[3]
mergescale = CommandLine()

COMMANDS = {
    "serve": (),
    "health": (),
    "backup": (),
    "restore": (),
    "doctor": (),
    "unit": (),
    "version": (),
    "nodes": (
        "list",
        "get",
        "delete",
        "rename",
        "tag",
        "authorize",
        "deauthorize",
        "expire",
        "key-expiry",
        "routes",
        "approve-routes",
        "unapprove-routes",
    ),
    "ssh": ("list", "approve", "reject"),
    "users": ("list", "create", "suspend", "restore", "role", "delete"),
    "authkeys": ("list", "create", "revoke"),
    "apikeys": ("list", "create", "revoke"),
    "oauth-clients": ("list", "create", "revoke"),
    "auth": ("list", "approve", "reject"),
    "gitops": (
        "accept",
        "approve",
        "credential",
        "diff",
        "forge",
        "history",
        "override",
        "pin",
        "plan",
        "pulls",
        "resume",
        "rollback",
        "status",
        "suspend",
        "sync",
        "wait",
        "notify",
        "webhook",
    ),
    "policy": ("can", "check", "codes", "compile", "explain", "fmt", "plan", "test", "who-can"),
    "inventory": ("export",),
    "config": ("check", "show"),
}


#: Verbs that are nouns with verbs of their own.
NESTED: dict[tuple[str, str], tuple[str, ...]] = {
    ("gitops", "credential"): ("drop", "generate", "set", "show"),
    ("gitops", "notify"): ("list", "secret", "test"),
    ("gitops", "forge"): ("drop-token", "set-token", "show"),
    ("gitops", "webhook"): ("add", "drop", "list"),
}


LEAVES: list[tuple[str, ...]] = [(*noun, verb) for noun, verbs in NESTED.items() for verb in verbs]
for _noun, _verbs in COMMANDS.items():
    LEAVES += [(_noun, verb) for verb in _verbs if (_noun, verb) not in NESTED]
    LEAVES += [] if _verbs else [(_noun,)]
NOUNS: list[tuple[str, ...]] = [
    (),
    *((noun,) for noun, verbs in COMMANDS.items() if verbs),
    *NESTED,
]


def test_these_are_the_commands() -> None:
    """Nouns, then verbs; a change here is one that users see."""
    found = {
        name: set(command.commands) if isinstance(command, click.Group) else set()
        for name, command in root.commands.items()
    }
    assert found == {name: set(verbs) for name, verbs in COMMANDS.items()}
    inside = {
        (noun, name): set(command.commands)
        for noun, group in root.commands.items()
        if isinstance(group, click.Group)
        for name, command in group.commands.items()
        if isinstance(command, click.Group)
    }
    assert inside == {names: set(verbs) for names, verbs in NESTED.items()}


@pytest.mark.parametrize("command", LEAVES, ids=" ".join)
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    """``-h`` and ``--help`` say how it is used and what it does."""
    ended = mergescale(*command, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"Usage: mergescale {' '.join(command)} ")
    assert ended == mergescale(*command, "-h")


@pytest.mark.parametrize("command", [one for one in LEAVES if one != ("serve",)], ids=" ".join)
def test_every_answer_comes_as_json_too(command: tuple[str, ...]) -> None:
    """Every command but the server itself takes -o."""
    assert "-o, --output text|json" in mergescale(*command, "--help").out


@pytest.mark.parametrize("noun", NOUNS)
def test_a_noun_alone_shows_its_verbs(noun: tuple[str, ...]) -> None:
    """Nothing was done, so the exit code is not 0."""
    ended = mergescale(*noun)
    assert (ended.code, ended.err) == (2, "")
    assert ended.out == mergescale(*noun, "--help").out


@pytest.mark.parametrize(
    ("arguments", "error", "path"),
    [
        (("nods", "list"), "no such command 'nods'. Did you mean 'nodes'?", ""),
        (("nodes", "get"), "missing argument 'NODE'", " nodes get"),
        (("nodes", "list", "--al"), "no such option '--al'.", " nodes list"),
        (
            ("authkeys", "create", "--user", "a", "--expiry", "90"),
            "invalid value for '--expiry': \"90\" is not a span of time such as 90d, 12h or 30m",
            " authkeys create",
        ),
        (
            ("authkeys", "create"),
            "say who owns the devices: --user LOGIN or --tag tag:NAME",
            " authkeys create",
        ),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], error: str, path: str
) -> None:
    """What is wrong, and which help to read."""
    ended = mergescale(*arguments)
    assert (ended.code, ended.out) == (2, "")
    said, help_ = ended.err.splitlines()
    assert said.removesuffix(".").startswith(f"error: {error.removesuffix('.')}")
    assert help_ == f"help: `mergescale{path} --help` shows how"


def test_the_version_is_told() -> None:
    """As a command and as an option."""
    told = Ended(0, f"mergescale {__version__}\n", "")
    assert mergescale("version") == mergescale("--version") == told
    assert mergescale("version", "-o", "json").json == {
        "name": "mergescale",
        "version": __version__,
    }


def told_commands() -> Iterator[str]:
    """Yield what pages, greetings, errors and the README tell people to type."""
    files = [*ROOT.glob("app/mergescale/**/*.py"), *ROOT.glob("app/mergescale/**/*.html")]
    files += [ROOT / "README.md", ROOT / "Containerfile", *ROOT.glob("policy_examples/*/*.md")]
    pattern = re.compile(r"(?:^ +|`|<code>)mergescale ([a-z][a-z-]*(?: [a-z-]+)?)", re.MULTILINE)
    for file in files:
        if file.exists():
            yield from pattern.findall(file.read_text("utf-8"))


def test_commands_that_people_are_told_to_type_exist() -> None:
    """The greeting, the login page, errors and the README name commands that are there."""
    told = set(told_commands())
    assert {"users create", "authkeys create", "auth approve", "auth reject"} <= told
    for one in sorted(told):
        noun, *verb = shlex.split(one)
        command = root.commands[noun]
        if isinstance(command, click.Group) and verb:
            assert verb[0] in command.commands, one


@pytest.mark.parametrize("arguments", [("--help",), ("nodes", "list"), ("gitops", "status")])
def test_starting_imports_no_server(arguments: tuple[str, ...]) -> None:
    """A command that asks a server loads little more than click: that is what keeps it fast.

    Counted, not timed: a fresh interpreter, and what it holds once the command ended.
    """
    code = "import sys\nfrom mergescale.cli.app import run\nrun(sys.argv[1:])\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    modules = set(done.stdout.splitlines()[-1].split())
    heavy = {
        "litestar",
        "sqlalchemy",
        "pydantic",
        "msgspec",
        "rich",
        "httpx",
        "asyncio",
        "jsonschema",
    }
    assert not heavy & modules
    # What ``--format`` may be is said by --help, and by the server's reports too.
    reports = {"mergescale.policy", "mergescale.policy.reports"}
    ours = {n.split(".")[1] for n in modules - reports if n.startswith("mergescale.")}
    assert ours == {"cli", "domain", "kernel"}
    # LIMIT: a tenth above what it takes today.
    assert len(modules) < 231

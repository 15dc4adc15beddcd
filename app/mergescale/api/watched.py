"""What the handlers about the watched repository share: where they are, who may, what there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

import msgspec

from mergescale.api.callers import Authenticated, Repository, needs
from mergescale.api.openapi import ERRORS
from mergescale.domain.scopes import Scope
from mergescale.kernel.errors import NotFound
from mergescale.kernel.ids import TailnetName

T = TypeVar("T")

PATH: Final = "/tailnet/{tailnet:str}/gitops"
#: How handlers that only look are declared, those that have the server look, and those that decide.
#: INVARIANT(review): with a repository the policy is written by commits; a token that may write the
#: policy file, as CI has it for gitops-pusher, does not get round them.
LOOKS: Final[dict[str, Any]] = {
    "status_code": 200,
    "responses": ERRORS,
    "tags": ["GitOps"],
    "opt": needs(Scope.POLICY_READ),
}
ASKS: Final[dict[str, Any]] = {**LOOKS, "opt": needs(Scope.POLICY)}
ACTS: Final[dict[str, Any]] = {**LOOKS, "opt": needs(Scope.ALL)}
#: A commit's id or how it begins, and why something is done about it.
Commit = Annotated[str, msgspec.Meta(min_length=7, max_length=64, pattern="^[0-9a-f]*$")]
Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


def repository_of(caller: Authenticated) -> Repository:
    """Return the watched repository of the caller's tailnet; raises NotFound if it has none."""
    return _there(caller.repository)


def of_repository(caller: Authenticated, by_tailnet: Mapping[TailnetName, T]) -> T:
    """Return what there is of each watched repository; raises NotFound if the tailnet has none."""
    return _there(by_tailnet.get(caller.snapshot.tailnet))


def newest_of(repository: Repository) -> str:
    """Return the full id of the newest commit that was seen on the branch, empty for none."""
    target = repository.status().get("target")
    return str(target["commit"]) if target else ""


def _there(found: T | None) -> T:
    if found is None:
        raise NotFound("this tailnet follows no repository", help="set MERGESCALE_REPOSITORY")
    return found

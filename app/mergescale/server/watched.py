"""The settings of a watched repository that say what of it is followed, and how much of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import structs
from pydantic import BaseModel, Field

from mergescale.gitops.git.limits import Limits
from mergescale.gitops.git.revisions import Followed
from mergescale.gitops.git.source import DEFAULT_TIMEOUT_S, Source

if TYPE_CHECKING:
    from mergescale.server.settings import Repository

_USUAL: Final = Limits()


class LimitSettings(BaseModel, frozen=True, extra="forbid"):
    """How much of a repository is accepted; see `gitops.limits.Limits`."""

    transfer_bytes: int = Field(default=_USUAL.transfer_bytes, ge=1)
    object_bytes: int = Field(default=_USUAL.object_bytes, ge=1)
    objects: int = Field(default=_USUAL.objects, ge=1)
    commits: int = Field(default=_USUAL.commits, ge=1)
    files: int = Field(default=_USUAL.files, ge=1)
    depth: int = Field(default=_USUAL.depth, ge=1)
    path_bytes: int = Field(default=_USUAL.path_bytes, ge=1)
    refs_bytes: int = Field(default=_USUAL.refs_bytes, ge=1)
    fetch_s: float = Field(default=DEFAULT_TIMEOUT_S, gt=0, le=3600)

    @property
    def limits(self) -> Limits:
        """The same for who fetches."""
        return Limits(**{name: getattr(self, name) for name in structs.asdict(_USUAL)})


def source_of(repository: Repository) -> Source:
    """Return what is followed.

    Raises:
        Invalid: the configuration names no acceptable repository, or nothing of it.
    """
    others = {"tag": repository.tag, "semver": repository.semver, "commit": repository.commit}
    # What is not said at all gives way; what is said beside another is a mistake.
    implied = any(others.values()) and "branch" not in repository.model_fields_set
    return Source.parse(
        repository.url,
        ref=Followed.parse(branch="" if implied else repository.branch, **others),
        folder=repository.path,
        poll_s=repository.poll_s,
        timeout_s=repository.limits.fetch_s,
        limits=repository.limits.limits,
    )


def followed(repository: Repository) -> str:
    """Return what is followed, for people; it need not be acceptable."""
    for kind in ("tag", "semver", "commit"):
        if said := getattr(repository, kind):
            return f"{kind} {said}"
    return repository.branch

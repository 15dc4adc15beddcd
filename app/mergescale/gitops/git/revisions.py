"""What is followed: a branch, a tag, the newest version in a range, or one commit.

The remote's list of refs is judged here; git is asked for nothing else before one is chosen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from semantic_version import NpmSpec, Version

from mergescale.kernel.errors import Invalid

_BRANCHES: Final = "refs/heads/"
_TAGS: Final = "refs/tags/"
#: What git appends to the name of an annotated tag to list what it is a tag of (git-ls-remote).
_PEELED: Final = "^{}"

#: LIMIT: of a ref's name, as git's own file names have it, and of a range.
_LONGEST_REF = 255
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+@-]*")
_REF_REFUSED = re.compile(r"\.\.|//|@\{|/\.|\./|\.lock(/|$)|[./]$")
_RANGE = re.compile(r"[0-9A-Za-z.+*^~<>=| -]{1,255}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Kind(StrEnum):
    """What a repository's configuration names."""

    BRANCH = "branch"
    TAG = "tag"
    SEMVER = "semver"
    COMMIT = "commit"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the remote has of what is followed.

    Attributes:
        ref: what git is to fetch: a full ref name, or an object id.
        commit: object id of the commit, annotated tags peeled.
        name: as people say it; empty for a pinned commit.
    """

    ref: str
    commit: str
    name: str


@dataclass(frozen=True, slots=True)
class Followed:
    """One of the four; make one with `parse`.

    Attributes:
        kind: which.
        ref: full ref name of a branch or tag, the range, or the commit's full id.
    """

    kind: Kind
    ref: str

    @classmethod
    def parse(
        cls, *, branch: str = "", tag: str = "", semver: str = "", commit: str = ""
    ) -> Followed:
        """Check the configuration's words, of which exactly one is not empty.

        Args:
            branch: its name, or any full name below ``refs/``.
            tag: its name.
            semver: a range as npm spells them: ``>=1.2 <2``, ``1.x``, ``~1.4``, ``^1.2``.
            commit: its full id, 40 hex digits.

        Raises:
            Invalid: none or several are said, or it is not acceptable.
        """
        said = {
            Kind.BRANCH: branch,
            Kind.TAG: tag,
            Kind.SEMVER: semver,
            Kind.COMMIT: commit,
        }
        given = [(kind, text) for kind, text in said.items() if text]
        if len(given) != 1:
            raise Invalid("name exactly one of branch, tag, semver and commit")
        match given[0]:
            case Kind.BRANCH, text:
                return cls(Kind.BRANCH, _full(text, _BRANCHES))
            case Kind.TAG, text:
                return cls(Kind.TAG, _full(text, _TAGS))
            case Kind.SEMVER, text:
                _range(text)
                return cls(Kind.SEMVER, text)
            case _, text:
                if not _COMMIT.fullmatch(text):
                    raise Invalid("a commit is named by its full id, 40 lower-case hex digits")
                return cls(Kind.COMMIT, text)

    @property
    def branch(self) -> str:
        """The branch's name; empty if it is something else."""
        branch = self.kind is Kind.BRANCH and self.ref.startswith(_BRANCHES)
        return self.ref.removeprefix(_BRANCHES) if branch else ""

    @property
    def name(self) -> str:
        """As people say it: ``main``, ``v1.2.0``, ``>=1.2 <2``, the start of a commit's id."""
        match self.kind:
            case Kind.COMMIT:
                return self.ref[:12]
            case Kind.SEMVER:
                return self.ref
            case _:
                return short(self.ref)

    @property
    def watched(self) -> str:
        """Where a local repository changes when this moves, below its git folder."""
        return _TAGS.rstrip("/") if self.kind is Kind.SEMVER else self.ref

    @property
    def patterns(self) -> tuple[str, ...]:
        """What ``git ls-remote`` is asked for; it answers with these and maybe more."""
        match self.kind:
            case Kind.SEMVER:
                return (f"{_TAGS}*",)
            case Kind.COMMIT:
                return ()
            case _:
                return (self.ref, self.ref + _PEELED)

    def choose(self, listing: Mapping[str, str]) -> Chosen | None:
        """Return what to fetch; None when the remote has nothing of it.

        Args:
            listing: full ref name -> object id, tags followed by ``^{}`` peeled.
        """
        match self.kind:
            case Kind.COMMIT:
                return Chosen(self.ref, self.ref, "")
            case Kind.SEMVER:
                ref = newest(self.ref, listing)
            case _:
                ref = self.ref if self.ref in listing else None
        if ref is None:
            return None
        return Chosen(ref, listing.get(ref + _PEELED, listing[ref]), short(ref))


def newest(wanted: str, listing: Mapping[str, str]) -> str | None:
    """Return the tag of the highest version in a range; None when there is none in it.

    Versions of an equal rank (``1.0.0+a``, ``1.0.0+b``, ``v1.0.0``) are told apart by name, so
    that the choice does not depend on the order in which a remote lists them. Prereleases count
    only if the range names one of the same version.
    """
    chosen = _range(wanted)
    inside = ((version, ref) for version, ref in _versions(listing) if chosen.match(version))
    return max(inside, default=(None, None), key=lambda one: (one[0].precedence_key, one[1]))[1]


def revision(name: str, commit: str) -> str:
    """Return what names a commit and how it was found: ``main@sha1:0123…``."""
    return f"{name}@sha1:{commit}" if name else f"sha1:{commit}"


def short(ref: str) -> str:
    """Return a ref as people say it."""
    for prefix in (_BRANCHES, _TAGS, "refs/"):
        if ref.startswith(prefix):
            return ref.removeprefix(prefix)
    return ref


def _versions(listing: Mapping[str, str]) -> Iterator[tuple[Version, str]]:
    """Yield the tags that are versions, with or without a leading v; all three numbers said."""
    for ref in listing:
        name = ref.removeprefix(_TAGS)
        if name == ref or not _acceptable(name):
            continue
        try:
            yield Version(name.removeprefix("v")), ref
        except ValueError:
            continue


def _range(text: str) -> NpmSpec:
    """Return a range.

    Raises:
        Invalid: it is none.
    """
    try:
        if not _RANGE.fullmatch(text) or not text.strip():
            raise ValueError
        return NpmSpec(text)
    except ValueError:
        raise Invalid(
            "semver is not a range of versions",
            help="for example `>=1.2 <2`, `1.x`, `~1.4` or `^1.2`",
        ) from None


def _acceptable(name: str) -> bool:
    """Say whether a name is one, after git's own rules (git-check-ref-format) and less."""
    return (
        len(name) <= _LONGEST_REF
        and _REF.fullmatch(name) is not None
        and _REF_REFUSED.search(name) is None
    )


def _full(name: str, prefix: str) -> str:
    """Return the full name of a ref."""
    if not _acceptable(name):
        raise Invalid("the branch, tag or ref is not a name that git accepts")
    if name == "HEAD":
        raise Invalid("name a branch instead of HEAD, which moves without a commit")
    return name if name.startswith("refs/") else prefix + name

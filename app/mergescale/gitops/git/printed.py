"""What git prints of commits, trees and blobs, as values.

Git's own formats, byte by byte; names and texts in them were chosen by whoever made the commit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from mergescale.gitops.git.running import GitFailed

#: LIMIT: largest commit subject and author that are kept.
_LONGEST_LINE = 200
#: What `commit` reads (git-log).
LOG_FORMAT: Final = "--format=%H%x00%ct%x00%an%x00%s"
#: A line of a commit's header about somebody (git-fsck checks that it is one).
_IDENTITY = re.compile(
    rb"^(author|committer) [^<>\n]*<([^<>\n]*)> [0-9]+ [+-][0-9]{4}$", re.MULTILINE
)
#: SPEC(gitformat-signature): how the signatures of gpgsm and gitsign begin.
_CERTIFIED = re.compile(rb"^gpgsig -----BEGIN SIGNED MESSAGE-----$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a tree: git's mode (six octal digits), type, object id, size in bytes, name."""

    mode: str
    type: str
    oid: str
    size_bytes: int
    name: str


@dataclass(frozen=True, slots=True)
class Commit:
    """What people are told about a commit."""

    oid: str
    committed_s: int
    author: str
    subject: str


@dataclass(frozen=True, slots=True)
class Made:
    """Who made a commit: e-mails, as the commit says them.

    Attributes:
        certified: it bears a signature by an X.509 certificate.
    """

    oid: str
    committer: str
    author: str
    certified: bool = False


def commit(printed: bytes) -> Commit:
    """Read one commit in `LOG_FORMAT`."""
    line = printed.decode(errors="replace").rstrip("\n")
    oid, committed, author, subject = line.split("\0", 3)
    return Commit(oid, int(committed), _line(author), _line(subject))


def entry(line: bytes) -> Entry:
    """Read ``<mode> SP <type> SP <object> SP+ <size> TAB <name>`` (git-ls-tree -l -z)."""
    facts, _, name = line.partition(b"\t")
    mode, kind, oid, size = facts.decode("ascii").split()
    return Entry(mode, kind, oid, 0 if size == "-" else int(size), name.decode(errors="replace"))


def made(oid: str, content: bytes) -> Made:
    """Read a commit's header as it is: what git prints of it, it may have converted.

    SPEC(gitformat: commit): header lines, an empty line, the message.
    """
    header = content.partition(b"\n\n")[0]
    found = _IDENTITY.findall(header)
    if [role for role, _ in found] != [b"author", b"committer"]:
        raise GitFailed("fsck error: not one author and one committer")
    author, committer = (email.decode(errors="replace") for _, email in found)
    return Made(oid, committer, author, _CERTIFIED.search(header) is not None)


def contents(answers: bytes, wanted: bytes) -> dict[str, bytes]:
    """Read ``<oid> SP <type> SP <size> LF <contents> LF``, repeated (git-cat-file --batch)."""
    found: dict[str, bytes] = {}
    at = 0
    while at < len(answers):
        end = answers.index(b"\n", at)
        oid, kind, *size = answers[at:end].decode("ascii").split()
        if kind.encode() != wanted:
            raise GitFailed("an object is not of the kind that it must be")
        start = end + 1
        at = start + int(size[0]) + 1
        found[oid] = answers[start : at - 1]
    return found


def _line(text: str) -> str:
    """Return one printable line for people; the committer chose the text."""
    shown = "".join(char if char.isprintable() else " " for char in text)
    return shown[:_LONGEST_LINE]

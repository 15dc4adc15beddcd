"""Repositories that mean harm: each commits something onto a good one.

An animal is a function that takes the repository and the file that must never appear, and
changes the branch. What a server is to say of it is in `tests/hostile/test_hostile_repositories`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from support.packs import Pack
from support.repositories import Repository

Animal = Callable[[Repository, Path], None]
#: What git calls 2 GiB of zeros.
_TWO_GIB: Final = 2 << 30
_MADE_UP: Final = "dead" * 10


def _tip(repository: Repository) -> str:
    return repository.git("rev-parse", repository.branch)


def _commit(repository: Repository, packed: Pack, tree: str) -> None:
    commit = packed.commit(tree, _tip(repository))
    packed.write(repository.path)
    repository.move(commit)


def _of_entries(*entries: tuple[str, bytes]) -> Animal:
    """Return one whose root holds the entries, each of the contents that its mode takes."""

    def make(repository: Repository, canary: Path) -> None:
        packed = Pack()
        blob = packed.blob(b"touch %s\n" % str(canary).encode())
        folder = packed.tree([("100644", b"file", blob)])
        contents = {"40000": folder, "160000": _tip(repository)}
        tree = packed.tree([(mode, name, contents.get(mode, blob)) for mode, name in entries])
        _commit(repository, packed, tree)

    return make


def _of_files(**files: str) -> Animal:
    """Return one with more files; CANARY in them is the path that must not appear."""

    def make(repository: Repository, canary: Path) -> None:
        named = {name.replace("DOT", "."): text for name, text in files.items()}
        repository.commit(
            {name: text.replace("CANARY", str(canary)) for name, text in named.items()}
        )

    return make


def link_to_passwords(repository: Repository, _: Path) -> None:
    repository.link("policy.hujson", "/etc/passwd")


def link_out_of_the_folder(repository: Repository, _: Path) -> None:
    repository.link("policy.d/more.hujson", "../../../../../etc/passwd")


def submodule(repository: Repository, canary: Path) -> None:
    repository.commit({".gitmodules": f'[submodule "x"]\n\tpath = x\n\turl = /{canary}\n'})
    repository.gitlink("policy.hujson")


def option_in_gitmodules(repository: Repository, canary: Path) -> None:
    text = f'[submodule "x"]\n\tpath = x\n\turl = --upload-pack=touch {canary}\n'
    repository.commit({".gitmodules": text})


def way_out_in_gitmodules(repository: Repository, canary: Path) -> None:
    text = f'[submodule "../../{canary.name}"]\n\tpath = x\n\turl = https://example.com/\n'
    repository.commit({".gitmodules": text})


def carriage_return_in_gitmodules(repository: Repository, canary: Path) -> None:
    text = f'[submodule "x"]\n\tpath = "x\r"\n\turl = https://example.com/{canary.name}\n'
    repository.commit({".gitmodules": text, "policy.hujson": "{"})


def linked_gitmodules(repository: Repository, canary: Path) -> None:
    repository.link(".gitmodules", str(canary))


def deep(folders: int) -> Animal:
    """Return one with so many folders within each other."""

    def make(repository: Repository, _: Path) -> None:
        packed = Pack()
        inner = packed.tree([("100644", b"f", packed.blob(b"{}"))])
        for _level in range(folders):
            inner = packed.tree([("40000", b"d", inner)])
        _commit(repository, packed, inner)

    return make


def long_path(repository: Repository, _: Path) -> None:
    packed = Pack()
    inner = packed.tree([("100644", b"f", packed.blob(b"{}"))])
    for _level in range(20):
        inner = packed.tree([("40000", b"d" * 200, inner)])
    _commit(repository, packed, inner)


def many_files(repository: Repository, _: Path) -> None:
    """Sixty thousand of the same content in one folder."""
    packed = Pack()
    blob = packed.blob(b"{}")
    names = sorted(b"%d.hujson" % at for at in range(60_000))
    _commit(repository, packed, packed.tree([("100644", name, blob) for name in names]))


def tree_of_trees(repository: Repository, _: Path) -> None:
    """Ten thousand million files in eleven objects."""
    packed = Pack()
    inner = packed.tree([("100644", b"f", packed.blob(b"{}"))])
    for _level in range(10):
        inner = packed.tree([("40000", b"%d" % at, inner) for at in range(10)])
    _commit(repository, packed, inner)


def two_gigabytes(repository: Repository, _: Path) -> None:
    """One file of two gibibytes that travels as two megabytes."""
    packed = Pack()
    blob = packed.zeros(_TWO_GIB, _MADE_UP)
    _commit(repository, packed, packed.tree([("100644", b"policy.hujson", blob)]))


def deltas_of_deltas(repository: Repository, _: Path) -> None:
    """A mebibyte that is repeated sixteen times, and that again, and that again: four gibibytes."""
    packed = Pack()
    size, last = 1 << 20, packed.blob(b"\0" * (1 << 20))
    entries = [("100644", b"0.hujson", last)]
    for step in range(1, 4):
        last = packed.delta(last, size, 16, f"{step}" * 40)
        size *= 16
        entries.append(("100644", b"%d.hujson" % step, last))
    _commit(repository, packed, packed.tree(entries))


def many_small_bombs(repository: Repository, _: Path) -> None:
    """Two thousand files, each within the limit: sixty gibibytes together."""
    packed = Pack()
    oids = [packed.zeros((30 << 20) + at, f"{at:040x}") for at in range(1, 2_001)]
    names = [b"%05d.hujson" % at for at in range(2_000)]
    tree = packed.tree([("100644", name, oid) for name, oid in zip(names, oids, strict=True)])
    _commit(repository, packed, tree)


def falsely_named(repository: Repository, _: Path) -> None:
    """A file whose contents are not what its name says."""
    packed = Pack()
    blob = packed.zeros(2 << 20, _MADE_UP)
    _commit(repository, packed, packed.tree([("100644", b"policy.hujson", blob)]))


def torn_pack(repository: Repository, _: Path) -> None:
    """The last bytes of the newest pack are not there."""
    packed = Pack()
    tree = packed.tree([("100644", b"policy.hujson", packed.blob(b'{"acls": [] }'))])
    before = set(repository.path.glob("objects/pack/*.pack"))
    _commit(repository, packed, tree)
    for pack in set(repository.path.glob("objects/pack/*.pack")) - before:
        pack.write_bytes(pack.read_bytes()[:-60])


def missing_file(repository: Repository, _: Path) -> None:
    """A folder that names a file which is nowhere."""
    packed = Pack()
    _commit(repository, packed, packed.tree([("100644", b"policy.hujson", _MADE_UP)]))


def another_root(repository: Repository, _: Path) -> None:
    repository.commit({"policy.hujson": '{"acls": [ ]}'}, parent=None)


def branch_deleted(repository: Repository, _: Path) -> None:
    repository.git("update-ref", "-d", f"refs/heads/{repository.branch}")


def emptied(repository: Repository, _: Path) -> None:
    """No file is left of what there was."""
    repository.commit({"policy.hujson": None})


def branch_is_a_file(repository: Repository, _: Path) -> None:
    """The branch names no commit."""
    blob = repository.git("hash-object", "-w", "--stdin", stdin=b"{}")
    place = repository.path / "refs" / "heads" / repository.branch
    place.write_text(f"{blob}\n")


def odd_names(repository: Repository, _: Path) -> None:
    """Names that a terminal turns around, that end lines, that are no text."""
    _of_entries(
        ("100644", b"a\nb.hujson"),
        ("100644", b"a\x1b[31m.hujson"),
        ("100644", "\u202egnp.hujson".encode()),
        ("100644", b"\xff\xfe.hujson"),
    )(repository, Path())


def no_text(repository: Repository, _: Path) -> None:
    repository.commit({"policy.hujson": b'{"acls":\n\xff\xfe}'})


def traps(repository: Repository, canary: Path) -> None:
    """Whatever runs a command when a repository is used, in its files and its own configuration."""
    command = f"touch {canary}"
    repository.commit(
        {
            "policy.hujson": "{",
            ".gitattributes": "* filter=trap diff=trap merge=trap export-subst ident\n",
            ".lfsconfig": f"[lfs]\n\turl = {command}\n",
            ".mailmap": "x <x> <y>\n",
            ".githooks/post-checkout": f"#!/bin/sh\n{command}\n",
        }
    )
    for key in (
        "filter.trap.clean", "filter.trap.smudge", "diff.trap.textconv", "core.fsmonitor",
        "core.sshCommand", "core.pager", "core.editor", "uploadpack.packObjectsHook",
        "credential.helper", "gpg.program", "alias.upload-pack", "core.alternateRefsCommand",
    ):  # fmt: skip
        repository.git("config", key, command)
    hooks = repository.path / "hooks"
    hooks.mkdir()
    for name in ("pre-receive", "post-update", "reference-transaction", "post-checkout"):
        (hooks / name).write_text(f"#!/bin/sh\n{command}\n")
        (hooks / name).chmod(0o755)


def dotgit(name: bytes) -> Animal:
    """Return one with a folder that some file system takes for git's own."""
    return _of_entries(("40000", name))


def entries(*names: bytes, mode: str = "100644") -> Animal:
    """Return one with entries of these names in its root."""
    return _of_entries(*((mode, name) for name in names))


DOTGITS: Final[Sequence[bytes]] = (
    b".git", b".GIT", b"git~1", b".git ", ".g\u200cit".encode(), b".git\\x",
)  # fmt: skip

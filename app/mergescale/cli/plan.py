"""``mergescale policy plan``: what a change will do, before it is merged; no server is needed."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from mergescale.cli.errors import CommandFailed
from mergescale.cli.options import offline
from mergescale.cli.problems import as_text
from mergescale.cli.screen import Screen

if TYPE_CHECKING:
    from mergescale.domain.declaration import Declaration
    from mergescale.gitops.bare import Store
    from mergescale.netmap.inventory import Inventory
    from mergescale.plan.model import Plan

#: LIMIT: bytes of an inventory; 100,000 devices take a quarter of it.
_INVENTORY_BYTES: Final = 256 << 20


class PlanCode(IntEnum):
    """Exit codes of this command, as ``terraform plan -detailed-exitcode`` has them.

    Attributes:
        NO_EFFECT: nobody reaches anything else than before.
        EFFECT: somebody does.
        TESTS_FAILED: a test of the policy fails under the change.
    """

    NO_EFFECT = 0
    EFFECT = 2
    TESTS_FAILED = 3


@dataclass(frozen=True, slots=True)
class _Texts:
    """One side of the comparison: the tree it was read from, and its files."""

    tree: str
    files: Mapping[str, str]


@click.command("plan")
@click.option("--repo", default=".", help="The repository, or a folder in its work tree.")
@click.option("--base", default="main", show_default=True, help="What is in force.")
@click.option("--head", default="HEAD", show_default=True, help="What is proposed.")
@click.option("--folder", default="", help="Where in the repository the policy stands.")
@click.option("--inventory", required=True, help="Users and devices as JSON; - is standard input.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    show_default=True,
    help="What is printed.",
)
@offline
def plan(
    screen: Screen, repo: str, base: str, head: str, folder: str, inventory: str, form: str
) -> None:
    """Say who will reach what, and what no longer, when HEAD is merged into BASE.

    It is the merge of the two that is compared with BASE, so commits that BASE got meanwhile count
    for both sides. Nothing is written into the repository.

    Exit code 0 if the change has no effect, 2 if it has one, 3 if a test of the policy fails, 1 if
    something is wrong.
    """
    who = _inventory(inventory)
    before, after = _texts(Path(repo), base, head, folder.strip("/"))
    found = _compare(screen, who, before, after)
    screen.out.write(_rendered(found, form))
    code = PlanCode.NO_EFFECT if found.verdict == "no effect" else PlanCode.EFFECT
    click.get_current_context().exit(PlanCode.TESTS_FAILED if found.tests.failing else code)


def _inventory(name: str) -> tuple[Inventory, str]:
    """Return the inventory and its hash."""
    from mergescale.kernel.errors import Invalid
    from mergescale.netmap.inventory import read_inventory

    try:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as file:
            raw = file.read(_INVENTORY_BYTES)
    except OSError as error:
        raise CommandFailed(f'"{name}" cannot be read: {error.strerror}') from error
    try:
        return read_inventory(raw), hashlib.sha256(raw).hexdigest()
    except Invalid as error:
        raise CommandFailed(f'"{name}" is {error.message}') from error


def _texts(repo: Path, base: str, head: str, folder: str) -> tuple[_Texts, _Texts]:
    """Read both sides; the second is the trial merge of the two."""
    from mergescale.gitops.bare import GitFailed, Store

    with tempfile.TemporaryDirectory(prefix="mergescale-plan-") as scratch:
        try:
            store = Store.borrowed(repo, Path(scratch))
        except (GitFailed, OSError):
            raise CommandFailed(f'there is no git repository at "{repo}"') from None
        commits = [_commit(store, name) for name in (base, head)]
        try:
            trees = store.tree(commits[0]), store.merged(*commits)
            if trees[1] is None:
                raise CommandFailed(
                    f'"{head}" cannot be merged into "{base}": they conflict',
                    help="merge or rebase it first",
                )
            return _side(store, trees[0], folder), _side(store, trees[1], folder)
        except GitFailed as failed:
            raise CommandFailed(f"git failed: {failed.stderr.strip() or failed}") from None


def _commit(store: Store, name: str) -> str:
    from mergescale.gitops.bare import GitFailed

    try:
        return store.resolve(name)
    except GitFailed:
        help_ = "fetch it first; a shallow clone may lack it"
        raise CommandFailed(f'"{name}" is no commit of the repository', help=help_) from None


def _side(store: Store, tree: str, folder: str) -> _Texts:
    from mergescale.gitops.worker import read_files

    files, faults = read_files(store, tree, folder)
    if faults:
        fault = faults[0]
        raise CommandFailed(f"{fault.path or folder}: {fault.message}", help=fault.help)
    return _Texts(tree, files)


def _compare(screen: Screen, who: tuple[Inventory, str], before: _Texts, after: _Texts) -> Plan:
    from mergescale.kernel.errors import Invalid
    from mergescale.netmap.inventory import populate
    from mergescale.plan.build import Side, make_plan

    inventory, revision = who
    was, now = _declared(screen, before, "base"), _declared(screen, after, "head")
    try:
        base = populate(inventory, was)
        for slot in base.slots.of.values():
            base.access.chunks(slot)
        head = populate(inventory, now, base.access)
    except Invalid as error:
        raise CommandFailed(f"the inventory is wrong: {error.message}") from error
    return make_plan(Side(before.tree, was, base), Side(after.tree, now, head), revision)


def _declared(screen: Screen, texts: _Texts, which: str) -> Declaration:
    from mergescale.policy.diagnostics import Severity
    from mergescale.policy.repository import declare

    declaration, found = declare(texts.files, tested=False)
    if declaration is None:
        for one in found:
            if one.severity is Severity.ERROR:
                screen.line(as_text(one, texts.files.get(one.span.file, "")))
        raise CommandFailed(f"the policy of the {which} is refused")
    return declaration


def _rendered(found: Plan, form: str) -> str:
    match form:
        case "json":
            from mergescale.plan.model import encode

            return encode(found).decode()
        case "markdown":
            from mergescale.plan.markdown import as_markdown

            return as_markdown(found)
        case _:
            from mergescale.plan.text import as_text as plan_text

            return plan_text(found)

"""``mergescale policy plan``: what a change will do, before it is merged; no server is needed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mergescale.cli.devices import Devices, about_devices
from mergescale.cli.errors import CommandFailed, ExitCode, misused
from mergescale.cli.screen import Screen

if TYPE_CHECKING:
    from mergescale.domain.declaration import Declaration
    from mergescale.gitops.git.bare import Store
    from mergescale.netmap.inventory import Inventory
    from mergescale.plan.model import Plan
    from mergescale.plan.rendering import Review
    from mergescale.policy.diagnostics import Diagnostic

#: Values of `plan.redaction.Redaction`, whose module is only imported where a plan is made.
REDACTIONS: Final = ("full", "names", "counts")
#: As `plan.gates.Limits` has it.
BLAST_PERCENT: Final = 50.0
#: What is to be done about a base that is no policy.
_NOT_THIS: Final = "compare with the commit that is in force: --base COMMIT"
_FORMS: Final = ("text", "json", "markdown", "sarif", "junit", "github", "gitlab")


class PlanCode(IntEnum):
    """Exit codes of this command, as ``terraform plan -detailed-exitcode`` has them.

    Attributes:
        NO_EFFECT: nobody reaches anything else than before.
        EFFECT: somebody does.
        TESTS_FAILED: a test of the policy fails under the change.
        REFUSED: a gate does not let it pass without an approval.
    """

    NO_EFFECT = 0
    EFFECT = 2
    TESTS_FAILED = 3
    REFUSED = 4


@dataclass(frozen=True, slots=True)
class _Texts:
    """One side of the comparison: the tree it was read from, and its files."""

    tree: str
    files: Mapping[str, str]


class _Comparing(click.Command):
    """A command whose exit codes above 1 are answers, so whatever goes wrong is a 1."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the command line; one that is wrong must not look like an effect."""
        try:
            return super().make_context(*args, **extra)
        except click.UsageError as error:
            raise misused(error, ExitCode.ERROR) from error

    def invoke(self, context: click.Context) -> Any:
        """Compare; a token that is refused must not look like a gate."""
        try:
            return super().invoke(context)
        except click.UsageError as error:
            raise misused(error, ExitCode.ERROR) from error
        except CommandFailed as error:
            raise CommandFailed(error.message, help=error.help) from error


@click.command("plan", cls=_Comparing)
@click.option("--repo", default=".", help="The repository, or a folder in its work tree.")
@click.option("--base", default="main", show_default=True, help="What is in force.")
@click.option("--head", default="HEAD", show_default=True, help="What is proposed.")
@click.option("--folder", default="", help="Where in the repository the policy stands.")
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMS),
    metavar="|".join(_FORMS),
    help="What is printed; text and json are those of -o.",
)
@click.option(
    "--redact",
    type=click.Choice(REDACTIONS),
    default=REDACTIONS[0],
    show_default=True,
    help="How much is told: all; no addresses; no names and no addresses.",
)
@click.option(
    "--blast-percent",
    type=click.FloatRange(0, 100),
    default=BLAST_PERCENT,
    show_default=True,
    help="The limit of the blast gate, as the server has it.",
)
@about_devices
def plan(
    screen: Screen,
    devices: Devices,
    repo: str,
    base: str,
    head: str,
    folder: str,
    form: str | None,
    redact: str,
    blast_percent: float,
) -> None:
    """Say who will reach what, and what no longer, when HEAD is merged into BASE.

    It is the merge of the two that is compared with BASE, so commits that BASE got meanwhile count
    for both sides. Nothing is written into the repository. The devices are those of --inventory, or
    of the server that --server names. A BASE without a policy is one where nobody reaches anything.

    Exit code 0 if the change has no effect, 2 if it has one, 3 if a test of the policy fails, 4 if a
    gate refuses it, 1 if something is wrong.
    """
    inventory = devices.read("")
    if inventory is None:
        raise click.UsageError("name the devices: --inventory FILE, or --server URL")
    folder = _place(folder)
    before, after = _texts(Path(repo), base, head, folder)
    from mergescale.plan.redaction import Redaction
    from mergescale.plan.rendering import PlanRefused, refusal, rendered

    level, chosen = Redaction(redact), form or ("json" if screen.is_json else "text")
    try:
        review = _compare(inventory, before, after, blast_percent).told(level)
    except PlanRefused as refused:
        screen.out.write(refusal(refused.told(level), chosen, folder))
        raise CommandFailed(refused.message, help=refused.help) from None
    screen.out.write(rendered(review, chosen, folder))
    click.get_current_context().exit(exit_code(review.plan))


def exit_code(found: Plan) -> PlanCode:
    """Return how the command ends."""
    if found.tests.failing:
        return PlanCode.TESTS_FAILED
    if found.refused:
        return PlanCode.REFUSED
    return PlanCode.NO_EFFECT if found.verdict == "no effect" else PlanCode.EFFECT


def _place(folder: str) -> str:
    """Return a folder of the repository as git names it; empty for all of it."""
    parts = [part for part in folder.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise CommandFailed(f'"{folder}" is not within the repository')
    return "/".join(parts)


def _texts(repo: Path, base: str, head: str, folder: str) -> tuple[_Texts, _Texts]:
    """Read both sides; the second is the trial merge of the two."""
    from mergescale.gitops.git.bare import GitFailed, Store
    from mergescale.policy.repository import or_nothing

    with tempfile.TemporaryDirectory(prefix="mergescale-plan-") as scratch:
        try:
            store = Store.borrowed(repo, Path(scratch))
        except (GitFailed, OSError):
            raise CommandFailed(f'there is no git repository at "{repo}"') from None
        commits = [_commit(store, name) for name in (base, head)]
        try:
            trees = store.tree(commits[0]), store.merged(*commits)
            if trees[1] is None:
                paths = ", ".join(f'"{path}"' for path in store.conflicts(*commits))
                raise CommandFailed(
                    f'"{head}" cannot be merged into "{base}": they conflict in {paths}',
                    help="merge or rebase it first",
                )
            was, now = _side(store, trees[0], folder, base), _side(store, trees[1], folder, head)
            return _Texts(was.tree, or_nothing(was.files)), now
        except GitFailed as failed:
            if "unrelated histories" in failed.stderr:
                raise CommandFailed(
                    f'"{head}" and "{base}" have no commit in common here',
                    help="fetch their whole history: `git fetch --unshallow`, fetch-depth: 0 in CI",
                ) from None
            raise CommandFailed(f"git failed: {failed.stderr.strip() or failed}") from None


def _commit(store: Store, name: str) -> str:
    from mergescale.gitops.git.bare import GitFailed

    try:
        return store.resolve(name)
    except GitFailed:
        help_ = "fetch it first; a shallow clone may lack it"
        raise CommandFailed(f'"{name}" is no commit of the repository', help=help_) from None


def _side(store: Store, tree: str, folder: str, name: str) -> _Texts:
    from mergescale.gitops.git.worker import read_files

    files, faults = read_files(store, tree, folder)
    if faults:
        fault = faults[0]
        place = f'{fault.path or folder} of "{name}"'
        raise CommandFailed(f"{place}: {fault.message}", help=fault.help)
    return _Texts(tree, files)


def _compare(inventory: Inventory, before: _Texts, after: _Texts, blast_percent: float) -> Review:
    from mergescale.kernel.errors import Invalid
    from mergescale.netmap.inventory import populate, revision
    from mergescale.plan.build import make_plan
    from mergescale.plan.gates import Limits
    from mergescale.plan.rendering import Review
    from mergescale.plan.side import Side, tree_of
    from mergescale.policy.repository import selftest

    was, _ = _declared(before, "base", _NOT_THIS)
    now, said = _declared(after, "head")
    try:
        base = populate(inventory, was)
        for slot in base.slots.of.values():
            base.access.chunks(slot)
        head = populate(inventory, now, base)
    except Invalid as error:
        raise CommandFailed(f"the inventory is wrong: {error.message}") from error
    sides = Side(tree_of(before.files), was, base), Side(tree_of(after.files), now, head)
    found = make_plan(*sides, revision(inventory), Limits(blast_percent=blast_percent))
    return Review(found, said, selftest(now, head), after.files)


def _declared(
    texts: _Texts, which: str, instead: str = ""
) -> tuple[Declaration, tuple[Diagnostic, ...]]:
    from mergescale.plan.rendering import PlanRefused
    from mergescale.policy.repository import POLICY, declare

    declaration, found = declare(texts.files, tested=False)
    if declaration is not None:
        return declaration, found
    here = POLICY in texts.files
    message = f"the policy of the {which} is refused" if here else f"the {which} has no policy"
    raise PlanRefused(message, found, texts.files, help=instead)

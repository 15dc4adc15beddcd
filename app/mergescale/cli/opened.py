"""A policy that is asked about: read, compiled, and its rules by their places."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mergescale.cli.devices import Devices
from mergescale.cli.errors import CommandFailed
from mergescale.cli.policy_files import PolicyFiles, read_policy, refused
from mergescale.cli.problems import as_text
from mergescale.cli.screen import Screen

if TYPE_CHECKING:
    from mergescale.domain.declaration import Declaration
    from mergescale.domain.snapshot import Snapshot
    from mergescale.netmap.inventory import Inventory
    from mergescale.policy.compiled import CompiledPolicy
    from mergescale.policy.diagnostics import Span
    from mergescale.policy.document import Rule

#: LIMIT: selectors of a side that are told.
_TOLD: Final = 4


@dataclass(frozen=True, slots=True)
class Opened:
    """A good policy, and the devices that are asked about.

    Attributes:
        inventory: None when nobody said which devices there are.
        rules: entries of ``acls`` and ``grants`` by where they stand.
    """

    files: PolicyFiles
    declaration: Declaration
    policy: CompiledPolicy
    inventory: Inventory | None
    rules: dict[Span, Rule] = field(default_factory=dict)

    def place(self, origin: Span) -> str:
        """Return file:line of a rule, the file as the person named it."""
        span = self.files.place(origin)
        return f"{span.file}:{span.start_line}"

    def sides(self, origin: Span) -> tuple[str, str]:
        """Return what a rule has as src and as dst, as it is written."""
        rule = self.rules[origin]
        targets = [f"{one.selector}:{one.ports}" for one in rule.targets]
        return _listed(map(str, rule.sources)), _listed(targets or map(str, rule.holders))

    def snapshot(self) -> Snapshot:
        """Return the tailnet of the inventory.

        Raises:
            CommandFailed: there is no inventory.
        """
        from mergescale.netmap.inventory import populate

        if self.inventory is None:
            raise CommandFailed(
                "nobody said which devices there are",
                help="give --inventory FILE, which `mergescale inventory export` writes, or --server",
            )
        return populate(self.inventory, self.declaration)


def open_policy(screen: Screen, devices: Devices, path: str) -> Opened:
    """Read and compile a policy, and read the devices.

    Raises:
        CommandFailed, Invalid: the policy is refused, or what there is cannot be read.
    """
    from mergescale.policy.compiled import compiled
    from mergescale.policy.diagnostics import Severity

    files = read_policy(path)
    inventory = devices.read(path)
    declaration, found = files.declare()
    if declaration is None:
        for one in found:
            if one.severity is Severity.ERROR:
                screen.hint(as_text(one, files.shown_texts.get(one.span.file, "")))
        raise refused(found)
    policy = compiled(declaration.policy)
    rules = {one.origin: one for one in policy.document.rules}
    return Opened(files, declaration, policy, inventory, rules)


def _listed(names: object) -> str:
    found = list(dict.fromkeys(names))  # type: ignore[call-overload]
    more = f" and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
    return ", ".join(found[:_TOLD]) + more

"""Plans and gates by themselves, without a server: processor time of one core, and memory.

As in ``language``, each round is a process of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.company import Company
from bench.measures.language import WrongPolicy, apart
from bench.process import resident_bytes
from bench.results import Figure
from mergescale.domain.declaration import Declaration
from mergescale.netmap.inventory import populate, revision
from mergescale.plan.build import make_plan
from mergescale.plan.gates import Limits, judge
from mergescale.plan.markdown import as_markdown
from mergescale.plan.model import Verdict
from mergescale.plan.side import Side, tree_of
from mergescale.policy.repository import declare
from mergescale.server.memory import calm_collector

#: Rules, and what a plan may take in s; by nodes.
REACH: Final[Mapping[int, tuple[int, float | None]]] = {
    1_000: (200, None),
    2_000: (300, 3.0),
    10_000: (500, 20.0),
}
_EDITED_RULE: Final = 7


@dataclass(frozen=True, slots=True)
class Round:
    """What one process measured.

    Attributes:
        plan_s: from the texts of both sides and an inventory to the comment.
        gates_s: of a server that has both sides: what it adds to a commit.
        resident_bytes: with both sides and the plan.
        rows: how many the plan has.
        told: how many nodes are told.
    """

    plan_s: float
    gates_s: float
    resident_bytes: int
    rows: int
    told: int
    verdict: Verdict


def whole(sizes: Sequence[int], rounds: int) -> list[Figure]:
    """Measure a change of one rule at each size."""
    figures: list[Figure] = []
    for size in sizes:
        rules, reach_s = REACH.get(size, (200, None))
        found = [apart(_round, Company(size, rules)) for _ in range(rounds)]
        one = found[0]
        note = f"{one.verdict}, {one.rows} rows, {one.told:,} nodes told"
        name = f"one of {rules} rules changes"
        figures += [
            Figure(f"plan, {name}", size, tuple(r.plan_s for r in found), "s", reach_s, note=note),
            Figure(
                f"memory of the plan, {name}",
                size,
                tuple(r.resident_bytes / 1e6 for r in found),
                "MB",
            ),
            Figure(f"gates, {name}", size, tuple(1000 * r.gates_s for r in found), "ms"),
        ]
    return figures


def _round(company: Company) -> Round:
    texts = [{"policy.hujson": company.policy(edited)} for edited in (None, _EDITED_RULE)]
    inventory = company.inventory()
    calm_collector()
    start = time.process_time()
    was, now = (_declared(one) for one in texts)
    base = populate(inventory, was)
    for slot in base.slots.of.values():
        base.access.chunks(slot)
    head = populate(inventory, now, base)
    sides = Side(tree_of(texts[0]), was, base), Side(tree_of(texts[1]), now, head)
    plan = make_plan(*sides, revision(inventory), Limits())
    as_markdown(plan)
    plan_s = time.process_time() - start
    size = resident_bytes(os.getpid())
    # A server asks of accesses that it has just made.
    cold = populate(inventory, was), populate(inventory, now)
    start = time.process_time()
    judge(*cold, Limits())
    gates_s = time.process_time() - start
    rows = len(plan.gained) + len(plan.lost)
    return Round(plan_s, gates_s, size, rows, len(plan.nodes), plan.verdict)


def _declared(files: Mapping[str, str]) -> Declaration:
    declaration, _ = declare(files, tested=False)
    if declaration is None:
        raise WrongPolicy("the policy of the company has an error")
    return declaration

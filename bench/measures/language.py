"""The policy language by itself, without a server: processor time of one core, and memory.

Each round is a process of its own, so that nothing is warm that a server which begins does not
have warm either, and memory is what this round needs.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from bench.company import DOMAIN, Company, introduced
from bench.process import resident_bytes
from bench.results import Figure
from mergescale.domain.access import Access
from mergescale.domain.declaration import Declaration
from mergescale.domain.snapshot import Snapshot
from mergescale.netmap.inventory import populate
from mergescale.policy import hujson
from mergescale.policy.check import check
from mergescale.policy.compile import compile_policy
from mergescale.policy.document import PolicyDocument
from mergescale.policy.load import load
from mergescale.server.memory import calm_collector

#: Rules, what computing everything may take in s, and what it may need in MB; by nodes.
REACH: Final = {1_000: (200, 0.25, None), 10_000: (500, 2.5, 500)}
#: What an edit may take, in s, where it is measured.
_EDIT_REACH_S: Final = {10_000: 0.5}
_CHECK_REACH_S: Final = 1.0
#: Its policy, laid out, has a megabyte.
LARGE_TEXT: Final = Company(9_000, 1_000)
_EDITED_RULE: Final = 7

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")


class WrongPolicy(Exception):
    """Raised when what is measured does not do what it is measured for."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one process measured.

    Attributes:
        everything_s: filters and visibility of every node, from a compiled policy.
        edit_s: compiling an edited document, resolving it, and finding whose filter differs.
        text_s: reading and checking the text of that document, before.
        differing: how many nodes that were.
        resident_bytes: when everything is computed, under the first policy.
    """

    everything_s: float
    edit_s: float
    text_s: float
    differing: int
    resident_bytes: int


def whole(sizes: Sequence[int], large: Company, rounds: int) -> list[Figure]:
    """Measure the company at each size, then reading the policy of the `large` one."""
    figures: list[Figure] = []
    for size in sizes:
        rules, reach_s, reach_mb = REACH.get(size, (200, None, None))
        company = Company(size, rules)
        found = [apart(_round, company) for _ in range(rounds)]
        figures += _figures(company, found, reach_s, reach_mb)
    took = [apart(_check, large) for _ in range(rounds)]
    figures.append(
        Figure(
            "parse and check a large policy",
            large.nodes,
            tuple(seconds for seconds, _ in took),
            "s",
            _CHECK_REACH_S,
            note=f"{took[0][1]:,} bytes, {large.rules:,} rules; its compilation is in it",
        )
    )
    return figures


def _figures(
    company: Company, found: Sequence[Round], reach_s: float | None, reach_mb: float | None
) -> list[Figure]:
    name, size = f"{company.rules} rules", company.nodes
    resident_mb = tuple(one.resident_bytes / 1e6 for one in found)
    text_s = min(one.text_s for one in found)
    note = f"concerns {found[0].differing:,} nodes; {text_s:.2f} s before for its text"
    edits_s = tuple(one.edit_s for one in found)
    edit_reach_s = _EDIT_REACH_S.get(size)
    return [
        Figure(
            f"filters and visibility of all, {name}",
            size,
            tuple(one.everything_s for one in found),
            "s",
            reach_s,
        ),
        Figure(f"resident memory then, {name}", size, resident_mb, "MB", reach_mb),
        Figure(f"edit of one of {name}", size, edits_s, "s", edit_reach_s, note=note),
    ]


def apart(work: Callable[[_Argument], _Result], argument: _Argument) -> _Result:
    """Call it in a fresh process."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(work, argument).result()


def _round(company: Company) -> Round:
    policy = compile_policy(_document(company.policy()))
    snapshot = introduced(populate(company.inventory(), Declaration(policy)))
    calm_collector()
    start = time.process_time()
    access = policy.resolve(snapshot)
    for slot in snapshot.slots.of.values():
        access.visible(slot)
        access.chunks(slot)
    everything_s = time.process_time() - start
    size = resident_bytes(os.getpid())
    text = company.policy(_EDITED_RULE)
    start = time.process_time()
    edited = _document(text)
    text_s = time.process_time() - start
    start = time.process_time()
    differing = _differing(access, compile_policy(edited).resolve(snapshot, access), snapshot)
    edit_s = time.process_time() - start
    if not 0 < differing < company.nodes:
        raise WrongPolicy("the edit concerns nobody, or everybody")
    return Round(everything_s, edit_s, text_s, differing, size)


def _differing(before: Access, after: Access, snapshot: Snapshot) -> int:
    """Return how many nodes have another filter; what is the same object needs no look."""
    slots = snapshot.slots.of.values()
    pairs = ((before.chunks(slot), after.chunks(slot)) for slot in slots)
    return sum(was is not now and was != now for was, now in pairs)


def _document(text: str) -> PolicyDocument:
    value, _ = hujson.parse(text, "policy.hujson")
    document = None if value is None else check(value, domain=DOMAIN)[0]
    if document is None:
        raise WrongPolicy("the policy of the company has an error")
    return document


def _check(company: Company) -> tuple[float, int]:
    """Return what it takes to read, check, compile and test a policy, and its size in bytes."""
    text = hujson.format(company.policy())
    calm_collector()
    start = time.process_time()
    value, _ = hujson.parse(text, "policy.hujson")
    policy = None if value is None else load(value, domain=DOMAIN)[0]
    took_s = time.process_time() - start
    if policy is None:
        raise WrongPolicy("the large policy has an error")
    return took_s, len(text.encode())

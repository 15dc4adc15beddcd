"""`SshEntry` -> `CompiledSsh`, numbered together with the sources and targets of packet rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mergescale.policy.compiled import SourceList, TargetKind
from mergescale.policy.document import PolicyDocument
from mergescale.policy.principals import named
from mergescale.policy.selectors import SELF, Autogroup, Selector
from mergescale.policy.ssh.compiled import CompiledSsh
from mergescale.policy.ssh.document import SshEntry


def in_force(document: PolicyDocument) -> list[SshEntry]:
    """Return the entries in the order that decides; those that name nobody are left out.

    SPEC(hosted service): entries that check come first.
    """
    entries = [one for one in document.ssh if one.sources and one.targets]
    return sorted(entries, key=lambda one: one.check_period is None)


def ssh_sources(document: PolicyDocument) -> Iterator[SourceList]:
    """Yield the source lists of all entries."""
    return (_source(one) for one in in_force(document))


def ssh_targets(document: PolicyDocument) -> Iterator[TargetKind]:
    """Yield the targets and recorders of all entries."""
    for one in in_force(document):
        yield from named((*_named_targets(one), *one.recorders))


def compile_ssh(
    document: PolicyDocument,
    sources: Mapping[SourceList, int],
    targets: Mapping[TargetKind, int],
) -> tuple[CompiledSsh, ...]:
    """Put the numbers of sources and targets in their places."""
    return tuple(
        CompiledSsh(
            source=sources[_source(one)],
            among=_bits(_named_targets(one), targets),
            own=any(_is_self(target) for target in one.targets),
            logins=one.logins,
            check_period=one.check_period,
            accept_env=one.accept_env,
            recorders=_bits(one.recorders, targets),
            recorded=one.recorded,
            origin=one.origin,
        )
        for one in in_force(document)
    )


def _source(entry: SshEntry) -> SourceList:
    return SourceList(named(entry.sources), frozenset(), everyone=False)


def _named_targets(entry: SshEntry) -> tuple[Selector, ...]:
    return tuple(one for one in entry.targets if not _is_self(one))


def _is_self(target: Selector) -> bool:
    return isinstance(target, Autogroup) and target.name == SELF


def _bits(selectors: tuple[Selector, ...], targets: Mapping[TargetKind, int]) -> int:
    bits = 0
    for one in named(selectors):
        bits |= 1 << targets[one]
    return bits

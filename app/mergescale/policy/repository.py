"""The texts of a watched repository -> a `Declaration`, or everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

from mergescale.domain.declaration import Declaration, DeclaredUser
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.tailnet import Dns, Relays, Settings
from mergescale.policy import hujson
from mergescale.policy.check import check
from mergescale.policy.compile import compile_policy
from mergescale.policy.compiled import CompiledPolicy, compiled
from mergescale.policy.diagnostics import (
    Diagnostic,
    Report,
    file_span,
    has_errors,
    sort_diagnostics,
)
from mergescale.policy.dubious import warn_dubious
from mergescale.policy.files import derp, dns, tags, tailnet, users
from mergescale.policy.files.validate import Schema, validate
from mergescale.policy.fragments import join
from mergescale.policy.hujson import Value
from mergescale.policy.overlaps import check_overlaps
from mergescale.policy.scope import ExtraGroup, ExtraTag, KnownUsers
from mergescale.policy.selftest import run_tests
from mergescale.policy.ssh.selftest import run_ssh_tests

POLICY: Final = "policy.hujson"
USERS: Final = "users.hujson"
TAGS: Final = "tags.hujson"
DERP: Final = "derp.hujson"
DNS: Final = "dns.hujson"
TAILNET: Final = "tailnet.hujson"
SUFFIX: Final = ".hujson"
#: LIMIT: characters of the policy and its fragments together; each file is bounded by `hujson`.
MAX_POLICY_CHARACTERS: Final = 2 << 20
#: Further parts of the policy.
FRAGMENTS: Final = "policy.d/"

#: What a repository without a policy comes to: nobody reaches anything.
NOTHING: Final[Mapping[str, str]] = {POLICY: '{"acls": []}'}

#: What may stand beside the policy, with the schema of each.
SCHEMAS: Final[Mapping[str, Schema]] = {
    TAILNET: tailnet.SCHEMA,
    USERS: users.SCHEMA,
    TAGS: tags.SCHEMA,
    DERP: derp.SCHEMA,
    DNS: dns.SCHEMA,
}
FILES: Final = (POLICY, *SCHEMAS)

#: Names that a broken file would have declared are not reported as missing.
_FOLLOWS: Final = {USERS: "policy.unknown-group", TAGS: "policy.unknown-tag"}


def declare(
    files: Mapping[str, str], *, tested: bool = True
) -> tuple[Declaration | None, tuple[Diagnostic, ...]]:
    """Read a repository.

    Args:
        files: path in the watched folder -> text. Names that do not end in ``.hujson`` are left
            alone, and so are folders other than ``policy.d``.
        tested: run the policy's own tests too. A commit in force was tested when it came; read
            again at a start, it only has to mean what it meant.

    Returns:
        What the texts mean, None when there is an error anywhere; and all that is to be said,
        sorted by file and place.
    """
    report = Report()
    ours = _bounded({name: text for name, text in files.items() if is_ours(name)}, report)
    _check_names(ours, report)
    values: dict[str, Value] = {}
    found: list[Diagnostic] = []
    for name in (*FILES, *_fragments(ours)):
        if name in ours:
            value, said = _parse(name, ours[name])
            found += said
            if value is not None:
                values[name] = value
    people, settings, names, relays = _read_beside(values, report)
    policy, said = _read_policy(values, ours, people, settings, report)
    found = [*found, *said, *report.diagnostics()]
    if policy is not None and tested:
        found += (*run_tests(policy), *run_ssh_tests(policy))
    diagnostics = sort_diagnostics(found)
    if policy is None or has_errors(diagnostics):
        return None, diagnostics
    return Declaration(
        policy, settings, names, policy.document.relays or relays, people
    ), diagnostics


def is_ours(path: str) -> bool:
    """Say whether a path in the watched folder is one that means something."""
    name = path.removeprefix(FRAGMENTS)
    return name.endswith(SUFFIX) and "/" not in name


def _bounded(files: Mapping[str, str], report: Report) -> dict[str, str]:
    """Return the files up to the one with which the policy is too large."""
    kept, size = {}, 0
    for name, text in sorted(files.items(), key=lambda one: (one[0] != POLICY, one[0])):
        size += len(text) if name == POLICY or name.startswith(FRAGMENTS) else 0
        if size > MAX_POLICY_CHARACTERS and name != POLICY:
            message = f"with this file the policy has more than {MAX_POLICY_CHARACTERS} characters"
            report.error("repository.too-large", file_span(name), message)
            break
        kept[name] = text
    return kept


def _fragments(files: Mapping[str, str]) -> list[str]:
    return sorted(name for name in files if name.startswith(FRAGMENTS))


def or_nothing(files: Mapping[str, str]) -> Mapping[str, str]:
    """Return texts to compare a first policy with: those without a policy get one of no rules."""
    here = POLICY in files or _fragments(files)
    return files if here else {**files, **NOTHING}


def selftest(declaration: Declaration, snapshot: Snapshot | None = None) -> tuple[Diagnostic, ...]:
    """Run the policy's own tests; return one error for each that fails.

    `snapshot` says which devices have which address; see `run_ssh_tests`.
    """
    policy = compiled(declaration.policy)
    return sort_diagnostics([*run_tests(policy), *run_ssh_tests(policy, snapshot)])


def _check_names(files: Mapping[str, str], report: Report) -> None:
    # INVARIANT(empty-never-widens): no policy is an error, never an empty or a default policy.
    if POLICY not in files and not _fragments(files):
        message = f"there is no {POLICY}"
        help_ = "every commit needs one; the policy in force stays"
        report.error("repository.no-policy", file_span(POLICY), message, help_)
    for name in files:
        if name not in FILES and not name.startswith(FRAGMENTS):
            report.unknown("repository.unknown-file", file_span(name), "file", name, FILES)


@lru_cache(maxsize=32)
def _parse(name: str, text: str) -> tuple[Value | None, tuple[Diagnostic, ...]]:
    """Read and validate one file; most commits leave most files as they are."""
    value, found = hujson.parse(text, name)
    if value is not None and name in SCHEMAS:
        found = (*found, *validate(value, SCHEMAS[name]))
    return value, found


def _read_beside(
    values: Mapping[str, Value], report: Report
) -> tuple[tuple[DeclaredUser, ...] | None, Settings, Dns, Relays]:
    """Read what stands beside the policy; defaults for what is not there."""
    return (
        users.read(values[USERS], report) if USERS in values else None,
        tailnet.read(values[TAILNET], report) if TAILNET in values else Settings(),
        dns.read(values[DNS], report) if DNS in values else Dns(),
        derp.read(values[DERP], report) if DERP in values else Relays(),
    )


def _read_policy(
    values: Mapping[str, Value],
    files: Mapping[str, str],
    people: tuple[DeclaredUser, ...] | None,
    settings: Settings,
    report: Report,
) -> tuple[CompiledPolicy | None, tuple[Diagnostic, ...]]:
    """Check the policy with what ``users.hujson`` and ``tags.hujson`` add to it."""
    names = [name for name in (POLICY, *_fragments(files)) if name in files]
    if not names or not all(name in values for name in names):
        return None, ()
    whole = join([values[name] for name in names], report)
    check_overlaps(whole, values, report)
    document, found = check(
        whole,
        extra_groups=_groups(values),
        extra_tags=_tags(values),
        known_users=None if people is None else _known(people),
        domain=settings.domain,
        open_without_rules=settings.open_without_rules,
    )
    if document is not None:
        warn_dubious(document, report, all_known=people is not None)
    broken = {code for name, code in _FOLLOWS.items() if name in files and name not in values}
    return (
        None if document is None else compile_policy(document),
        tuple(one for one in found if one.code not in broken),
    )


def _known(people: tuple[DeclaredUser, ...]) -> KnownUsers:
    roles = {one.login: one.role for one in people}
    return KnownUsers(roles.keys(), managed=True, roles=roles)


def _groups(values: Mapping[str, Value]) -> Iterator[ExtraGroup]:
    if USERS in values:
        for group, login in users.memberships(values[USERS]):
            yield ExtraGroup(str(group.scalar), (str(login.scalar),), group.span)


def _tags(values: Mapping[str, Value]) -> Iterator[ExtraTag]:
    if TAGS in values:
        for member, owners in tags.owners(values[TAGS]):
            yield ExtraTag(member.key, owners.items if owners is not None else (), member.key_span)

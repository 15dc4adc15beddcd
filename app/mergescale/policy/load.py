"""The whole way: a parsed policy file -> a policy that passed its own tests."""

from __future__ import annotations

from collections.abc import Iterable

from mergescale.policy.check import check
from mergescale.policy.compile import compile_policy
from mergescale.policy.compiled import CompiledPolicy
from mergescale.policy.diagnostics import Diagnostic, has_errors, sort_diagnostics
from mergescale.policy.hujson import Value
from mergescale.policy.scope import ExtraGroup, ExtraTag, KnownUsers
from mergescale.policy.selftest import run_tests
from mergescale.policy.ssh.selftest import run_ssh_tests


def load(
    value: Value,
    *,
    extra_groups: Iterable[ExtraGroup] = (),
    extra_tags: Iterable[ExtraTag] = (),
    known_users: KnownUsers | None = None,
    domain: str = "",
    open_without_rules: bool = False,
) -> tuple[CompiledPolicy | None, tuple[Diagnostic, ...]]:
    """Check, compile and test; see `check` for the arguments.

    Returns:
        The policy, None when something is wrong with it or one of its tests fails; and all that
        is to be said, sorted by place.
    """
    document, found = check(
        value,
        extra_groups=extra_groups,
        extra_tags=extra_tags,
        known_users=known_users,
        domain=domain,
        open_without_rules=open_without_rules,
    )
    if document is None:
        return None, found
    policy = compile_policy(document)
    diagnostics = sort_diagnostics([*found, *run_tests(policy), *run_ssh_tests(policy)])
    return None if has_errors(diagnostics) else policy, diagnostics

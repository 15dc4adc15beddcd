"""Flaws that other servers had, and the tests that keep us from having them."""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).parents[1]

_RACES: Final = "faults/test_fault_races.py::"
_APART: Final = "flows/test_control_isolation.py::"
_BRIDGE: Final = "unit/control/test_bridge.py::"
_PROCESS: Final = "hostile/test_hostile_process.py::"
_CREDENTIALS: Final = "hostile/test_flaws_credentials.py::"
_WEB: Final = "hostile/test_hostile_web.py::"
_REPOSITORIES: Final = "hostile/test_hostile_repositories.py::"
_TRUST: Final = "flows/test_gitops_trust.py::"

#: The flaw in a few words -> where it is tried. A module alone stands for all its tests.
FLAWS: Final = {
    "a single-use key used twice at once": [_RACES + "test_a_one_shot_key_admits_one_of_fifty"],
    "registering with a victim's node key": [
        _APART + "test_no_way_to_register_takes_another_machines_key"
    ],
    "a node found by its node key alone": [
        _APART + "test_every_handler_that_takes_a_node_key_refuses_another_machines"
    ],
    "an expired node back with a spent key": [
        _APART + "test_an_expired_device_stays_out_with_its_spent_key"
    ],
    "one machine registering twenty times": [
        _RACES + "test_one_machine_registering_twenty_times_is_one_node",
        "flows/test_control_races.py::test_one_machine_twenty_times_in_a_batch_is_one_node",
    ],
    "bodies of any length before authentication": [_PROCESS + "test_others_do_not_notice"],
    "pending logins without a bound": [
        "hostile/test_hostile_logins.py::test_what_pending_logins_leave_behind_is_bounded",
        "hostile/test_hostile_logins.py::test_a_flood_of_logins_drives_out_nobody",
    ],
    "an allocator that spins on a full range": [
        "faults/test_fault_exhausted.py::test_without_a_free_address_only_newcomers_are_refused"
    ],
    "headers of proxies that nobody trusts": [
        "unit/server/test_proxies.py",
        _WEB + "test_a_made_up_address_is_no_other_guesser",
    ],
    "secrets in logs, metrics and configuration": [
        "flows/test_operations.py::test_no_secret_leaves_the_server",
        "flows/test_database_password.py::test_a_password_stays_with_the_database",
    ],
    "credentials of repositories in logs, answers, arguments and files": [
        _CREDENTIALS + "test_tokens_are_seen_nowhere",
        _CREDENTIALS + "test_private_keys_are_seen_nowhere",
        "unit/api/test_api_credentials.py",
    ],
    "a success although no check was carried out": [
        "property/test_forge_reports.py::test_no_success_without_an_executed_check",
        "flows/test_gitops_forge.py::test_zero_tests_are_no_success",
    ],
    "a late pending over a success": [
        "property/test_forge_reports.py::test_what_is_final_is_never_followed_by_what_is_not",
        "flows/test_gitops_forge.py::test_a_forge_in_trouble_is_told_later_and_blocks_nothing",
    ],
    "plans of forks, for whoever opens one": [
        "unit/gitops/forges/test_proposals.py::test_nothing_is_planned_of_forks_unless_they_are_allowed"
    ],
    "a forge's token in logs, answers and files": [
        "flows/test_gitops_forge.py::test_the_token_is_nowhere_to_be_read"
    ],
    "a stored token sent to a new address, or after a redirect": [
        _CREDENTIALS + "test_a_changed_address_is_never_sent_the_old_ones_token",
        "faults/test_fault_remotes.py::test_a_redirect_is_not_followed",
        "flows/test_github_app.py::test_an_apps_signature_does_not_follow_a_redirect",
    ],
    "a commit that crashes the compiler, and the server after every restart": [
        "flows/test_gitops_trials.py",
        "unit/gitops/trying/test_proving.py",
    ],
    "a signer that the watched repository itself names": [
        "unit/gitops/trust/test_signatures.py::test_keys_that_the_repository_brings_are_not_trusted",
        _TRUST + "test_a_commit_that_adds_its_own_key_is_refused",
    ],
    "an old signed commit pushed again": [_TRUST + "test_an_old_signed_commit_does_not_come_back"],
    "a way round the signatures, by naming a commit": [
        _TRUST + "test_naming_a_commit_is_not_trusting_it",
        _TRUST + "test_accepting_a_rewritten_history_is_not_trusting_it",
    ],
    "options, variables and commands in addresses, refs and folders": [
        _REPOSITORIES + "test_words_that_mean_something_elsewhere_do_not_pass_the_grammar",
        _REPOSITORIES + "test_a_path_of_such_words_reaches_git_as_one_argument",
        "unit/gitops/git/test_source.py::test_whatever_passes_is_no_option_and_no_refspec",
    ],
    "a name of a ref that leaves refs/": [
        "unit/gitops/git/test_revisions.py::test_whatever_is_said_is_refused_or_harmless"
    ],
    "transports that run a program": [
        _REPOSITORIES + "test_the_parser_lets_no_other_transport_through",
        _REPOSITORIES + "test_configuration_of_each_call_lets_no_other_transport_through",
        _REPOSITORIES + "test_the_environment_lets_no_other_transport_through",
    ],
    "links, submodules, hooks, bombs and names that are paths, in a watched repository": [
        _REPOSITORIES + "test_it_is_refused_and_nothing_else_happens",
        _REPOSITORIES + "test_many_bombs_within_the_limits_end_with_the_time",
    ],
    "bad objects that the second fetch takes for known": [
        "flows/test_gitops_quarantine.py::test_bad_objects_are_refused_as_often_as_they_are_fetched"
    ],
    "a webhook's body that breaks the server, or tells it what to fetch": [
        "property/test_hook_payloads.py",
        "unit/api/test_api_hooks.py::test_the_body_is_capped_before_anything_is_made_of_it",
    ],
    "a webhook's delivery sent again": ["unit/gitops/test_hooks.py::test_a_repetition_is_seen"],
    "policies that multiply": ["unit/policy/test_bombs.py"],
    "one bad row that breaks everybody's map": [
        "faults/test_fault_poison.py::test_nonsense_in_a_column_is_its_own_rows_problem"
    ],
    "rapid resets": [_BRIDGE + "test_rapid_resets_are_stopped"],
    "floods of frames, windows of zero": [
        _BRIDGE + "test_a_flood_of_any_frame_is_stopped",
        "property/test_bridge_hostile.py",
    ],
    "handshakes without a proof, without a bound": [
        "hostile/test_hostile_strangers.py::test_silence_from_one_place_leaves_room_for_others"
    ],
    "idle sockets until descriptors run out": [_PROCESS + "test_ten_thousand_idle_sockets"],
    "answers that nobody reads": ["hostile/test_hostile_readers.py"],
    "a WebSocket header that is no ASCII": [
        _WEB + "test_a_websocket_header_that_is_no_ascii_harms_nobody"
    ],
    "a path out of the static folder": [_WEB + "test_no_file_but_the_static_ones_is_served"],
    "forms of a million parts": [_WEB + "test_a_form_of_very_many_parts_is_not_read"],
    "an origin mistaken for a good one": [_WEB + "test_no_other_origin_is_let_in"],
    "a cache that takes one name for another": [
        _WEB + "test_answers_are_not_kept_for_somebody_else"
    ],
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_what_keeps_a_flaw_out_exists(flaw: str) -> None:
    """Each test is a function that pytest collects and has a claim."""
    for where in FLAWS[flaw]:
        path, _, name = where.partition("::")
        claims = _claims(TESTS / path)
        assert claims.get(name) if name else claims, f"{where} does not exist or claims nothing"


@functools.cache
def _claims(path: Path) -> dict[str, str | None]:
    """Return the tests at the top of a module with what they claim."""
    return {
        node.name: ast.get_docstring(node)
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }

"""Where each of the 54 pitfalls of the protocol (spec 9.3) is covered.

A pitfall is covered by tests that fail for whoever steps into it. Where the construction rules it
out as well, the entry names what does: ``module:name``.
"""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Covered:
    """One pitfall.

    Attributes:
        pitfall: what must not happen.
        tests: ``file::function``, files from ``tests/``.
        made_impossible_by: ``module:name`` of what rules it out by construction; may be empty.
    """

    pitfall: str
    tests: tuple[str, ...]
    made_impossible_by: str = ""


MESSAGES = "flows/test_pitfalls_messages.py::"
REGISTER = "flows/test_control_register.py::"
MAP = "flows/test_control_map.py::"
APART = "flows/test_control_isolation.py::"
C2N = "flows/test_control_c2n.py::"
PUBLIC = "flows/test_control_public.py::"
RACES = "unit/control/test_poll_races.py::"
SERVER = "flows/test_pitfalls_server.py::"
LEDGER = "property/test_netmap_ledger.py::"

PITFALLS: dict[int, Covered] = {
    # ------------------------------------------------------------------ connection
    1: Covered(
        "little-endian nonce",
        (
            "unit/wire/noise/test_noise_transcript.py::test_control_seals_the_recorded_records",
            "unit/wire/noise/test_noise_transport.py::test_several_records_each_way_keep_their_order",
            "unit/wire/noise/test_noise_interop.py::test_reference_client_talks_to_our_server",
        ),
    ),
    2: Covered(
        "prologue with the server's version",
        (
            "unit/wire/noise/test_noise_handshake.py::test_prologue_takes_the_version_of_the_initiation",
        ),
    ),
    3: Covered(
        "records of more than 4096 bytes",
        (
            "unit/wire/noise/test_noise_transport.py::test_long_plaintext_becomes_records_of_4096_bytes",
            "unit/control/test_channel.py::test_large_bodies_pass_in_both_directions",
        ),
    ),
    4: Covered(
        "bytes lost behind a head or a record",
        (
            "unit/control/test_channel.py::test_bytes_behind_the_head_reach_noise",
            "unit/control/test_channel.py::test_records_may_arrive_a_byte_at_a_time",
            "property/test_noise_channel.py::test_chunking_does_not_change_the_plaintext",
        ),
    ),
    5: Covered(
        "something else than SETTINGS first, or text after 101",
        (
            "unit/control/test_bridge.py::test_settings_come_first_and_allow_a_hundred_streams",
            "unit/control/test_upgrade.py::test_old_clients_are_told_the_minimum",
            "unit/control/test_channel.py::test_old_clients_see_the_minimum",
        ),
    ),
    6: Covered(
        "early payload that is too long for Rust: none is sent, HTTP/2 begins at once",
        (
            "unit/control/test_bridge.py::test_settings_come_first_and_allow_a_hundred_streams",
            "unit/control/test_channel.py::test_a_client_registers_and_polls_on_one_connection",
        ),
    ),
    7: Covered(
        "absolute targets; a proxy's part is the operator's, and in the readme",
        (
            "unit/server/test_edge.py::test_absolute_targets_are_normalised",
            PUBLIC + "test_an_absolute_target_is_the_same_path",
            C2N + "test_paths_lose_their_origin_and_authorities_mean_nothing",
            "flows/test_relay_http.py::test_an_absolute_target_is_probed_too",
        ),
    ),
    8: Covered(
        "few streams, windows not given back, one handler blocking the others",
        (
            "unit/control/test_bridge.py::test_settings_come_first_and_allow_a_hundred_streams",
            "unit/control/test_bridge.py::test_uploads_replenish_the_windows",
            C2N + "test_one_waiting_request_stops_no_other",
        ),
    ),
    9: Covered(
        "a new connection killing an older one of the machine",
        (
            "unit/control/test_channel.py::test_connections_of_one_machine_do_not_disturb_each_other",
            C2N + "test_a_node_answers_on_a_second_connection",
        ),
    ),
    10: Covered(
        "frames not flushed, or compressed by HTTP",
        (
            "unit/control/test_bridge.py::test_headers_leave_before_the_first_chunk",
            MAP + "test_a_stream_begins_with_headers_and_the_whole_map",
        ),
    ),
    # ------------------------------------------------------------------ register
    11: Covered(
        "a refusal as an HTTP error",
        (
            REGISTER + "test_a_one_shot_key_admits_one_device",
            REGISTER + "test_an_old_client_is_told_what_to_do",
            REGISTER + "test_a_key_another_tailnet_took_meanwhile_is_refused",
            APART + "test_no_way_to_register_takes_another_machines_key",
        ),
    ),
    12: Covered(
        "members missing, or authorized beside an AuthURL",
        (
            "unit/wire/tailcfg/test_response_encoding.py::test_an_accepted_registration_has_all_seven_members",
            "unit/wire/tailcfg/test_response_encoding.py::test_a_pending_registration_is_not_authorized",
            REGISTER + "test_an_interactive_login_completes_in_the_request_that_waits",
        ),
        "mergescale.wire.tailcfg.register:RegisterResponse",
    ),
    13: Covered(
        "a follow-up answered at once with the same URL",
        (
            REGISTER + "test_an_interactive_login_completes_in_the_request_that_waits",
            REGISTER + "test_a_hold_has_an_end",
        ),
    ),
    14: Covered(
        "a follow-up unknown after its completion",
        (
            REGISTER + "test_an_interactive_login_completes_in_the_request_that_waits",
            REGISTER + "test_an_approval_before_the_follow_up_is_not_missed",
        ),
    ),
    15: Covered(
        "a logout taken for a login",
        (
            REGISTER + "test_a_logout_is_no_login",
            "unit/state/test_registration.py::test_logout_goes_before_the_auth_key",
        ),
    ),
    16: Covered(
        "NodeKeyExpired for a fresh key", (REGISTER + "test_only_a_known_key_can_be_expired",)
    ),
    17: Covered(
        "a NodeKeySignature without tailnet lock",
        (
            REGISTER + "test_a_key_admits_a_device_and_says_whose_it_is",
            REGISTER + "test_a_rotation_keeps_the_device",
        ),
        "mergescale.wire.tailcfg.register:accepted",
    ),
    18: Covered(
        "a one-shot key validated again on restart",
        (
            REGISTER + "test_a_restart_needs_no_good_key",
            "unit/state/test_registration.py::test_restart_with_a_spent_key_succeeds",
        ),
    ),
    19: Covered(
        "empty LoginName or StableID",
        (
            REGISTER + "test_a_tagged_device_has_a_profile_too",
            "unit/wire/tailcfg/test_response_encoding.py::test_an_accepted_registration_needs_a_login_name",
            MESSAGES + "test_owners_are_introduced",
        ),
    ),
    20: Covered(
        "a node key not bound to its machine key",
        (
            APART + "test_no_way_to_register_takes_another_machines_key",
            APART + "test_no_map_request_works_with_another_machines_key",
            APART + "test_a_link_of_another_machine_gives_a_login_of_ones_own",
            C2N + "test_a_node_answers_on_a_second_connection",
        ),
    ),
    # ------------------------------------------------------------------ map
    21: Covered(
        "a first frame without Node, a delta before the full map",
        (
            MAP + "test_a_stream_begins_with_headers_and_the_whole_map",
            "unit/fanout/test_mailbox.py::test_what_comes_during_the_first_write_is_the_first_delta",
            RACES + "test_a_node_deleted_before_its_stream_began_is_told_so",
            MESSAGES + "test_only_the_first_message_lists_all_peers",
        ),
    ),
    22: Covered(
        "an empty 200 on errors",
        (
            MAP + "test_deleting_a_node_ends_its_stream",
            MAP + "test_an_old_client_is_refused_with_a_text",
            REGISTER + "test_what_is_no_request_is_a_400_with_a_text",
            RACES + "test_a_node_deleted_during_its_update_is_not_found",
        ),
    ),
    23: Covered(
        "no keepalive, a late first frame",
        (
            MAP + "test_silence_is_broken_by_the_bytes_clients_know",
            MAP + "test_headers_come_before_the_first_message",
            "unit/fanout/test_hub.py::test_deltas_put_the_keepalive_off",
        ),
    ),
    24: Covered(
        "length in the wrong order, zstd where raw was asked for and the reverse",
        (
            "unit/wire/test_mapframe.py::test_length_is_little_endian",
            "unit/wire/test_mapframe.py::test_joined_frames_decode_to_one_text",
            MAP + "test_raw_frames_for_who_did_not_ask_for_zstd",
        ),
    ),
    25: Covered(
        "applying what a streaming request carries",
        (MAP + "test_a_streaming_request_changes_nothing",),
    ),
    26: Covered(
        "a lite update that ends the stream",
        (MAP + "test_a_lite_update_reaches_peers_and_leaves_the_stream_alone",),
    ),
    27: Covered(
        "an empty list for no peers",
        (
            MESSAGES + "test_only_the_first_message_lists_all_peers",
            "unit/netmap/test_delta.py::test_a_policy_that_takes_everything_away_says_so",
        ),
    ),
    28: Covered(
        "a full list beside deltas",
        (
            MESSAGES + "test_only_the_first_message_lists_all_peers",
            LEDGER + "test_folded_deltas_equal_the_full_map",
        ),
    ),
    29: Covered(
        "Node sent again without all of it",
        (
            MESSAGES + "test_a_node_is_always_told_whole",
            LEDGER + "test_folded_deltas_equal_the_full_map",
        ),
    ),
    30: Covered(
        "the own node not authorized by omission",
        (
            MESSAGES + "test_a_node_is_always_told_whole",
            "unit/netmap/test_full_map.py::test_a_node_that_awaits_approval_knows_it",
        ),
    ),
    31: Covered(
        "an expiry in the past by accident",
        (
            MESSAGES + "test_no_expiry_is_in_the_past_by_accident",
            "unit/netmap/test_full_map.py::test_expiry_is_told_as_it_is",
            MAP + "test_an_expired_node_hears_so_on_its_stream",
        ),
    ),
    32: Covered(
        "a disco key that never arrives at peers",
        (
            MAP + "test_a_lite_update_reaches_peers_and_leaves_the_stream_alone",
            MESSAGES + "test_what_was_heard_is_what_is",
        ),
    ),
    33: Covered(
        "a peer missing on one side",
        ("property/test_policy_access.py::test_visibility_is_symmetric_and_never_of_oneself",),
    ),
    34: Covered(
        "empty AllowedIPs, routes in PrimaryRoutes only",
        (
            MESSAGES + "test_routes_are_allowed_before_they_are_primary",
            "unit/netmap/test_full_map.py::test_only_the_primary_router_carries_a_route",
        ),
    ),
    35: Covered(
        "no relay map, a home that peers do not learn",
        (
            MESSAGES + "test_the_relay_map_is_sent_once",
            SERVER + "test_the_servers_own_relay_promises_only_what_it_serves",
            "unit/policy_files/test_derp_file.py::test_what_is_wrong_is_underlined",
            MAP + "test_a_lite_update_reaches_peers_and_leaves_the_stream_alone",
        ),
    ),
    36: Covered(
        "a relay map that differs each time, region ids above 65535",
        (
            MESSAGES + "test_the_relay_map_is_sent_once",
            "unit/netmap/test_delta.py::test_another_commit_that_says_the_same_is_silent",
        ),
    ),
    37: Covered(
        "filters that clients drop: absent, host bits, SrcBits, one family",
        (
            MESSAGES + "test_filters_are_ones_that_clients_keep",
            "property/test_policy_access.py::test_filters_admit_what_the_rules_say",
            "unit/domain/test_prefixes.py::test_host_bits_and_garbage_are_refused",
        ),
        "mergescale.wire.tailcfg.filter:FilterRule",
    ),
    38: Covered(
        "a peer whose user has no profile",
        (
            MESSAGES + "test_owners_are_introduced",
            "unit/netmap/test_delta.py::test_a_newcomer_comes_with_its_owner",
        ),
    ),
    39: Covered(
        "a disco key dropped with old news",
        (
            MESSAGES + "test_no_patch_is_one_that_clients_drop",
            "unit/netmap/test_delta.py::test_a_new_disco_key_of_a_node_that_left_is_not_dropped",
        ),
    ),
    40: Covered("a wrong ControlTime", (MAP + "test_a_map_tells_the_time_of_now",)),
    41: Covered(
        "Debug.Exit by accident",
        (
            MESSAGES + "test_nothing_ends_or_silences_a_client",
            "unit/wire/tailcfg/test_response_encoding.py::test_exit_zero_is_told_from_no_exit",
        ),
    ),
    42: Covered(
        "DisableLogTail beside the audit log capability",
        (MESSAGES + "test_nothing_ends_or_silences_a_client",),
    ),
    43: Covered(
        "a PingRequest with a known URL, an answer that needs a length",
        (
            C2N + "test_every_request_has_an_address_of_its_own",
            C2N + "test_a_node_answers_on_a_second_connection",
        ),
    ),
    44: Covered(
        "impossible ids, one key under two of them",
        (
            MESSAGES + "test_ids_are_numbers_of_one_node",
            APART + "test_a_node_key_that_waits_for_approval_is_nobodys_yet",
            "unit/state/test_logins.py::test_node_key_taken_meanwhile_is_a_conflict",
        ),
    ),
    45: Covered(
        "escapes, null lists, one address: the Rust client's stream ends",
        (
            MESSAGES + "test_rust_can_read_every_message",
            "unit/netmap/test_full_map.py::test_text_that_people_choose_needs_no_escape",
            "unit/wire/tailcfg/test_response_encoding.py::test_a_refusal_is_plain_text_in_the_error_member",
        ),
    ),
    46: Covered(
        "requests read with regard to case",
        (
            MAP + "test_a_rust_update_is_read_like_a_go_one",
            "unit/wire/tailcfg/test_request_decoding.py::test_a_rust_map_request_is_read_like_a_go_one",
        ),
    ),
    47: Covered(
        "names without dot, with another suffix, or that break everybody's map",
        (
            MESSAGES + "test_names_are_ones_that_dns_can_say",
            "flows/test_pitfalls_rows.py::test_an_impossible_row_is_its_own_nodes_problem",
        ),
    ),
    # ------------------------------------------------------------------ relay
    48: Covered(
        "HTTP/2 offered on the relay, an HTTP answer to a fast start",
        (
            "flows/test_relay_derp.py::test_a_fast_start_has_no_http_answer",
            "flows/test_relay_derp.py::test_tls_clients_see_the_pinned_certificate",
        ),
    ),
    49: Covered(
        "admission by stale state",
        (
            "flows/test_relay_derp.py::test_a_node_is_let_in_as_soon_as_it_is_known",
            PUBLIC + "test_relays_learn_whose_keys_are_ours",
        ),
    ),
    50: Covered(
        "a slow reader that blocks the relay",
        (
            "flows/test_relay_derp.py::test_a_slow_reader_costs_others_nothing",
            "unit/wire/derp/test_derp_relay.py::test_paused_client_keeps_the_newest_packets",
        ),
    ),
    51: Covered(
        "PeerGone too often or not at all",
        (
            "unit/wire/derp/test_derp_relay.py::test_unknown_destination_is_told_for_disco_only",
            "unit/wire/derp/test_derp_relay.py::test_not_here_is_told_once_a_second",
            "unit/wire/derp/test_derp_relay.py::test_those_who_heard_a_leaver_are_told",
        ),
    ),
    52: Covered(
        "STUN answered from elsewhere, or on one family only",
        (
            "unit/relay/test_stun_server.py::test_the_answer_comes_from_the_address_that_was_asked",
            "unit/relay/test_stun_server.py::test_the_wildcard_serves_both_families_on_one_port",
            SERVER + "test_the_servers_own_relay_promises_only_what_it_serves",
        ),
    ),
    53: Covered(
        "CanPort80 without anybody on port 80",
        (
            SERVER + "test_the_servers_own_relay_promises_only_what_it_serves",
            PUBLIC + "test_a_captive_portal_check_is_answered",
        ),
    ),
    54: Covered(
        "a latency check that closes the connection",
        ("flows/test_relay_http.py::test_probes_are_answered_on_a_connection_that_stays",),
    ),
}


def test_every_pitfall_is_there() -> None:
    """One to fifty-four, each with words and with a test."""
    assert sorted(PITFALLS) == list(range(1, 55))
    assert all(one.pitfall and one.tests for one in PITFALLS.values())


@pytest.mark.parametrize("number", sorted(PITFALLS))
def test_what_covers_a_pitfall_exists(number: int) -> None:
    """Each test is a function that pytest collects and has a claim."""
    for where in PITFALLS[number].tests:
        path, _, name = where.partition("::")
        function = _functions(ROOT / "tests" / path).get(name)
        assert function is not None, f"{where} does not exist"
        assert ast.get_docstring(function), f"{where} claims nothing"
    module, _, name = PITFALLS[number].made_impossible_by.partition(":")
    if module:
        source = ROOT / "app" / Path(*module.split(".")).with_suffix(".py")
        assert name in _names(source), f"{module} has no {name}"


@functools.cache
def _functions(path: Path) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return the test functions at the top of a module."""
    return {
        node.name: node
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name.startswith("test_")
    }


@functools.cache
def _names(path: Path) -> set[str]:
    """Return the classes and functions at the top of a module."""
    body = ast.parse(path.read_text("utf-8")).body
    kinds = ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
    return {node.name for node in body if isinstance(node, kinds)}

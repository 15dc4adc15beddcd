"""Who may log in over SSH (MapResponse.SSHPolicy, spec 5.2), evaluated by the client that gets it.

A rule is encoded once for all nodes that have it, and compressed once if it is long.
"""

from __future__ import annotations

from typing import Final

from msgspec import UNSET
from msgspec.structs import replace

from mergescale.domain.access import SshRule
from mergescale.netmap.parts import SHARE_BYTES, Part, Shared, separated
from mergescale.netmap.recent import Recent
from mergescale.wire.tailcfg.encode import encode, member
from mergescale.wire.tailcfg.ssh import (
    SSHAction,
    SSHPolicy,
    SSHPrincipal,
    SSHRecorderFailureAction,
)
from mergescale.wire.tailcfg.ssh import SSHRule as WireRule

#: LIMIT: rules kept encoded; a policy has a few dozen, and one for each person at their own nodes.
_RULES: Final = 4096
_OPEN: Final = b"{" + member(SSHPolicy, "rules") + b"["
#: SPEC(ssh 5.2): asked over Noise by the destination; it fills in ids and the mapped user.
HOLD_URL: Final = "/machine/ssh/action/$SRC_NODE_ID/to/$DST_NODE_ID?local_user=$LOCAL_USER"
#: Where recorders listen (tsrecorder's fixed port).
_RECORDER_PORT: Final = 80
_UNRECORDED: Final = "sessions here are recorded, and no recorder can be reached"
_ON_FAILURE: Final = SSHRecorderFailureAction(
    reject_session_with_message=_UNRECORDED,
    terminate_session_with_message="the recording of this session failed",
)


class SshPolicies:
    """Writes the SSH policies of one server's nodes, remembering the rules it encoded."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._rules: Recent[int, tuple[SshRule, Part]] = Recent(_RULES)

    def whole(self, rules: tuple[SshRule, ...]) -> list[Part]:
        """Return SSHPolicy; without rules it still takes away what the client had."""
        return [_OPEN, *separated([[self._rule(rule)] for rule in rules]), b"]}"]

    def _rule(self, rule: SshRule) -> Part:
        # Keyed by identity, and kept beside the value so that no other object gets the same id.
        return self._rules.get(id(rule), lambda: (rule, self._encoded(rule)))[1]

    def _encoded(self, rule: SshRule) -> Part:
        text = encode(wire_rule(rule, self._server_url))
        return text if len(text) < SHARE_BYTES else Shared((text,))


def wire_rule(rule: SshRule, server_url: str) -> WireRule:
    """Return tailcfg.SSHRule; `server_url` is asked where a person has to approve."""
    return WireRule(
        principals=tuple(SSHPrincipal(node_ip=address) for address in rule.principals),
        ssh_users=dict(rule.logins),
        action=first_action(rule, server_url),
        accept_env=rule.accept_env,
    )


def first_action(rule: SshRule, server_url: str) -> SSHAction:
    """Return what happens when the rule matches: accept, ask the server, or refuse."""
    if rule.check_period is not None and (rule.recorders or not rule.recorded):
        return _recorded(SSHAction(hold_and_delegate=server_url + HOLD_URL), rule)
    return final_action(rule)


def final_action(rule: SshRule) -> SSHAction:
    """Return what happens once nothing is left to be approved.

    INVARIANT(enforced-recorder): a client records nothing when it is given no recorder, so
    enforcing is the server's.
    """
    if rule.recorded and not rule.recorders:
        return SSHAction(reject=True, message=_UNRECORDED)
    accept = SSHAction(
        accept=True,
        allow_agent_forwarding=True,
        allow_local_port_forwarding=True,
        allow_remote_port_forwarding=True,
    )
    return _recorded(accept, rule)


def _recorded(action: SSHAction, rule: SshRule) -> SSHAction:
    if not rule.recorders:
        return action
    hosts = (f"[{one}]" if ":" in one else one for one in rule.recorders)
    recorders = tuple(f"{one}:{_RECORDER_PORT}" for one in hosts)
    failure = _ON_FAILURE if rule.recorded else UNSET
    return replace(action, recorders=recorders, on_recording_failure=failure)

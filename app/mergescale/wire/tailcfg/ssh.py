"""tailcfg.SSHPolicy and its parts, evaluated on the destination node (spec 5.2).

Names start with a lower-case letter here, but for SSHRecorderFailureAction.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import UNSET, UnsetType, field

from mergescale.wire.tailcfg.names import CamelWire, Wire


class SSHPrincipal(CamelWire, frozen=True, kw_only=True):
    """tailcfg.SSHPrincipal: who may connect; one member is set.

    WIRE(capver 110): ``pubKeys`` is dead and has no place here.

    Attributes:
        node: StableID of the source.
        node_ip: exact source IP.
        user_login: UserProfile.LoginName of the source, whatever its tags.
        any: everyone.
    """

    node: str = ""
    node_ip: str = field(name="nodeIP", default="")
    user_login: str = ""
    any: bool = False


class SSHRecorderFailureAction(Wire, frozen=True, kw_only=True):
    """tailcfg.SSHRecorderFailureAction: what happens when no recorder takes the session.

    Attributes:
        reject_session_with_message: refuses a session that could not start recording.
        terminate_session_with_message: ends a session whose recording broke; empty goes on.
        notify_url: gets a POST over Noise.
    """

    reject_session_with_message: str = ""
    terminate_session_with_message: str = ""
    notify_url: str = ""


class SSHAction(CamelWire, frozen=True, kw_only=True):
    """tailcfg.SSHAction; the order of evaluation is accept, reject, holdAndDelegate.

    Attributes:
        message: shown as a banner.
        reject: ends the attempt.
        accept: lets it in.
        session_duration: nanoseconds; 0 is unlimited.
        allow_agent_forwarding: as named.
        hold_and_delegate: URL template that is asked over Noise while the attempt waits.
        allow_local_port_forwarding: as named.
        allow_remote_port_forwarding: as named.
        recorders: ``ip:port`` of recorders, tried in order.
        on_recording_failure: absent lets the session go on unrecorded.
    """

    message: str = ""
    reject: bool = False
    accept: bool = False
    session_duration: int = 0
    allow_agent_forwarding: bool = False
    hold_and_delegate: str = ""
    allow_local_port_forwarding: bool = False
    allow_remote_port_forwarding: bool = False
    recorders: tuple[str, ...] = ()
    on_recording_failure: SSHRecorderFailureAction | UnsetType = UNSET


class SSHRule(CamelWire, frozen=True, kw_only=True):
    """tailcfg.SSHRule; the first rule that matches decides.

    Attributes:
        rule_expires: the rule is ignored afterwards; absent is never.
        principals: any one must match.
        ssh_users: requested user to local user; ``*`` is the default, ``=`` the same name (never
            root), empty no match.
        action: what happens; a rule without one is skipped, so it is required here.
        accept_env: patterns of variables; needs the ``ssh-env-vars`` capability.
    """

    rule_expires: datetime | UnsetType = UNSET
    principals: tuple[SSHPrincipal, ...]
    ssh_users: dict[str, str]
    action: SSHAction
    accept_env: tuple[str, ...] = ()


class SSHPolicy(CamelWire, frozen=True, kw_only=True):
    """tailcfg.SSHPolicy.

    Attributes:
        rules: always sent; the empty list takes all access away.
    """

    rules: tuple[SSHRule, ...]

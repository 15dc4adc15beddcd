"""A parsed policy file -> `PolicyDocument`, or everything that is wrong with it.

What this version does not have is refused by name: ignoring it would change what a policy means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Final

from mergescale.domain.prefixes import Prefix
from mergescale.domain.user import Role
from mergescale.policy.attrconfig import read_attr_config
from mergescale.policy.derpmap import read_derp_map
from mergescale.policy.diagnostics import Diagnostic, Report, quoted
from mergescale.policy.document import PolicyDocument, RouteApproval, Rule, Target
from mergescale.policy.fields import expect, fields, items, members, string, texts
from mergescale.policy.hujson import Kind, Member, Value
from mergescale.policy.ipsets import read_ip_sets
from mergescale.policy.nodeattrs import read_node_attributes
from mergescale.policy.ports import ALL_PORTS
from mergescale.policy.posturefile import read_postures, read_source_postures
from mergescale.policy.rules import read_acl, read_grant
from mergescale.policy.scope import ExtraGroup, ExtraTag, KnownUsers, Scope
from mergescale.policy.selectors import (
    PEOPLE,
    TAGGED,
    Autogroup,
    DomainUsers,
    Everyone,
    Group,
    Malformed,
    Selector,
    Service,
    Tag,
    User,
    group_problem,
    parse_range,
    parse_selector,
    tag_problem,
)
from mergescale.policy.ssh.reachability import warn_unreachable
from mergescale.policy.ssh.rules import read_ssh
from mergescale.policy.ssh.testcases import read_ssh_test
from mergescale.policy.testcases import read_test

_SECTIONS: Final = (
    "groups",
    "hosts",
    "ipsets",
    "tagOwners",
    "acls",
    "grants",
    "autoApprovers",
    "tests",
    "nodeAttrs",
    "randomizeClientPort",
    "disableIPv4",
    "oneCGNATRoute",
    "ssh",
    "sshTests",
    "postures",
    "defaultSrcPosture",
    "attrConfig",
    "derpMap",
    "$schema",
)
_UNSUPPORTED: Final = {
    "extraDNSRecords": "DNS belongs into dns.hujson",
}
_HOST_NAME_STOPS: Final = frozenset('/:@* "')


def check(
    value: Value,
    *,
    extra_groups: Iterable[ExtraGroup] = (),
    extra_tags: Iterable[ExtraTag] = (),
    known_users: KnownUsers | None = None,
    domain: str = "",
    open_without_rules: bool = False,
) -> tuple[PolicyDocument | None, tuple[Diagnostic, ...]]:
    """Read a policy.

    Args:
        value: what `hujson.parse` made of ``policy.hujson``.
        extra_groups: what ``users.hujson`` says about groups.
        extra_tags: what ``tags.hujson`` declares.
        known_users: who exists, as far as that is known.
        domain: the tailnet's, whose people ``user:*@domain`` may name.
        open_without_rules: neither ``acls`` nor ``grants`` means that everything is allowed, as
            the hosted service has it; else it is an error.

    Returns:
        The document, None when there is an error; and everything there is to say.
    """
    report = Report()
    scope = Scope(report, known_users, domain)
    sections = fields(value, report, what="policy", known=_SECTIONS, unsupported=_UNSUPPORTED)
    string(sections.get("$schema"), report, "$schema")
    _read_groups(sections.get("groups"), extra_groups, scope)
    _read_hosts(sections.get("hosts"), scope)
    scope.ip_sets.update(read_ip_sets(sections.get("ipsets"), scope))
    owners = _declare_tags(sections.get("tagOwners"), extra_tags, scope)
    configs = read_attr_config(sections.get("attrConfig"), scope)
    scope.postures.update(read_postures(sections.get("postures"), configs, scope))
    default = sections.get("defaultSrcPosture")
    scope.default_postures = read_source_postures(
        default, scope.postures, scope, "defaultSrcPosture"
    )
    routes, exits = _read_approvers(sections.get("autoApprovers"), scope)
    document = PolicyDocument(
        groups=scope.groups,
        hosts=scope.hosts,
        ip_sets=scope.ip_sets,
        tag_places=scope.tags,
        tag_owners={tag: _read_owners(tag, ones, scope) for tag, ones in owners.items()},
        rules=_read_rules(value, sections, scope, open_without_rules=open_without_rules),
        route_approvals=routes,
        exit_approvers=exits,
        tests=tuple(
            test
            for one in items(sections.get("tests"), report, "tests")
            if (test := read_test(one, scope)) is not None
        ),
        roles={} if known_users is None else _folded(known_users.roles),
        postures=scope.postures,
        attribute_configs=configs,
        relays=read_derp_map(sections.get("derpMap"), report),
        node_attributes=read_node_attributes(sections, scope),
        ssh=tuple(
            entry
            for one in items(sections.get("ssh"), report, "ssh")
            if (entry := read_ssh(one, scope)) is not None
        ),
        ssh_tests=tuple(
            ssh_test
            for one in items(sections.get("sshTests"), report, "sshTests")
            if (ssh_test := read_ssh_test(one, scope)) is not None
        ),
    )
    warn_unreachable(document, report)
    return None if report.failed else document, report.diagnostics()


def _folded(roles: Mapping[str, Role]) -> dict[str, Role]:
    return {login.casefold(): role for login, role in roles.items()}


def _read_rules(
    value: Value, sections: dict[str, Value], scope: Scope, *, open_without_rules: bool
) -> tuple[Rule, ...]:
    # INVARIANT(empty-never-widens): the hosted service admits everything when both are absent.
    unruled = not {"acls", "grants"} & sections.keys()
    if value.kind in {Kind.OBJECT, Kind.NULL} and unruled:
        if open_without_rules and value.kind is Kind.OBJECT:
            everything = Target(Everyone(value.span), ALL_PORTS)
            return (Rule((Everyone(value.span),), (everything,), value.span),)
        message = "the policy has neither acls nor grants"
        help_ = 'write "acls": [] to admit nothing'
        scope.report.error("policy.no-rules", value.span, message, help_)
    rules = [read_acl(one, scope) for one in items(sections.get("acls"), scope.report, "acls")]
    grants = items(sections.get("grants"), scope.report, "grants")
    rules += [read_grant(one, scope) for one in grants]
    return tuple(rule for rule in rules if rule is not None)


def _read_groups(value: Value | None, extra: Iterable[ExtraGroup], scope: Scope) -> None:
    report = scope.report
    for member in members(value, report, "groups"):
        if problem := group_problem(member.key):
            help_ = 'group names start with "group:"'
            report.error("policy.group", member.key_span, problem, help_)
            continue
        logins = [
            login
            for text, one in texts(member.value, report, f"the members of {member.key}")
            if (login := _group_member(member.key, text, one, scope)) is not None
        ]
        scope.groups[member.key] = tuple(dict.fromkeys(logins))
    for group in extra:
        logins = [*scope.groups.get(group.name, ()), *(one.casefold() for one in group.members)]
        scope.groups[group.name] = tuple(dict.fromkeys(logins))


def _group_member(group: str, text: str, value: Value, scope: Scope) -> str | None:
    match parse_selector(text, value.span):
        case User(login):
            scope.login(login, value.span)
            return login
        case Group():
            message = f"groups[{quoted(group)}]: {quoted(text)}: group members cannot be recursive"
        case _:
            message = f"groups[{quoted(group)}]: {quoted(text)} is not a login"
    scope.report.error("policy.group", value.span, message, "list logins")
    return None


def _read_hosts(value: Value | None, scope: Scope) -> None:
    report = scope.report
    for member in members(value, report, "hosts"):
        name, text = member.key, string(member.value, report, "an address of hosts")
        if not name or _HOST_NAME_STOPS & set(name) or parse_range(name) is not None:
            message = f"{quoted(name)} is not a host name"
            report.error("policy.host", member.key_span, message)
        if text is None:
            continue
        match parse_range(text):
            case None:
                message = f"hosts[{quoted(name)}]: {quoted(text)}: invalid address"
                report.error("policy.host", member.value.span, message)
            case Malformed(message, help_):
                report.error("policy.host", member.value.span, message, help_)
            case found:
                scope.hosts[name] = found


def _declare_tags(
    value: Value | None, extra: Iterable[ExtraTag], scope: Scope
) -> dict[str, tuple[Value, ...]]:
    """Put all tags in scope before any owner is read: tags may own tags."""
    report, owners = scope.report, {}
    tags = scope.tags = {}
    declared = [*members(value, report, "tagOwners")]
    for member in declared:
        if problem := tag_problem(member.key):
            message = f"tagOwners[{quoted(member.key)}]: {problem.partition(': ')[2]}"
            report.error("policy.tag", member.key_span, message)
        tags[member.key] = member.key_span
        owners[member.key] = items(member.value, report, f"the owners of {member.key}")
    for tag in extra:
        if tag.name in tags:
            other = tags[tag.name]
            message = f"tag {quoted(tag.name)} is declared twice"
            help_ = f"the other one is at {other.file}:{other.start_line}:{other.start_column}"
            report.error("policy.tag", tag.span, message, help_)
            continue
        tags[tag.name], owners[tag.name] = tag.span, tag.owners
    return owners


def _read_owners(tag: str, values: tuple[Value, ...], scope: Scope) -> tuple[Selector, ...]:
    return _principals(values, scope, f"an owner of {tag}")


def _principals(values: Iterable[Value], scope: Scope, what: str) -> tuple[Selector, ...]:
    """Read selectors that name who owns a node: users, groups, tags, member and tagged."""
    found: list[Selector] = []
    for value in values:
        text = string(value, scope.report, what)
        match None if text is None else scope.selector(text, value.span):
            case None:
                continue
            case (User() | DomainUsers() | Group() | Tag()) as selector:
                found.append(selector)
            case Autogroup(name) as selector if name == TAGGED or name in PEOPLE:
                found.append(selector)
            case Everyone() | _:
                message = f"{quoted(str(text))} can not be {what}"
                help_ = "name users, groups, tags, autogroup:member or autogroup:tagged"
                scope.report.error("policy.owner", value.span, message, help_)
    return tuple(found)


def _read_approvers(
    value: Value | None, scope: Scope
) -> tuple[tuple[RouteApproval, ...], tuple[Selector, ...]]:
    if value is None:
        return (), ()
    report = scope.report
    found = fields(
        value,
        report,
        what="autoApprovers",
        known=("routes", "exitNode", "services"),
    )
    for member in members(found.get("services"), report, "autoApprovers.services"):
        _read_service(member, scope)
    routes = [
        RouteApproval(prefix, approvers)
        for member in members(found.get("routes"), report, "autoApprovers.routes")
        for prefix, approvers in [_route(member, scope)]
        if prefix is not None
    ]
    exits = items(found.get("exitNode"), report, "autoApprovers.exitNode")
    return tuple(routes), _principals(exits, scope, "an approver")


def _read_service(member: Member, scope: Scope) -> None:
    """Check who may offer a service, by its name or by a tag that services have.

    LIMIT: no service has an address here yet, so what is approved has nothing to be approved for.
    """
    if not isinstance(parse_selector(member.key, member.key_span), Service | Tag):
        message = f"{quoted(member.key)} is not a service name"
        scope.report.error("policy.service", member.key_span, message, 'it starts with "svc:"')
    what = f"the approvers of {member.key}"
    _principals(items(member.value, scope.report, what), scope, "an approver")


def _route(member: Member, scope: Scope) -> tuple[Prefix | None, tuple[Selector, ...]]:
    report = scope.report
    prefix = None
    match parse_range(member.key):
        case None:
            message = f"{quoted(member.key)} is not a route"
            report.error("policy.route", member.key_span, message, "write it as 10.0.0.0/8")
        case Malformed(message, help_):
            report.error("policy.route", member.key_span, message, help_)
        case found if "-" in found.text:
            message = f"{quoted(member.key)} is not a route"
            report.error("policy.route", member.key_span, message, "write it as 10.0.0.0/8")
        case found:
            prefix = ip_network(found.text)
    what = f"the approvers of {member.key}"
    values = member.value.items if expect(member.value, Kind.ARRAY, report, what) else ()
    return prefix, _principals(values, scope, "an approver")

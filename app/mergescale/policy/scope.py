"""The names that a policy declares, and what other files of the repository add to them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from mergescale.domain.user import Role
from mergescale.policy.diagnostics import Report, Span, quoted
from mergescale.policy.hujson import Value
from mergescale.policy.postures import Posture
from mergescale.policy.selectors import (
    PEOPLE,
    Autogroup,
    DomainUsers,
    Group,
    Host,
    IpSet,
    Malformed,
    Range,
    Selector,
    Tag,
    User,
    parse_selector,
)


@dataclass(frozen=True, slots=True)
class ExtraGroup:
    """Members that ``users.hujson`` adds to a group, which need not be in the policy."""

    name: str
    members: tuple[str, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class ExtraTag:
    """A tag that ``tags.hujson`` declares.

    Attributes:
        owners: string values, read like those of ``tagOwners``.
    """

    name: str
    owners: tuple[Value, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class KnownUsers:
    """People who are known when a policy is checked.

    Attributes:
        logins: in any case.
        managed: they are all there are (``users.hujson``), so another login is an error; else it
            is only worth a warning, since a person may appear later.
        roles: login -> role; who is not named is a member.
    """

    logins: Collection[str]
    managed: bool
    roles: Mapping[str, Role] = field(default_factory=dict)


#: LIMIT: sources, and destinations times ports, of all rules together. Large companies have some
#: thousands; a short grant can multiply its lists to millions.
MAX_PLACES: Final = 100_000


@dataclass(slots=True)
class Scope:
    """What names mean while a policy is read; filled section by section.

    Attributes:
        domain: whose people ``user:*@domain`` may name; empty when the tailnet has none.
        default_postures: what a rule without ``srcPosture`` asks for.
    """

    report: Report
    users: KnownUsers | None = None
    domain: str = ""
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    hosts: dict[str, Range] = field(default_factory=dict)
    ip_sets: dict[str, tuple[Range, ...]] = field(default_factory=dict)
    tags: Mapping[str, Span] = field(default_factory=dict)
    postures: dict[str, Posture] = field(default_factory=dict)
    default_postures: tuple[str, ...] = ()
    _logins: frozenset[str] | None = None
    _places: int = 0

    def room(self, selector: Selector, times: int, span: Span) -> bool:
        """Count what a rule names so many times; say whether there is room, and report if not."""
        each = len(self.ip_sets.get(selector.name, ())) if isinstance(selector, IpSet) else 1
        fits = self._places <= MAX_PLACES
        self._places += each * times
        if fits and self._places > MAX_PLACES:
            message = f"the rules name more than {MAX_PLACES} places, counted for each port"
            help_ = "write ranges of ports and larger CIDRs, or fewer of them in one rule"
            self.report.error("policy.too-large", span, message, help_)
        return self._places <= MAX_PLACES

    def selector(
        self, text: str, span: Span, *, code: str = "policy.selector", prefix: str = ""
    ) -> Selector | None:
        """Read a selector and report what is malformed or not declared.

        Args:
            text: the selector.
            span: where it stands.
            code: of the diagnostic for a malformed one.
            prefix: put before its message.
        """
        match parse_selector(text, span):
            case Malformed(message, help_):
                self.report.error(code, span, prefix + message, help_)
                return None
            case selector:
                return selector if self._declared(selector, span, prefix) else None

    def login(self, login: str, span: Span) -> None:
        """Report a login that nobody has."""
        if self.users is None:
            return
        if self._logins is None:
            self._logins = frozenset(one.casefold() for one in self.users.logins)
        known = self._logins
        if login.casefold() in known or login.removesuffix("@").casefold() in known:
            return
        if self.users.managed:
            self.report.unknown("policy.unknown-user", span, "user", login, sorted(known))
        else:
            self.report.warn("policy.unknown-user", span, f"user {quoted(login)} is not known yet")

    def domain_known(self, domain: str, span: Span, prefix: str = "") -> bool:
        """Report a domain that is not the tailnet's own; SPEC(hosted service): by exact case."""
        if domain == self.domain:
            return True
        message = (
            f"{prefix}{domain} is not associated with this Tailnet and cannot be used in"
            " user:*@<domain> expressions"
        )
        help_ = (
            f"its domain is {quoted(self.domain)}"
            if self.domain
            else 'set "domain" in tailnet.hujson'
        )
        self.report.error("policy.unknown-domain", span, message, help_)
        return False

    def _declared(self, selector: Selector, span: Span, prefix: str) -> bool:
        match selector:
            case User(login):
                self.login(login, span)
                return True
            case Group(name) if name not in self.groups:
                return self.missing("group", name, self.groups, span, prefix)
            case Tag(name) if name not in self.tags:
                return self.missing("tag", name, self.tags, span, prefix)
            case Host(name) if name not in self.hosts:
                return self.missing("host", name, self.hosts, span, prefix)
            case IpSet(name) if name not in self.ip_sets:
                return self.missing("ipset", name, self.ip_sets, span, prefix)
            case DomainUsers(domain):
                return self.domain_known(domain, span)
            case _:
                return True

    def missing(
        self, kind: str, name: str, known: Collection[str], span: Span, prefix: str = ""
    ) -> bool:
        """Report a name that its section does not declare, and suggest one; return False."""
        message = f"{prefix}{kind} not found: {quoted(name)}"
        section = {"group": "groups", "tag": "tagOwners", "host": "hosts", "ipset": "ipsets"}[kind]
        fallback = f"declare it in {section}"
        self.report.missing(f"policy.unknown-{kind}", span, message, name, known, fallback)
        return False


def is_person(selector: Selector) -> bool:
    """Say whether the selector names people, which ``autogroup:self`` and owners need."""
    match selector:
        case User() | DomainUsers() | Group():
            return True
        case Autogroup(name):
            return name in PEOPLE
        case _:
            return False

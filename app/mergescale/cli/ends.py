"""SRC and DST:PORT[/proto] of a question: which devices and addresses they stand for."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from mergescale.cli.errors import CommandFailed

if TYPE_CHECKING:
    from mergescale.domain.declaration import Declaration
    from mergescale.domain.node import Node
    from mergescale.domain.prefixes import Address
    from mergescale.domain.snapshot import Snapshot
    from mergescale.netmap.inventory import Inventory
    from mergescale.netmap.reach import End
    from mergescale.policy.document import PolicyDocument
    from mergescale.policy.selectors import Selector

_DESTINATION_HELP: Final = "write DST:PORT or DST:PORT/udp, with one port; [fd7a::1]:80 for IPv6"
#: What no device's name has.
_SPECIAL: Final = frozenset(":@*/")
_KINDS: Final = "name a device, a login, a tag, a group or an address"


@dataclass(frozen=True, slots=True)
class Destination:
    """DST:PORT[/proto].

    Attributes:
        protocols: TCP and UDP where none is written: whichever is admitted.
        port: 0 for protocols without ports.
    """

    end: str
    protocols: tuple[int, ...]
    port: int


def read_destination(text: str) -> Destination:
    """Read DST:PORT[/proto].

    Raises:
        CommandFailed: it has another form.
    """
    from mergescale.policy.ports import WITH_PORTS, parse_ports, parse_protocol

    body, slash, named = text.rpartition("/")
    if ":" in named:
        body, slash = text, ""
    protocols = parse_protocol(named) if slash else (6, 17)
    if isinstance(protocols, str):
        raise CommandFailed(protocols, help="write tcp, udp, icmp, … or a number")
    body, protocols = (body if slash else text), protocols or (6, 17)
    if WITH_PORTS.isdisjoint(protocols):
        return Destination(_bare(_without_port(body)), protocols, 0)
    end, colon, written = body.rpartition(":")
    ports = parse_ports(written) if colon and end else ()
    if isinstance(ports, str) or len(ports) != 1 or ports[0].first != ports[0].last:
        raise CommandFailed(f'"{text}" is not a destination', help=_DESTINATION_HELP)
    return Destination(_bare(end), protocols, ports[0].first)


@dataclass(frozen=True, slots=True)
class Question:
    """A tailnet and the two ends that are asked about.

    Attributes:
        supposed: nobody said which devices there are.
    """

    snapshot: Snapshot
    sources: tuple[End, ...]
    targets: tuple[End, ...]
    supposed: bool = False


def about(
    declaration: Declaration, inventory: Inventory | None, source: str, target: str
) -> Question:
    """Return the question, about devices of the inventory or about supposed ones.

    Raises:
        CommandFailed, Invalid: a text stands for nothing, or the inventory is not sound.
    """
    from mergescale.netmap.inventory import populate
    from mergescale.policy.compiled import compiled

    document = compiled(declaration.policy).document
    if inventory is None:
        return _supposed(declaration, document, source, target)
    snapshot = populate(inventory, declaration)
    return Question(snapshot, ends(source, snapshot, document), ends(target, snapshot, document))


def ends(text: str, snapshot: Snapshot, document: PolicyDocument) -> tuple[End, ...]:
    """Return the devices that a text stands for, or the address that no device has.

    Raises:
        CommandFailed: it stands for nothing.
    """
    from mergescale.policy.diagnostics import nearest
    from mergescale.policy.principals import groups_of, of_node, principal

    label = text.lower().partition(".")[0]
    named = snapshot.names.get(text) or snapshot.names.get(label)
    if named is not None and not _SPECIAL & set(text):
        return (snapshot.nodes[named],)
    selector = _selector(text, document, tuple(snapshot.names))
    address = _address(selector, document)
    if address is not None:
        holder = snapshot.addresses.get(address)
        return (address if holder is None else snapshot.nodes[holder],)
    wanted, groups = principal(selector), groups_of(document)
    if wanted is None:
        raise CommandFailed(f'"{text}" does not stand for devices', help=_KINDS)
    found = tuple(
        node
        for node in snapshot.nodes.values()
        if wanted in of_node(node.tags, snapshot.owner(node), groups)
    )
    if not found:
        close = nearest(text, [user.login for user in snapshot.users.values()])
        help_ = f'did you mean "{close}"?' if close and close != text else ""
        raise CommandFailed(f'no device of the inventory is of "{text}"', help=help_)
    return found


def node_of(text: str, snapshot: Snapshot) -> Node:
    """Return the device with this name or address.

    Raises:
        CommandFailed: there is none.
    """
    from mergescale.policy.diagnostics import nearest

    found = snapshot.names.get(text.lower().partition(".")[0])
    if found is None:
        with contextlib.suppress(ValueError):
            found = snapshot.addresses.get(ip_address(text))
    if found is None:
        close = nearest(text, snapshot.names)
        raise CommandFailed(
            f'no device is called "{text}"', help=f'did you mean "{close}"?' if close else ""
        )
    return snapshot.nodes[found]


def _supposed(
    declaration: Declaration, document: PolicyDocument, source: str, target: str
) -> Question:
    from mergescale.netmap.inventory import populate
    from mergescale.netmap.supposed import suppose

    one, other = _selector(source, document), _selector(target, document)
    for selector in (one, other):
        _check_login(selector, declaration)
    addresses = [each for end in (one, other) if (each := _address(end, document)) is not None]
    found = suppose(document, one, other, addresses)
    snapshot = populate(found.inventory, declaration)

    def devices(text: str, names: tuple[str, ...], end: Selector) -> tuple[End, ...]:
        address = _address(end, document)
        if address is not None:
            return (address,)
        if not names:
            raise CommandFailed(f'"{text}" does not stand for devices', help=_KINDS)
        return tuple(snapshot.nodes[snapshot.names[name]] for name in names)

    sources = devices(source, found.sources, one)
    return Question(snapshot, sources, devices(target, found.targets, other), supposed=True)


def _selector(text: str, document: PolicyDocument, names: tuple[str, ...] = ()) -> Selector:
    """Read a text; what it names must be declared."""
    from mergescale.policy.diagnostics import file_span, nearest
    from mergescale.policy.selectors import Group, Host, Malformed, Tag, parse_selector

    match parse_selector(text, file_span("")):
        case Malformed(message, help_):
            raise CommandFailed(message, help=help_ or _KINDS)
        case Tag(name) if name not in document.tag_owners:
            known: tuple[str, ...] = tuple(document.tag_owners)
        case Group(name) if name not in document.groups:
            known = tuple(document.groups)
        case Host(name) if name not in document.hosts:
            known = (*names, *document.hosts)
        case selector:
            return selector
    close = nearest(text, known)
    needs = "" if names else "; a device's name needs --inventory or --server"
    help_ = f'did you mean "{close}"?' if close else f"{_KINDS}{needs}"
    raise CommandFailed(f'"{text}" is not known', help=help_)


def _check_login(selector: Selector, declaration: Declaration) -> None:
    from mergescale.policy.diagnostics import nearest
    from mergescale.policy.selectors import User

    if declaration.users is None or not isinstance(selector, User):
        return
    logins = [one.login for one in declaration.users]
    if selector.login not in {one.casefold() for one in logins}:
        close = nearest(selector.login, logins)
        help_ = f'did you mean "{close}"?' if close else "users.hujson says who there is"
        raise CommandFailed(f'nobody has the login "{selector.login}"', help=help_)


def _address(selector: Selector, document: PolicyDocument) -> Address | None:
    """Return the one address that a selector is; None for what is no address."""
    from mergescale.policy.selectors import Host, Net, Range

    match selector:
        case Net(Range() as found):
            pass
        case Host(name):
            found = document.hosts[name]
        case _:
            return None
    if found.first != found.last:
        raise CommandFailed(f'"{selector}" is more than one address', help="ask about one of them")
    return ip_address(found.text)


def _without_port(text: str) -> str:
    """Return DST of what may be DST:PORT; an IPv6 address without brackets has none."""
    end, _, port = text.rpartition(":")
    written = port == "*" or port.isdecimal()
    return end if end and written and (text.startswith("[") or "::" not in text) else text


def _bare(text: str) -> str:
    """Return an address without its brackets."""
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text

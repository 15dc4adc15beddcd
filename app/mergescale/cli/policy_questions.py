"""``mergescale policy can`` and ``who-can``: asks a policy who can reach what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from mergescale.cli.devices import Devices, about_devices
from mergescale.cli.ends import about, ends, read_destination
from mergescale.cli.errors import ExitCode
from mergescale.cli.opened import Opened, open_policy
from mergescale.cli.policy_files import count, policy_option
from mergescale.cli.screen import NOTHING, Screen, printable

if TYPE_CHECKING:
    from mergescale.netmap.reach import Answer, End
    from mergescale.policy.nearmiss import NearMiss

#: LIMIT: pairs that are told one by one; programs get all of them.
_TOLD: Final = 20


@click.command("can")
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST:PORT[/PROTO]")
@policy_option
@about_devices
def can(screen: Screen, devices: Devices, source: str, destination: str, path: str) -> None:
    """Say whether SRC can reach DST, by which rule, or which rule comes closest.

    SRC and DST are a device, a login, a tag, a group or an address. Without --inventory and
    --server, any device of that kind is meant, and addresses are behind some router.

    Without PROTO either of TCP and UDP will do. Exit code 0 if everything that SRC stands for
    reaches everything that DST stands for, else 3.
    """
    from mergescale.netmap.reach import Reach

    asked = read_destination(destination)
    opened = open_policy(screen, devices, path)
    question = about(opened.declaration, opened.inventory, source, asked.end)
    reach = Reach(opened.policy, question.snapshot)
    pairs = [(one, other) for one in question.sources for other in question.targets]
    # Of several devices none is asked whether it reaches itself.
    several = [(one, other) for one, other in pairs if one is not other] or pairs
    answers = [reach.ask(one, other, asked.protocols, asked.port) for one, other in several]
    allowed = all(one.rule is not None for one in answers)
    if screen.is_json:
        screen.json({"allowed": allowed, "pairs": [_json(opened, one) for one in answers]})
    else:
        # The addresses of supposed devices mean nothing.
        _tell(screen, opened, answers, addresses=not question.supposed)
    if not allowed:
        click.get_current_context().exit(ExitCode.BAD_NEWS)


@click.command("who-can")
@click.argument("destination", metavar="DST:PORT[/PROTO]")
@policy_option
@about_devices
def who_can(screen: Screen, devices: Devices, destination: str, path: str) -> None:
    """List the devices that can reach DST, and the rule that lets each of them.

    DST is as for `can`. Needs --inventory or --server. Exit code 3 if there is none.
    """
    from mergescale.netmap.reach import Reach

    asked = read_destination(destination)
    opened = open_policy(screen, devices, path)
    snapshot = opened.snapshot()
    reach = Reach(opened.policy, snapshot)
    targets = ends(asked.end, snapshot, opened.policy.document)
    found = [
        answer
        for other in targets
        for one in snapshot.nodes.values()
        if one is not other
        and (answer := reach.ask(one, other, asked.protocols, asked.port)).rule is not None
    ]
    if screen.is_json:
        screen.json([_json(opened, one) for one in found])
    elif found:
        titles = ("DEVICE", "REACHES", "BY", "THROUGH", "RULE")
        screen.table(titles, (_row(opened, one) for one in found))
    else:
        _tell_nobody(screen, opened, reach, targets[0], destination)
    if not found:
        click.get_current_context().exit(ExitCode.BAD_NEWS)


def _tell(screen: Screen, opened: Opened, answers: list[Answer], *, addresses: bool) -> None:
    good = [one for one in answers if one.rule is not None]
    bad = [one for one in answers if one.rule is None]
    if good and bad:
        screen.line(f"not all: {len(good)} of {count(len(answers), 'pair')} can")
    for one in (bad or good)[:_TOLD]:
        for line in _lines(opened, one, addresses=addresses):
            screen.line(printable(line))
    if more := len((bad or good)[_TOLD:]):
        screen.line(f"and {more} more, which -o json tells")


def _lines(opened: Opened, one: Answer, *, addresses: bool = True) -> Iterator[str]:
    source, target = _name(one.source), _name(one.target)
    if addresses:
        source, target = (
            _shown(source, one.packet.source),
            _shown(target, one.packet.target),
        )
    way = f" through {one.through.name}" if one.through else ""
    if one.rule is not None:
        yield f"yes: {source} can reach {target} by {_protocol(one)}{way}"
        sources, targets = opened.sides(one.rule.origin)
        yield f"rule {opened.place(one.rule.origin)}: {sources} -> {targets}"
        return
    yield f"no: {source} can not reach {target} by {_protocol(one)}"
    if one.obstacle:
        yield one.obstacle
    if one.miss is not None and not one.miss.gaps:
        yield f"rule {opened.place(one.miss.rule.origin)} would admit it"
    elif one.miss is not None:
        yield f"closest rule {opened.place(one.miss.rule.origin)}:"
        yield from (f"  {why}" for why in _reasons(opened, one))
    elif not one.obstacle:
        yield "no rule is about either of them"


def _reasons(opened: Opened, one: Answer) -> Iterator[str]:
    """Yield what keeps the closest rule from admitting it."""
    miss = one.miss
    if miss is None:
        return
    sources, targets = opened.sides(miss.rule.origin)
    source, target = _name(one.source), _name(one.target)
    for gap in miss.gaps:
        match gap:
            case "src":
                yield f"{source} is not in its src ({sources})"
            case "dst":
                yield f"{target} is not in its dst ({targets})"
            case "port":
                yield f"wrong port: it admits {targets}, not {one.packet.port}"
            case "protocol":
                yield f"wrong protocol: it admits {_protocols(miss)}, not {_protocol(one)}"
            case "posture":
                yield f"{source} has none of the postures it asks for ({_postures(opened, miss)})"
            case "via":
                tags = ", ".join(map(str, opened.rules[miss.rule.origin].via))
                yield f"no router with its via ({tags}) routes {target}"


def _json(opened: Opened, one: Answer) -> dict[str, Any]:
    closest = None
    if one.miss is not None:
        closest = {
            "rule": opened.place(one.miss.rule.origin),
            "gaps": list(one.miss.gaps),
            "why": list(_reasons(opened, one)),
        }
    return {
        "source": _name(one.source),
        "sourceAddress": str(one.packet.source),
        "destination": _name(one.target),
        "destinationAddress": str(one.packet.target),
        "protocol": _protocol(one).partition(":")[0],
        "port": one.packet.port,
        "allowed": one.rule is not None,
        "rule": None if one.rule is None else opened.place(one.rule.origin),
        "through": None if one.through is None else one.through.name,
        "obstacle": one.obstacle,
        "closest": closest,
    }


def _row(opened: Opened, one: Answer) -> tuple[str, ...]:
    through = NOTHING if one.through is None else one.through.name
    place = NOTHING if one.rule is None else opened.place(one.rule.origin)
    return _name(one.source), _name(one.target), _protocol(one), through, place


def _tell_nobody(screen: Screen, opened: Opened, reach: Any, target: End, destination: str) -> None:
    """Say that nobody can, and for whom a rule comes closest."""
    asked = read_destination(destination)
    snapshot = opened.snapshot()
    answers = [
        reach.ask(one, target, asked.protocols, asked.port)
        for one in snapshot.nodes.values()
        if one is not target
    ]
    screen.line(printable(f"nobody can reach {destination}"))
    close = [one for one in answers if one.miss is not None]
    if close:
        best = min(close, key=lambda one: one.miss.distance)
        for line in _lines(opened, best):
            screen.line(printable(line))


def _name(end: End) -> str:
    return getattr(end, "name", None) or str(end)


def _shown(name: str, address: object) -> str:
    return name if name == str(address) else f"{name} ({address})"


def _protocol(one: Answer) -> str:
    from mergescale.policy.ports import WITH_PORTS

    name = _protocol_name(one.packet.protocol)
    return f"{name}:{one.packet.port}" if one.packet.protocol in WITH_PORTS else name


def _protocols(miss: NearMiss) -> str:
    from mergescale.policy.ports import DEFAULT_PROTOCOLS

    spoken = miss.rule.protocols or tuple(sorted(DEFAULT_PROTOCOLS))
    return ", ".join(map(_protocol_name, spoken))


def _protocol_name(number: int) -> str:
    from mergescale.policy.ports import PROTOCOLS

    return next((name for name, one in PROTOCOLS.items() if one == number), str(number))


def _postures(opened: Opened, miss: NearMiss) -> str:
    return ", ".join(sorted(opened.policy.sources[miss.rule.source].postures))

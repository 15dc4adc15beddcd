"""The allowed signers file of OpenSSH: one key on a line, for whom and for how long.

    <principals> [<options>] <key type> <base64> [<comment>]        (ssh-keygen(1), ALLOWED SIGNERS)

Git and ssh-keygen do the verifying. It is read here because ssh-keygen skips what it does not
understand, and because it asks whether a key was good at the date that the commit claims: whoever
has an old key chooses that date, so a key must be good today as well.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

_KEY_TYPE: Final = re.compile(r"(sk-)?(ssh|ecdsa)-[a-z0-9@.-]+")
#: A word, in which quoted parts may hold spaces.
_WORD: Final = re.compile(r'(?:[^\s"]|"[^"]*")+')
_OPTION: Final = re.compile(r'(?P<name>[a-z-]+)(?:="(?P<value>[^"]*)")?(?:,|$)')
_FLAGS: Final = frozenset({"cert-authority"})
_TIME: Final = re.compile(r"[0-9]{8}([0-9]{4}([0-9]{2})?)?Z?")
_FORMATS: Final = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


class NotSigners(Exception):
    """A line cannot be read; the text says which, and nothing of what is on it."""


@dataclass(frozen=True, slots=True)
class Signer:
    """One line.

    Attributes:
        principals: for whom, patterns between commas.
        key: type and base64.
        flags: options that say nothing of time, as they are written.
        after, before: as they are written, and as times; None where the line does not say.
    """

    principals: str
    key: str
    flags: tuple[str, ...]
    valid_after: tuple[str, datetime] | None
    valid_before: tuple[str, datetime] | None

    def is_good(self, now: datetime) -> bool:
        """Say whether the key may be used now."""
        begun = self.valid_after is None or self.valid_after[1] <= now
        return begun and (self.valid_before is None or now < self.valid_before[1])

    def line(self, *, ever: bool = False) -> str:
        """Return it for ssh-keygen; with `ever` as if it had no limits of time."""
        times = (("valid-after", self.valid_after), ("valid-before", self.valid_before))
        limits = () if ever else (f'{name}="{one[0]}"' for name, one in times if one is not None)
        options = ",".join((*self.flags, *limits))
        return " ".join(part for part in (self.principals, options, self.key) if part)


def parse(text: str) -> tuple[Signer, ...]:
    """Read the file.

    Raises:
        NotSigners: a line is not what it must be, or there is none.
    """
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    found = tuple(_signer(line, number) for number, line in lines if line and line[0] != "#")
    if not found:
        raise NotSigners("it names no key")
    return found


def written(signers: Iterable[Signer], *, ever: bool = False) -> str:
    """Return a file of these signers."""
    return "".join(f"{one.line(ever=ever)}\n" for one in signers)


def _signer(line: str, number: int) -> Signer:
    words = _WORD.findall(line)
    if len(words) >= 2 and _KEY_TYPE.fullmatch(words[1]):
        words.insert(1, "")
    if len(words) < 4 or not _KEY_TYPE.fullmatch(words[2]) or not _is_key(words[2], words[3]):
        raise NotSigners(f"line {number} is not: principals, options, key type, key")
    options = _options(words[1], number)
    flags = (f'{name}="{value}"' if value else name for name, value in options.items())
    return Signer(
        principals=words[0],
        key=f"{words[2]} {words[3]}",
        flags=tuple(one for one in flags if not one.startswith("valid-")),
        valid_after=_time(options.get("valid-after"), number),
        valid_before=_time(options.get("valid-before"), number),
    )


def _options(word: str, number: int) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(word):
        option = _OPTION.match(word, at)
        name = option["name"].lower() if option is not None else ""
        value = option["value"] if option is not None else None
        valued = name in {"namespaces", "valid-after", "valid-before"} and bool(value)
        if option is None or name in found or not (valued or (name in _FLAGS and value is None)):
            raise NotSigners(f"line {number} has an option that is not known")
        found[name] = value or ""
        at = option.end()
    return found


def _time(value: str | None, number: int) -> tuple[str, datetime] | None:
    if value is None:
        return None
    digits = value.removesuffix("Z")
    try:
        if _TIME.fullmatch(value):
            when = datetime.strptime(digits, _FORMATS[len(digits)]).replace(tzinfo=UTC)
            # The worker's time zone is UTC, so that what says no zone means the same.
            return digits, when
    except ValueError:
        pass
    raise NotSigners(f"line {number} has a time that is not YYYYMMDD[HHMM[SS]][Z]")


def _is_key(kind: str, encoded: str) -> bool:
    """Say whether the key is of the type that the line names (RFC 4253 section 6.6)."""
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return False
    name = kind.encode()
    return raw.startswith(len(name).to_bytes(4, "big") + name)

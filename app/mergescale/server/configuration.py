"""Where each setting comes from, and what is wrong with it: ``mergescale config``.

`Settings` itself only has values. Here the same sources are looked at again, so that a person is
told the file and line, or the variable, that a value or a problem comes from.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from mergescale.gitops.trust.keys import examined
from mergescale.kernel.errors import MergescaleError
from mergescale.server.forge_places import place_of
from mergescale.server.logs import masked
from mergescale.server.settings import Repository, Settings
from mergescale.server.system import SystemClock
from mergescale.server.tls import certificate_files
from mergescale.server.watched import followed, source_of
from mergescale.store.database import parse_url

PREFIX: Final = "MERGESCALE_"
#: Variables that are no settings of the server: where the file is, and what the command line reads.
OTHERS: Final = frozenset({"CONFIG", "SERVER", "TOKEN", "TAILNET"})
_TABLE: Final = re.compile(r"\s*\[([^\[\]]+)\]")
_TOML_LINE: Final = re.compile(r" \(at line (\d+), column \d+\)$")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        setting: its name, with the path inside it (``tailnets.corp.url``); empty when it is about
            several.
        origin: ``FILE:LINE``, a variable's name, or empty.
    """

    setting: str
    message: str
    origin: str

    def __str__(self) -> str:
        about = ": ".join(part for part in (self.origin, self.setting) if part)
        return masked(f"{about}: {self.message}" if about else self.message)


@dataclass(frozen=True, slots=True)
class Effective:
    """A setting as the server would have it.

    Attributes:
        value: as text, secrets masked.
        origin: ``FILE:LINE``, a variable's name, or ``default``.
    """

    setting: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found.

    Attributes:
        effective: every setting, by name; empty when the settings cannot be had.
        problems: everything wrong with them by themselves.
    """

    settings: Settings | None
    effective: tuple[Effective, ...]
    problems: tuple[Problem, ...]


def read(environment: Mapping[str, str]) -> Reading:
    """Read the settings as ``mergescale serve`` would without options.

    Args:
        environment: must be the process's own, which `Settings` reads.
    """
    path = environment.get(f"{PREFIX}CONFIG")
    try:
        file = _File.read(path)
    except _Unreadable as error:
        return Reading(None, (), (Problem("", str(error), error.origin),))
    origins = _Origins(environment, file)
    problems = list(_unknown_variables(environment))
    try:
        settings = Settings()
    except ValidationError as error:
        problems += _told(error, origins)
        return Reading(None, (), tuple(problems))
    except SettingsError as error:
        # pydantic-settings names the field in quotes: its text is not JSON where JSON is needed.
        name = (re.findall(r'"([a-z_]+)"', str(error)) or [""])[0]
        problems.append(Problem(name, "JSON was expected", origins.of((name,))))
        return Reading(None, (), tuple(problems))
    problems += _unusable(settings, origins)
    effective = (
        Effective(name, _shown(getattr(settings, name)), origins.of((name,)) or "default")
        for name in Settings.model_fields
    )
    return Reading(settings, tuple(effective), tuple(problems))


def meant(unknown: str, known: Mapping[str, object]) -> str:
    """Return what to say about a name that does not exist."""
    near = difflib.get_close_matches(unknown.lower(), known, n=1)
    return f'no such setting; did you mean "{near[0]}"?' if near else "no such setting"


def told(error: ValidationError) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each of pydantic's complaints as the path of the setting and one sentence."""
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        where = tuple(str(part) for part in one["loc"])
        what = one["msg"].removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            yield where, meant(where[-1], _fields_at(where[:-1]))
        else:
            yield where, what[:1].lower() + what[1:]


def _told(error: ValidationError, origins: _Origins) -> Iterator[Problem]:
    for where, what in told(error):
        yield Problem(".".join(where), what, origins.of(where))


def _fields_at(where: tuple[str, ...]) -> Mapping[str, object]:
    model: type[BaseModel] = Repository if where[:1] == ("tailnets",) else Settings
    for name in where[2:]:
        inner = model.model_fields[name].annotation if name in model.model_fields else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return model.model_fields


def _unknown_variables(environment: Mapping[str, str]) -> Iterator[Problem]:
    known = {name.upper() for name in Settings.model_fields} | OTHERS
    for variable in sorted(environment):
        name = variable.upper().removeprefix(PREFIX)
        if variable.upper().startswith(PREFIX) and name.partition("__")[0] not in known:
            yield Problem(name.lower(), meant(name, Settings.model_fields), variable)


def _unusable(settings: Settings, origins: _Origins) -> Iterator[Problem]:
    """Try what can be tried without starting: repositories, forges, keys, database, certificate."""
    trials: dict[str, Callable[[], object]] = {
        "database_url": lambda: parse_url(settings.database),
    }
    if (files := certificate_files(settings)) is not None:
        trials["tls_certificate"] = files.context
    now = SystemClock().now()
    for tailnet, repository in settings.repositories.items():
        name = f"tailnets.{tailnet}" if tailnet in settings.tailnets else "repository"
        if repository is not None:
            trials[name] = partial(source_of, repository)
            trials[f"{name}.forge"] = partial(place_of, tailnet, settings.repositories)
            trials[f"{name}.trust"] = partial(examined, repository.trust.demands, now)
    wrong = set[str]()
    for name, trial in trials.items():
        if name.removesuffix(".forge") in wrong:
            continue  # where it is follows from the repository
        try:
            trial()
        except MergescaleError as error:
            wrong.add(name)
            help_ = f" ({error.help})" if error.help else ""
            yield Problem(name, error.message + help_, origins.of(tuple(name.split("."))))


def _shown(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case dict():
            return "; ".join(f"{name}: {_shown(one)}" for name, one in value.items())
        case Repository():
            signed = f", signatures {value.trust.signatures}" if value.trust.demands.any else ""
            return masked(f"{value.url} ({followed(value)}{signed})")
        case tuple() | list():
            return ", ".join(str(one) for one in value)
        case _:
            return masked(str(value))


class _Unreadable(Exception):
    """The file cannot be read as TOML."""

    def __init__(self, message: str, origin: str) -> None:
        super().__init__(message)
        self.origin = origin


@dataclass(frozen=True, slots=True)
class _File:
    """The TOML file.

    Attributes:
        lines: path of a key -> its line.
    """

    path: str
    lines: Mapping[tuple[str, ...], int]

    @classmethod
    def read(cls, path: str | None) -> _File:
        if path is None:
            return cls("", {})
        try:
            text = Path(path).read_text("utf-8")
            tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = _TOML_LINE.search(str(error))
            line = f":{found[1]}" if found else ""
            what = _TOML_LINE.sub("", str(error))
            raise _Unreadable(f"this is not TOML: {what.lower()}", path + line) from None
        except UnicodeDecodeError:
            raise _Unreadable("the configuration file is not UTF-8", path) from None
        except OSError as error:
            why = (error.strerror or "").lower()
            raise _Unreadable(f"the configuration file cannot be read: {why}", path) from None
        return cls(path, dict(_lines(text)))


def _lines(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield where keys stand; a key inside an inline table is found at the line of the table.

    `tomllib` keeps no places. A line of a string over several lines that looks like a key is taken
    for one, which can only make a message point there.
    """
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _TABLE.match(line):
            table = _keys(header[1])
            yield table, number
        elif "=" in line and not line.lstrip().startswith("#"):
            yield table + _keys(line.partition("=")[0]), number


def _keys(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


@dataclass(frozen=True, slots=True)
class _Origins:
    """Says where the value of a setting comes from, in the order in which `Settings` looks."""

    environment: Mapping[str, str]
    file: _File

    def of(self, where: tuple[str, ...]) -> str:
        """Return the variable or ``FILE:LINE``; the nearest thing around it, empty if nothing."""
        for length in range(len(where), 0, -1):
            for found in (self._variable(where[:length]), self._line(where[:length])):
                if found:
                    return found
        return ""

    def _variable(self, where: tuple[str, ...]) -> str:
        wanted = PREFIX + "__".join(where).upper()
        names = (n for n in sorted(self.environment) if n.upper() == wanted)
        nested = (n for n in sorted(self.environment) if n.upper().startswith(f"{wanted}__"))
        return next(names, "") or next(nested, "")

    def _line(self, where: tuple[str, ...]) -> str:
        nested = (key for key in self.file.lines if key[: len(where)] == where)
        key = where if where in self.file.lines else next(nested, None)
        return "" if key is None else f"{self.file.path}:{self.file.lines[key]}"

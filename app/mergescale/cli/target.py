"""Where the server is and who asks: a unix socket without a token, or a URL with one.

Read straight from the environment: the server's own settings cost more start-up time than a whole
command may take.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mergescale.cli.errors import CommandFailed, ExitCode

_PORTS = {"http": 80, "https": 443}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True, slots=True)
class Given:
    """What the shared options say; None where one was not given."""

    output: str | None = None
    server: str | None = None
    token: str | None = None
    tailnet: str | None = None
    state_dir: Path | None = None

    def over(self, other: Given) -> Given:
        """Return these, completed by those that were given before the noun."""
        return Given(
            self.output or other.output,
            self.server or other.server,
            self.token or other.token,
            self.tailnet or other.tailnet,
            self.state_dir or other.state_dir,
        )


@dataclass(frozen=True, slots=True)
class Token:
    """An API token and where it was found, which is all that is ever said of it."""

    text: str = field(repr=False)
    origin: str


@dataclass(frozen=True, slots=True)
class Socket:
    """The server of this machine; who may open the file is its operator."""

    path: Path
    token: Token | None = None

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class Url:
    """A server anywhere."""

    scheme: str
    host: str
    port: int
    token: Token | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


Target = Socket | Url


def find(given: Given, environment: Mapping[str, str]) -> Target:
    """Return the server to ask: of ``--server`` or MERGESCALE_SERVER, else that of this machine.

    Raises:
        CommandFailed: what was given makes no sense; says what to give.
    """
    configured = _configured(environment)
    state_dir = given.state_dir or Path(configured.get("state_dir", "var"))
    token = _token(given, environment)
    # A folder said on the command line means this machine, whatever the environment says.
    server = given.server or (None if given.state_dir else environment.get("MERGESCALE_SERVER"))
    if not server:
        # Said on the command line, the folder wins over a socket that only the environment names.
        named = None if given.state_dir is not None else configured.get("socket")
        return Socket(Path(named) if named else state_dir / "mergescale.sock", token)
    url = _url(server)
    if token is None and _is_own(url, configured.get("server_url")):
        token = _administrator(state_dir)
    return Url(url.scheme, url.host, url.port, token)


def _configured(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the few server settings that matter here: the environment over the TOML file."""
    found = _file(environment["MERGESCALE_CONFIG"]) if "MERGESCALE_CONFIG" in environment else {}
    names = ("state_dir", "socket", "server_url")
    told = {
        name: environment.get(f"MERGESCALE_{name.upper()}") or found.get(name) for name in names
    }
    return {name: value for name, value in told.items() if isinstance(value, str) and value}


def _file(path: str) -> dict[str, Any]:
    import tomllib

    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise CommandFailed(
            f'the configuration file "{path}" cannot be read: {error.strerror}',
            help="MERGESCALE_CONFIG names it",
        ) from error
    except ValueError as error:
        raise CommandFailed(
            f'the configuration file "{path}" is not TOML: {error}',
            help="MERGESCALE_CONFIG names it",
        ) from error


def _token(given: Given, environment: Mapping[str, str]) -> Token | None:
    if given.token:
        return Token(_checked(given.token, "--token"), "--token")
    if text := environment.get("MERGESCALE_TOKEN", "").strip():
        return Token(_checked(text, "MERGESCALE_TOKEN"), "MERGESCALE_TOKEN")
    return None


def _administrator(state_dir: Path) -> Token | None:
    """Return the token that the server's first start wrote, if this user can read it."""
    path = state_dir / "admin-token"
    try:
        text = path.read_text("ascii", errors="replace").strip()
    except OSError:
        return None
    return Token(_checked(text, str(path)), str(path)) if text else None


def _checked(text: str, origin: str) -> str:
    """Return the token if it can stand in a header."""
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise CommandFailed(
            f"what {origin} holds is not an API token",
            help="a token is one word, mskey-api-…",
            exit_code=ExitCode.AUTHENTICATION,
        )
    return text


def _is_own(url: Url, server_url: str | None) -> bool:
    """Say whether this machine's server is meant.

    The administrator token of one server is never sent to another.
    """
    if url.host in _LOOPBACK:
        return True
    return server_url is not None and url == _url(server_url)


def _url(text: str) -> Url:
    help_ = "a URL is http:// or https://, a host and perhaps a port"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise CommandFailed(f'"{text}" is not a URL', help=help_) from None
    if parts.scheme not in _PORTS or not parts.hostname or parts.path not in {"", "/"}:
        raise CommandFailed(f'"{text}" is not the URL of a server', help=help_)
    return Url(parts.scheme, parts.hostname, port or _PORTS[parts.scheme])

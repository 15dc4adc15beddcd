"""Configuration of one server process.

Every setting has a default that works on one machine. A setting comes from, first wins: the
command line, the environment (``MERGESCALE_<NAME>``), the TOML file named by
``MERGESCALE_CONFIG``, the default.
"""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from mergescale.gitops.notices.configured import Channels
from mergescale.gitops.trust.demands import Demands, Signatures
from mergescale.kernel.errors import Invalid
from mergescale.kernel.timekeeper import CONFIRM_S
from mergescale.server.forge_settings import Forge
from mergescale.server.proxies import parse_proxies
from mergescale.server.safeguards import FreezeSettings, GateSettings
from mergescale.server.watched import LimitSettings
from mergescale.store.database import ANSWER_S

#: The tailnet of a server that holds one.
DEFAULT_TAILNET = "default"


class Listen(BaseModel, frozen=True):
    """Where a socket listens."""

    host: str
    port: int = Field(ge=1, le=65535)

    @classmethod
    def parse(cls, text: str) -> Listen:
        """Read ``host:port``, ``:port`` (all addresses) or ``[v6]:port``."""
        host, separator, port = text.rpartition(":")
        if not separator or not port.isdigit():
            raise ValueError('"host:port" was expected')
        return cls(host=host.strip("[]") or "::", port=int(port))


def _listen(text: str) -> str:
    Listen.parse(text)
    return text


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("an http:// or https:// URL with a host was expected")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("the URL must have no path: clients ask for /key and /ts2021 at its root")
    return text.rstrip("/")


def _listed(value: object) -> object:
    """Take a list of TOML, or words between commas."""
    if not isinstance(value, str):
        return value
    return tuple(one.strip() for one in value.split(",") if one.strip())


ListenText = Annotated[str, AfterValidator(_listen)]


#: An e-mail, or ``*@domain``.
Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s*]+$", max_length=254)]


class Trust(BaseModel, frozen=True, extra="forbid"):
    """Whose commits come into force.

    Attributes:
        signatures: which commits must be signed: none, the one that comes into force, or every
            one since the one in force.
        ssh_signers: allowed signers file of OpenSSH.
        gpg_keys: OpenPGP keys, as ``gpg --export`` writes them.
        committers, authors: e-mails or ``*@domain``; empty for anybody.
    """

    signatures: Signatures = Signatures.OFF
    ssh_signers: Path | None = None
    gpg_keys: Path | None = None
    committers: tuple[Email, ...] = ()
    authors: tuple[Email, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Trust:
        keys = self.ssh_signers or self.gpg_keys
        if self.signatures is not Signatures.OFF and not keys:
            raise ValueError("signatures need ssh_signers or gpg_keys, or no commit is good")
        if keys and "signatures" not in self.model_fields_set:
            raise ValueError('keys are named but "signatures" does not say "head" or "strict"')
        return self

    @property
    def demands(self) -> Demands:
        """The same for who looks at commits; paths are absolute."""
        signers, keys = ("" if one is None else str(one.absolute()) for one in self.files)
        return Demands(
            signatures=self.signatures,
            ssh_signers=signers,
            gpg_keys=keys,
            committers=self.committers,
            authors=self.authors,
        )

    @property
    def files(self) -> tuple[Path | None, Path | None]:
        """Signers and keys."""
        return self.ssh_signers, self.gpg_keys


class Repository(BaseModel, frozen=True, extra="forbid"):
    """The watched repository of one tailnet.

    Attributes:
        url: ``https://…``, ``ssh://…``, ``user@host:path`` or a local path; empty for a tailnet
            that follows no repository.
        branch: the branch that is followed, unless it is one of the next three.
        tag, semver, commit: a tag, the newest tag in a range of versions, a commit's full id.
        path: folder of the policy files inside the repository; empty for its root.
        poll_s: seconds between looks; None: 0.25 for a local path, 30 for a remote.
        limits: how much of it is accepted.
        trust: whose commits come into force.
        gates: what a commit must not do without an approval.
        freeze: when nothing new comes into force.
        ca_file: PEM file with the authorities that an https server's certificate may be of; None:
            those of the system.
        notify: who is told when something about following it changes.
        forge: where statuses and plans are told; None for nowhere.
    """

    url: str = ""
    branch: str = "main"
    tag: str = ""
    semver: str = ""
    commit: str = ""
    path: str = ""
    poll_s: float | None = Field(default=None, gt=0)
    limits: LimitSettings = LimitSettings()
    trust: Trust = Trust()
    gates: GateSettings = GateSettings()
    freeze: tuple[FreezeSettings, ...] = Field(default=(), max_length=50)
    ca_file: Path | None = None
    notify: Channels = ()
    forge: Forge | None = None


class Settings(BaseSettings):
    """All settings; see the README's table.

    Attributes:
        server_url: what clients are told to use; empty: made from `listen`.
        listen: the one HTTP port: control, API, pages.
        state_dir: everything the server keeps lives here.
        database_url: SQLAlchemy URL; empty: SQLite in `state_dir`.
        database_answer_s: how long PostgreSQL may be silent before it is given up.
        master_key: what the server's secrets are sealed under; empty: the one in the file.
        master_key_file: where it is kept; empty: ``<state_dir>/master-key``.
        lease_s: seconds after which a replica that does not answer is taken for dead.
        clock_confirm_s: how long the system's clock has to keep to a step forward to be believed.
        trust_clock: believe the system's clock at the start, whatever moments are stored.
        repository: shorthand for the default tailnet's repository URL.
        branch, path: the same for its branch and folder.
        tailnets: tailnet -> repository, for more than one.
        compiler_timeout_s, compiler_memory_mib: what the compiler may take for one commit.
        policy_by_api: the API sets the policy of tailnets that follow no repository.
        tls_certificate, tls_key: PEM files; the main listener then speaks TLS.
        trusted_proxies: addresses and networks whose ``X-Forwarded-*`` headers are believed.
        relay: run a DERP relay and STUN.
        relay_listen: the relay's own TLS port, used while the main port has no TLS.
        relay_host: how clients reach the relay; empty: the host of `server_url`.
        relay_region: id of the relay's region; 900-999 are for private use.
        stun_listen: UDP port of STUN.
        socket: unix socket of the local command line; empty: ``<state_dir>/mergescale.sock``.
        stranger_connections: connections of machines without a node that there may be.
        stranger_connections_per_address: those of them from one IPv4 address or IPv6 /64.
        stranger_idle_s: how long such a connection may be without a request.
        metrics_listen: where ``/metrics`` is served without a token; empty: the unix socket only.
        log_level, log_format: what is logged, and how.
    """

    model_config = SettingsConfigDict(
        env_prefix="MERGESCALE_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    server_url: Annotated[str, AfterValidator(lambda text: _url(text) if text else text)] = ""
    listen: ListenText = "127.0.0.1:8080"
    state_dir: Path = Path("var")
    database_url: str = ""
    database_answer_s: float = Field(default=ANSWER_S, ge=0.5, le=600)
    master_key: SecretStr = SecretStr("")
    master_key_file: Path | None = None
    lease_s: float = Field(default=10.0, ge=0.5, le=3600)
    clock_confirm_s: float = Field(default=CONFIRM_S, ge=0)
    trust_clock: bool = False
    repository: str = ""
    branch: str = "main"
    path: str = ""
    tailnets: dict[str, Repository] = Field(default_factory=dict)
    compiler_timeout_s: float = Field(default=60.0, ge=0.1, le=3600)
    compiler_memory_mib: int = Field(default=2048, ge=256)
    policy_by_api: bool = False
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(_listed), AfterValidator(parse_proxies)
    ] = ()
    relay: bool = True
    relay_listen: ListenText = "127.0.0.1:8443"
    relay_host: str = ""
    relay_region: int = Field(default=999, ge=1, le=65535)
    stun_listen: ListenText = "127.0.0.1:3478"
    stranger_connections: int = Field(default=2048, ge=1)
    stranger_connections_per_address: int = Field(default=256, ge=1)
    stranger_idle_s: float = Field(default=60.0, gt=0)
    socket: Path | None = None
    metrics_listen: Annotated[str, AfterValidator(lambda text: _listen(text) if text else text)] = (
        ""
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Add the TOML file below the environment."""
        path = os.environ.get("MERGESCALE_CONFIG")
        if path is None:
            return init_settings, env_settings
        if not Path(path).is_file():
            raise Invalid(f'the configuration file "{path}" does not exist')
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, Path(path))

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        if self.repository and DEFAULT_TAILNET in self.tailnets:
            raise ValueError('"repository" and "tailnets.default" name the same tailnet')
        return self

    @property
    def repositories(self) -> dict[str, Repository | None]:
        """Tailnet -> its repository; the default tailnet exists even without one."""
        found = {name: one if one.url else None for name, one in self.tailnets.items()}
        if self.repository or not self.tailnets:
            one = Repository(url=self.repository, branch=self.branch, path=self.path)
            return {DEFAULT_TAILNET: one if self.repository else None, **found}
        return found

    @property
    def database(self) -> str:
        """The database's SQLAlchemy URL."""
        return self.database_url or f"sqlite+aiosqlite:///{self.state_dir / 'mergescale.db'}"

    @property
    def unix_socket(self) -> Path:
        """Where the local command line reaches the server."""
        return self.socket or self.state_dir / "mergescale.sock"

    @property
    def master_key_path(self) -> Path:
        """Where the master key is kept, unless it comes from the environment."""
        return self.master_key_file or self.state_dir / "master-key"

    @property
    def admin_token_file(self) -> Path:
        """Where the first start writes the administrator token."""
        return self.state_dir / "admin-token"

    @property
    def url(self) -> str:
        """What clients are told to use: `server_url`, or one made from `listen`."""
        if self.server_url:
            return self.server_url
        listen = Listen.parse(self.listen)
        host = "127.0.0.1" if listen.host in {"0.0.0.0", "::", ""} else listen.host  # noqa: S104
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if self.tls_certificate else 'http'}://{host}:{listen.port}"

    @property
    def url_host(self) -> str:
        """Host part of `url`, without brackets."""
        return urlsplit(self.url).hostname or ""

    @property
    def url_port(self) -> int:
        """Port part of `url`."""
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def relay_shares_main_port(self) -> bool:
        """With TLS on the main port (or on a proxy before it) the relay needs no port of its own."""
        return urlsplit(self.url).scheme == "https"


def is_address(host: str) -> bool:
    """Say whether the host is an IP address rather than a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True

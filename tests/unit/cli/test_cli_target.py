"""Where the command line finds the server, and which token goes there."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergescale.cli.errors import CommandFailed, ExitCode
from mergescale.cli.target import Given, Socket, Token, Url, find


def test_without_anything_it_is_the_socket_below_var() -> None:
    """The defaults of `serve` and of the other commands meet."""
    assert find(Given(), {}) == Socket(Path("var/mergescale.sock"))


def test_the_socket_is_where_the_servers_settings_put_it(tmp_path: Path) -> None:
    """The environment wins over the TOML file; the socket's own setting over the folder's."""
    file = tmp_path / "mergescale.toml"
    file.write_text('state_dir = "/srv/m"\n', "utf-8")
    config = {"MERGESCALE_CONFIG": str(file)}
    assert find(Given(), config) == Socket(Path("/srv/m/mergescale.sock"))
    state = {**config, "MERGESCALE_STATE_DIR": "/var/lib/m"}
    assert find(Given(), state) == Socket(Path("/var/lib/m/mergescale.sock"))
    named = {**state, "MERGESCALE_SOCKET": "/run/m.sock"}
    assert find(Given(), named) == Socket(Path("/run/m.sock"))


def test_the_command_line_wins_over_the_environment() -> None:
    """A folder that was typed means this machine's server, whatever is exported."""
    environment = {
        "MERGESCALE_SERVER": "https://m.example.com",
        "MERGESCALE_SOCKET": "/run/m.sock",
        "MERGESCALE_STATE_DIR": "/var/lib/m",
    }
    assert find(Given(state_dir=Path("x")), environment) == Socket(Path("x/mergescale.sock"))
    assert find(Given(server="http://[::1]:8080"), environment) == Url("http", "::1", 8080)
    assert find(Given(), environment) == Url("https", "m.example.com", 443)


def test_a_token_is_the_typed_one_then_the_exported_one() -> None:
    """Both go wherever the command goes."""
    environment = {"MERGESCALE_TOKEN": "mskey-api-b\n"}
    typed = Given(server="https://m.example.com", token="mskey-api-a")
    assert find(typed, environment).token == Token("mskey-api-a", "--token")
    exported = Given(server="https://m.example.com")
    assert find(exported, environment).token == Token("mskey-api-b", "MERGESCALE_TOKEN")


def test_the_administrator_token_goes_to_its_own_server_only(tmp_path: Path) -> None:
    """This machine's token is for loopback and the server's own URL, never for a stranger's."""
    file = tmp_path / "admin-token"
    file.write_text("mskey-api-x\n", "ascii")
    environment = {
        "MERGESCALE_STATE_DIR": str(tmp_path),
        "MERGESCALE_SERVER_URL": "https://m.example.com",
    }
    own = Token("mskey-api-x", str(file))
    urls = {
        "http://127.0.0.1:8080": own,
        "http://localhost": own,
        "https://m.example.com/": own,
        "http://m.example.com": None,
        "https://other.example.com": None,
    }
    assert {url: find(Given(server=url), environment).token for url in urls} == urls


def test_a_token_is_not_shown() -> None:
    """Neither a token nor what holds it tells the secret when it is printed by mistake."""
    assert "secret" not in repr(find(Given(server="http://x", token="mskey-api-secret"), {}))


@pytest.mark.parametrize(
    "url",
    ["m.example.com", "ftp://m.example.com", "http://", "http://x/api", "http://x:y", "http://[x"],
)
def test_what_is_no_url_is_told(url: str) -> None:
    """The error says what a URL is."""
    with pytest.raises(CommandFailed) as failed:
        find(Given(server=url), {})
    assert failed.value.help == "a URL is http:// or https://, a host and perhaps a port"


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "ümlaut"])
def test_what_cannot_be_a_token_is_not_sent(token: str) -> None:
    """It would end the header; the error names where it came from and not what it is."""
    with pytest.raises(CommandFailed) as failed:
        find(Given(server="http://x", token=token), {})
    assert failed.value.exit_code is ExitCode.AUTHENTICATION
    assert failed.value.message == "what --token holds is not an API token"

"""The allowed signers file: what is read of it, and what is written for ssh-keygen."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest

from mergescale.gitops.trust.allowed_signers import NotSigners, parse, written


def key(kind: str = "ssh-ed25519", inner: str | None = None) -> str:
    """Return a key of a type; `inner` is what the key itself says that it is."""
    name = (inner or kind).encode()
    raw = len(name).to_bytes(4, "big") + name + bytes(36)
    return f"{kind} {base64.b64encode(raw).decode()}"


def day(month: int, hour: int = 0) -> datetime:
    return datetime(2026, month, 1, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"a@x {key()}", f"a@x {key()}"),
        (f"  a@x,b@x\t{key()} ana's laptop", f"a@x,b@x {key()}"),
        (f'"a b@x" {key()}', f'"a b@x" {key()}'),
        (f"*@x cert-authority {key()}", f"*@x cert-authority {key()}"),
        (f'a@x namespaces="git,file" {key()}', f'a@x namespaces="git,file" {key()}'),
        (
            f'a@x valid-before="20260101Z",cert-authority {key()}',
            f'a@x cert-authority,valid-before="20260101" {key()}',
        ),
        (
            f"a@x {key('sk-ssh-ed25519@openssh.com')}",
            f"a@x {key('sk-ssh-ed25519@openssh.com')}",
        ),
        (f"a@x {key('ecdsa-sha2-nistp256')}", f"a@x {key('ecdsa-sha2-nistp256')}"),
    ],
)
def test_a_line_is_read_and_written(line: str, expected: str) -> None:
    """Comments of the file and of the key are dropped; a zone is UTC, which is what none means."""
    assert written(parse(f"# ours\n\n{line}\n")) == f"{expected}\n"


@pytest.mark.parametrize(
    ("options", "good"),
    [
        ("", [1, 2, 3, 4]),
        ('valid-after="20260201" ', [2, 3, 4]),
        ('valid-before="20260301" ', [1, 2]),
        ('valid-after="202602010000",valid-before="20260401000000Z" ', [2, 3]),
    ],
)
def test_a_key_is_good_from_one_moment_until_before_another(options: str, good: list[int]) -> None:
    """Each of the three ways to write a time."""
    (signer,) = parse(f"a@x {options}{key()}")
    assert [month for month in range(1, 5) if signer.is_good(day(month))] == good
    assert written([signer], ever=True) == f"a@x {key()}\n"


@pytest.mark.parametrize(
    "line",
    [
        "a@x",
        f"{key()}",
        "a@x ssh-ed25519",
        "a@x ssh-ed25519 AAAA",
        "a@x ssh-ed25519 not-base64!",
        f"a@x {key('ssh-ed25519', 'ssh-rsa')}",
        f"a@x until=2026 {key()}",
        f'a@x valid-before="tomorrow" {key()}',
        f'a@x valid-before="20261301" {key()}',
        f'a@x valid-before="2026010112" {key()}',
        f"a@x valid-before {key()}",
        f'a@x cert-authority="yes" {key()}',
        f'a@x namespaces="git",namespaces="file" {key()}',
        f'a@x namespaces="git {key()}',
    ],
)
def test_a_line_that_is_none_is_named_and_not_repeated(line: str) -> None:
    """With its number; a key that is skipped would be missed by nobody until it is needed."""
    with pytest.raises(NotSigners) as error:
        parse(f"# ours\na@x {key()}\n{line}\n")
    assert str(error.value).startswith("line 3 ")
    assert "a@x" not in str(error.value)


@pytest.mark.parametrize("text", ["", "\n# nobody\n"])
def test_a_file_that_names_nobody_is_none(text: str) -> None:
    """Rather than one after which no commit is good."""
    with pytest.raises(NotSigners, match="names no key"):
        parse(text)

"""Credentials: what is accepted for which address, and what is told of it."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from mergescale.gitops.credentials import kinds as credentials
from mergescale.gitops.credentials.kinds import (
    DeployKey,
    GithubApp,
    Token,
    decoded,
    encoded,
    given,
    shown,
)
from mergescale.gitops.git.source import Source
from mergescale.kernel.errors import Invalid

HTTPS = Source.parse("https://github.com/acme/policy.git")
SSH = Source.parse("git@github.com:acme/policy.git")
PORT = Source.parse("ssh://git@Git.example.com:2222/acme/policy")
LOCAL = Source.parse("/srv/policy")
ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
RSA = rsa.generate_private_key(65537, 2048)
NONE = NoEncryption()


def text(
    key: Any,
    format_: PrivateFormat = PrivateFormat.OpenSSH,
    encryption: KeySerializationEncryption = NONE,
) -> str:
    """Return a private key as a file holds it."""
    raw: bytes = key.private_bytes(Encoding.PEM, format_, encryption)
    return raw.decode()


def public(key: Any) -> str:
    """Return a public key as known_hosts has it."""
    raw: bytes = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return raw.decode()


#: Of nobody; protected by a passphrase, as ssh-keygen does it.
PROTECTED = """-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABBpg7qu+S
y1g57v8X3MCZLVAAAAAQAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAII/jAXPfSEqBKOBF
USh+hwQexYZB0JhPQAxGgetBVIVEAAAAkDXKEl2CenaAaSObe7FoUblgCMWBImCpRCKnR4
xD58wM5IClcdtKo+jeCbInAMyNrMu2+s8a06Q1p7LRM0Bptwg3IomJwJt3fpToKe32Cuiu
qiW3V1lU82zsM/AOo4txl4DMxLWMXfOZcQgzhs9+wQ7Mh4Y4CGxnvrWxV+VT6FaVG8jw0C
5I3N+lB+xif5aTug==
-----END OPENSSH PRIVATE KEY-----
"""


HOST = f"github.com {public(ED25519)}\n"


def deploy_key(**members: str) -> dict[str, str]:
    """Return a good deploy key with other members in places."""
    return {"kind": "ssh", "privateKey": text(ED25519), "knownHosts": HOST, **members}


def github_app(**members: object) -> dict[str, object]:
    """Return a good app with other members in places."""
    key = text(RSA, PrivateFormat.TraditionalOpenSSL)
    return {"kind": "github-app", "appId": 7, "installationId": 42, "privateKey": key, **members}


def refusal(words: dict[str, Any], source: Source) -> str:
    """Return why something is no credential."""
    with pytest.raises(Invalid) as refused:
        given(words, source)
    return refused.value.message


def test_a_token_is_kept_with_its_user_name() -> None:
    """White space around it, as files and pipes have, does not count."""
    kept = given({"kind": "token", "token": " canary-1 \n"}, HTTPS)
    assert kept == Token("canary-1", "git")
    assert decoded(encoded(kept)) == kept
    assert shown(kept) == {"kind": "token", "user": "git"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"token": ""}, "the token is empty, too long or not one printable word"),
        ({"token": "two words"}, "the token is empty, too long or not one printable word"),
        ({"token": "a\r\nX-Evil: 1"}, "the token is empty, too long or not one printable word"),
        ({"token": "\u00fcnicode"}, "the token is empty, too long or not one printable word"),
        ({"token": "x" * 4097}, "the token is empty, too long or not one printable word"),
        (
            {"token": "x", "user": "a:b"},
            "the user name is empty, too long or not one printable word without a colon",
        ),
        ({"token": 5}, "this is no credential (token)"),
        ({}, "this is no credential (token)"),
        ({"token": "x", "canary": "x"}, "this is no credential"),
    ],
)
def test_a_token_that_cannot_be_sent_is_refused(words: dict[str, Any], why: str) -> None:
    """The message names the member and repeats nothing."""
    assert refusal({"kind": "token", **words}, HTTPS) == why


def test_what_is_no_kind_is_refused() -> None:
    """Without repeating it."""
    for kind in ("canary", None, 5):
        assert refusal({"kind": kind, "token": "x"}, HTTPS) == "this is no credential (kind)"


def test_a_kind_is_for_its_own_sort_of_address() -> None:
    """A key is not sent over https nor a token over ssh, and a path needs neither."""
    token = {"kind": "token", "token": "x"}
    for source in (SSH, LOCAL):
        for words in (token, github_app()):
            assert "is for a repository with an https address" in refusal(words, source)
    for source in (HTTPS, LOCAL):
        assert "is for a repository with an ssh address" in refusal(deploy_key(), source)


def test_an_app_is_kept_with_its_key() -> None:
    """It is told by its ids and the fingerprint that GitHub shows."""
    kept = given(github_app(), HTTPS)
    assert isinstance(kept, GithubApp)
    assert decoded(encoded(kept)) == kept
    told = shown(kept)
    assert told.pop("fingerprint").startswith("SHA256:")
    assert told == {"kind": "github-app", "appId": 7, "installationId": 42}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"appId": 0}, "this is no credential (appId)"),
        ({"installationId": "42"}, "this is no credential (installationId)"),
        ({"privateKey": "canary"}, "privateKey is no private key"),
        (
            {"privateKey": text(ED25519, PrivateFormat.PKCS8)},
            "privateKey is no RSA key of 2048 bits or more, as GitHub's are",
        ),
        (
            {"privateKey": text(RSA, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))},
            "privateKey is protected by a passphrase, which the server cannot ask anybody for",
        ),
    ],
)
def test_what_is_no_app_is_refused(words: dict[str, object], why: str) -> None:
    """Each in its own words."""
    assert refusal(github_app(**words), HTTPS) == why


def test_an_app_needs_an_owner_and_a_name() -> None:
    """Its tokens are narrowed to one repository, which the address has to name."""
    deep = Source.parse("https://git.example.com/group/sub/policy")
    assert "https://HOST/OWNER/NAME" in refusal(github_app(), deep)
    assert credentials.repository_name(HTTPS) == "policy"


@pytest.mark.parametrize(
    "key",
    [
        text(ED25519),
        text(ED25519, PrivateFormat.PKCS8),
        text(RSA),
        text(RSA, PrivateFormat.TraditionalOpenSSL),
        text(ec.derive_private_key(5, ec.SECP256R1())),
        "\r\n" + text(ED25519).replace("\n", "\r\n"),
    ],
)
def test_a_deploy_key_of_any_format_is_kept_as_ssh_reads_it(key: str) -> None:
    """With its host keys; told by its public half and what people compare."""
    kept = given(deploy_key(privateKey=key), SSH)
    assert isinstance(kept, DeployKey)
    assert decoded(encoded(kept)) == kept
    assert kept.private_key.startswith("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    assert kept.private_key.endswith("-----END OPENSSH PRIVATE KEY-----\n")
    told = shown(kept)
    assert set(told) == {"kind", "publicKey", "fingerprint", "hostKeys"}
    assert kept.private_key not in str(told)


def test_a_deploy_key_is_told_as_ssh_keygen_does() -> None:
    """Figures of ``ssh-keygen -lf`` and ``-y`` for this key."""
    told = shown(given(deploy_key(), SSH))
    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNX3chmQSVTG4"
    assert told["publicKey"].startswith(line[:60])
    assert told["hostKeys"] == [f"github.com ssh-ed25519 {told['fingerprint']}"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"privateKey": ""}, "privateKey is no private key"),
        ({"privateKey": public(ED25519)}, "privateKey is no private key"),
        ({"privateKey": "x" * 20000}, "privateKey is too long or holds characters that no key has"),
        (
            {"privateKey": PROTECTED},
            "privateKey is protected by a passphrase, which the server cannot ask anybody for",
        ),
        (
            {
                "privateKey": text(
                    RSA, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"x")
                )
            },
            "privateKey is protected by a passphrase, which the server cannot ask anybody for",
        ),
        (
            {"privateKey": text(rsa.generate_private_key(65537, 1024))},  # noqa: S505 - the case
            "privateKey is an RSA key of less than 2048 bits",
        ),
        (
            {"privateKey": text(dsa.generate_private_key(2048), PrivateFormat.PKCS8)},
            "privateKey is of a kind that ssh does not use any more",
        ),
        ({"knownHosts": ""}, "knownHosts has no lines of the ssh host, or too many"),
        ({"knownHosts": "# none\n\n"}, "knownHosts has no lines of the ssh host, or too many"),
        ({"knownHosts": HOST * 33}, "knownHosts has no lines of the ssh host, or too many"),
        (
            {"knownHosts": HOST + "github.com ssh-ed25519 AAAA"},
            "knownHosts: line 2 is no line of known_hosts",
        ),
        (
            {"knownHosts": HOST.replace("ssh-ed25519", "ssh-rsa")},
            "knownHosts: line 1 is no line of known_hosts",
        ),
        (
            {"knownHosts": HOST.replace("github.com", "gitlab.com")},
            "knownHosts has no line of the repository's host",
        ),
        (
            {"knownHosts": f"@revoked {HOST}"},
            "knownHosts has no line of the repository's host",
        ),
    ],
)
def test_what_is_no_deploy_key_is_refused(words: dict[str, str], why: str) -> None:
    """Half of one is none: without host keys anybody could pose as the forge."""
    assert refusal(deploy_key(**words), SSH) == why


@pytest.mark.parametrize(
    "hosts",
    [
        "git.example.com",
        "[git.example.com]:2222",
        "other.example.com,[git.example.com]:2222",
        "*.example.com",
        "[git.example.com]:*",
        "@cert-authority *.example.com",
        "|1|c2FsdHNhbHRzYWx0c2FsdHNhbHQ=|aGFzaGhhc2hoYXNoaGFzaGhhc2g=",
    ],
)
def test_host_keys_are_for_the_host_as_openssh_looks_for_it(hosts: str) -> None:
    """By name, by name and port, by pattern, or hashed."""
    lines = f"# of the forge\n\n{hosts} {public(ED25519)} a comment\n"
    kept = given(deploy_key(knownHosts=lines), PORT)
    assert isinstance(kept, DeployKey)
    assert kept.known_hosts == f"{hosts} {public(ED25519)} a comment\n"


@pytest.mark.parametrize("hosts", ["[git.example.com]:22", "git.example.org", "!git.example.com"])
def test_host_keys_of_another_host_are_no_use(hosts: str) -> None:
    """The message says how a line for this one begins."""
    with pytest.raises(Invalid) as refused:
        given(deploy_key(knownHosts=f"{hosts} {public(ED25519)}\n"), PORT)
    assert refused.value.help == "a line for it begins with [git.example.com]:2222"


def test_a_new_deploy_key_is_another_one_each_time() -> None:
    """And one that would be accepted."""
    one, other = (credentials.generated(HOST) for _ in range(2))
    assert one.private_key != other.private_key
    assert shown(given(deploy_key(privateKey=one.private_key), SSH)) == shown(one)


def test_what_another_version_kept_is_no_credential() -> None:
    """It is said to be unreadable instead of being guessed at."""
    assert [decoded(kept) for kept in (b"", b"{}", b'{"kind":"kerberos"}', b"\xff")] == [None] * 4


def test_nothing_that_stands_for_a_credential_holds_its_secret() -> None:
    """Neither ``repr`` nor ``str``, which logs and tracebacks use."""
    for words, source in (
        ({"kind": "token", "token": "canary-1"}, HTTPS),
        (github_app(), HTTPS),
        (deploy_key(), SSH),
    ):
        kept = given(words, source)
        assert repr(kept) == str(kept) == f"<{type(kept).__name__}>"

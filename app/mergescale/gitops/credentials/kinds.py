"""What opens a repository: a token, a GitHub App, a deploy key; and what may be shown of each.

A credential comes in as JSON with a ``kind``, is checked once, is kept in the same spelling (in the
vault, sealed) and never leaves in any. Each kind is for one transport:

    token       https   user name and token, sent as basic authentication
    github-app  https   an app's key; git gets tokens of an hour that may read one repository
    ssh         ssh     a deploy key without passphrase, and the host's keys: both or nothing

Messages of errors name the member that is wrong and never repeat it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec

from mergescale.gitops.credentials import hostkeys, privatekeys
from mergescale.gitops.git.source import Source, Transport
from mergescale.kernel.errors import Invalid

_LONGEST_TOKEN: Final = 4096

_PRINTABLE: Final = re.compile(r"[!-~]+")
_USER: Final = re.compile(r"[!-9;-~]{1,255}")
_Number = Annotated[int, msgspec.Meta(ge=1, lt=2**53)]


class Opens(
    msgspec.Struct, frozen=True, tag_field="kind", rename="camel", forbid_unknown_fields=True
):
    """Base of whatever opens something; what stands for it in a log or a traceback tells nothing."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class Token(Opens, frozen=True, tag="token"):
    """A token, or a password, of an https address.

    Attributes:
        user: forges that look at the token alone take any.
    """

    token: str
    user: str = "git"


class GithubApp(Opens, frozen=True, tag="github-app"):
    """A GitHub App that is installed where the repository is.

    Attributes:
        private_key: RSA, in PEM.
    """

    app_id: _Number
    installation_id: _Number
    private_key: str


class DeployKey(Opens, frozen=True, tag="ssh"):
    """A key that an ssh server lets in, and the keys by which the server is known.

    Attributes:
        private_key: in OpenSSH's own format.
        known_hosts: lines of OpenSSH's ``known_hosts``.
    """

    private_key: str
    known_hosts: str


Credential = Token | GithubApp | DeployKey


def given(words: Mapping[str, Any], source: Source) -> Credential:
    """Check what somebody gave, for the repository it is for.

    Raises:
        Invalid: it is none, or none for this address.
    """
    try:
        credential: Credential = msgspec.convert(dict(words), type=Credential)
    except msgspec.ValidationError as error:
        # The decoder names members and types; of unknown members and kinds it repeats the name.
        known = re.search(r"at `\$\.(\w+)`|missing required field `(\w+)`", str(error))
        where = f" ({next(filter(None, known.groups()))})" if known else ""
        raise Invalid(
            f"this is no credential{where}",
            help="its kind is token, github-app or ssh; see mergescale gitops credential set --help",
        ) from None
    match credential:
        case Token():
            _check_transport(source, Transport.HTTPS, "a token")
            return _checked(credential)
        case GithubApp():
            _check_transport(source, Transport.HTTPS, "a GitHub App")
            repository_name(source)
            key = privatekeys.app_key(credential.private_key)
            return msgspec.structs.replace(credential, private_key=key)
        case DeployKey():
            _check_transport(source, Transport.SSH, "a deploy key")
            key = privatekeys.ssh_key(credential.private_key)
            return DeployKey(key, hostkeys.checked_hosts(credential.known_hosts, source))


def generated(known_hosts: str) -> DeployKey:
    """Return a new ed25519 deploy key beside host keys that were checked already."""
    return DeployKey(privatekeys.new_key(), known_hosts)


def encoded(credential: Credential) -> bytes:
    """Return a credential as the vault keeps it."""
    return msgspec.json.encode(credential)


def decoded(kept: bytes) -> Credential | None:
    """Return what the vault kept; None if this version cannot read it."""
    try:
        credential: Credential = msgspec.json.decode(kept, type=Credential)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return credential


def shown(credential: Credential) -> dict[str, Any]:
    """Return all that anybody is ever told of a credential, as the API spells it."""
    match credential:
        case Token():
            return {"kind": "token", "user": credential.user}
        case GithubApp():
            return {
                "kind": "github-app",
                "appId": credential.app_id,
                "installationId": credential.installation_id,
                "fingerprint": privatekeys.app_fingerprint(credential.private_key),
            }
        case DeployKey():
            return {
                "kind": "ssh",
                "publicKey": privatekeys.public_line(credential.private_key),
                "fingerprint": privatekeys.ssh_fingerprint(credential.private_key),
                "hostKeys": hostkeys.told(credential.known_hosts),
            }


def _check_transport(source: Source, wanted: Transport, what: str) -> None:
    if source.transport is not wanted:
        raise Invalid(
            f"{what} is for a repository with an {wanted} address, this one's is of another kind",
            help="change the repository's address in the configuration, or set another kind",
        )


def checked_token(text: str) -> str:
    """Return a token without the space around it.

    Raises:
        Invalid: it is none; nothing of it is repeated.
    """
    token = text.strip()
    if not _PRINTABLE.fullmatch(token) or len(token) > _LONGEST_TOKEN:
        raise Invalid("the token is empty, too long or not one printable word")
    return token


def _checked(credential: Token) -> Token:
    token = checked_token(credential.token)
    if not _USER.fullmatch(credential.user):
        raise Invalid("the user name is empty, too long or not one printable word without a colon")
    return Token(token, credential.user)


def repository_name(source: Source) -> str:
    """Return the name that an app's token is narrowed to.

    Raises:
        Invalid: the address is not one that GitHub gives its repositories.
    """
    parts = urlsplit(source.url).path.strip("/").split("/")
    if len(parts) != 2:
        raise Invalid("a GitHub App is for an address of the form https://HOST/OWNER/NAME")
    return parts[1].removesuffix(".git")

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from mergescale.domain.apikey import ApiKey
from mergescale.domain.record import Put
from mergescale.domain.scopes import Scope
from mergescale.domain.snapshot import Snapshot
from mergescale.identity import accesstokens
from mergescale.identity.accesstokens import LIFE, AccessToken
from mergescale.identity.principals import (
    LOCAL_OPERATOR,
    Origin,
    Principal,
    authenticate,
    client_of,
)
from mergescale.identity.secrets import MINT_BYTES, Kind, mint, parse
from mergescale.kernel.errors import Forbidden, Unauthorized
from mergescale.kernel.ids import ApiKeyId
from support.clock import START, FakeEntropy
from support.worlds import step, world

TOKEN = mint(Kind.API, FakeEntropy("api").bytes(MINT_BYTES))
OTHER = mint(Kind.API, FakeEntropy("other").bytes(MINT_BYTES))
AUTH = mint(Kind.AUTH, FakeEntropy("auth").bytes(MINT_BYTES))
CLIENT = mint(Kind.CLIENT, FakeEntropy("client").bytes(MINT_BYTES))
END = START + timedelta(days=1)
#: Of access tokens.
KEY = bytes(32)


def known(**change: object) -> Snapshot:
    key = ApiKey(ApiKeyId(TOKEN.id), TOKEN.secret_hash, "ci", START, END)
    return step(world(""), [Put(replace(key, **change))])  # type: ignore[arg-type]


def authenticated(snapshot: Snapshot, header: str | None, now: datetime) -> Principal:
    return authenticate(snapshot, header, now, KEY)


def basic(user: str, password: str = "") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "header",
    [
        f"Bearer {TOKEN.text}",
        f"bearer  {TOKEN.text} ",
        basic(TOKEN.text),
        basic(TOKEN.text, "ignored"),
        f"basic {base64.b64encode(TOKEN.text.encode()).decode()}",
    ],
)
def test_token_opens_as_bearer_and_as_user_name(header: str) -> None:
    """A token is taken as bearer, and as user name of basic, as Tailscale's clients send it."""
    assert authenticated(known(), header, START) == Principal(
        f"token {TOKEN.id}", Origin.API_TOKEN, frozenset({Scope.ALL}), ApiKeyId(TOKEN.id)
    )


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        TOKEN.text,
        f"Digest {TOKEN.text}",
        f"Bearer {OTHER.text}",
        f"Bearer mskey-api-{TOKEN.id}-{OTHER.text.rpartition('-')[2]}",
        f"Bearer mskey-auth-{TOKEN.id}-{TOKEN.text.rpartition('-')[2]}",
        f"Bearer {AUTH.text}",
        "Basic !!!",
        "Basic " + base64.b64encode(b"\xff\xfe:").decode(),
        "Basic ü",
        basic("", TOKEN.text),
        "Bearer " + " " * 2000 + TOKEN.text,
    ],
)
def test_anything_else_is_the_same_refusal(header: str | None) -> None:
    """Whoever proves nothing learns nothing."""
    with pytest.raises(Unauthorized) as refusal:
        authenticated(known(), header, START)
    assert refusal.value.message == "an API token is needed"


def test_ended_tokens_open_nothing() -> None:
    """Revoked and expired tokens are refused; one without an end is not."""
    header = f"Bearer {TOKEN.text}"
    for before, now in ((known(revoked=START), START), (known(), END), (world(""), START)):
        with pytest.raises(Unauthorized):
            authenticated(before, header, now)
    assert authenticated(known(expires=None), header, END).may(Scope.ALL)


def test_scopes_are_asked_for() -> None:
    """The local operator may do everything; without a scope one may not."""
    LOCAL_OPERATOR.require(Scope.ALL)
    nobody = replace(LOCAL_OPERATOR, scopes=frozenset())
    with pytest.raises(Forbidden, match="this needs the scope `all`"):
        nobody.require(Scope.ALL)


def granted(*scopes: Scope, client: str = CLIENT.id, key: bytes = KEY) -> str:
    """Return a header with an access token for an hour."""
    token = AccessToken(ApiKeyId(client), frozenset(scopes), START + LIFE)
    return f"Bearer {accesstokens.write(key, token)}"


def client_with(*scopes: str, **change: object) -> Snapshot:
    key = ApiKey(ApiKeyId(CLIENT.id), CLIENT.secret_hash, "ci", START, client_scopes=scopes)
    return step(known(), [Put(replace(key, **change))])  # type: ignore[arg-type]


def test_an_access_token_opens_what_it_is_for() -> None:
    """By bearer and as user name of basic; what the client has not, its token has not either."""
    expected = Principal(
        f"client {CLIENT.id}",
        Origin.OAUTH_CLIENT,
        frozenset({Scope.POLICY_READ}),
        ApiKeyId(CLIENT.id),
    )
    header = granted(Scope.POLICY_READ)
    snapshot = client_with("policy_file")
    assert authenticated(snapshot, header, START) == expected
    assert authenticated(snapshot, basic(header.removeprefix("Bearer ")), START) == expected
    lost = authenticated(client_with("policy_file:read", "gone"), granted(*Scope), START)
    assert lost == expected


def test_what_is_no_good_access_token_opens_nothing() -> None:
    """Forged, expired, of a revoked client, of an API token, or changed by one digit."""
    good, snapshot = granted(Scope.POLICY), client_with("policy_file")
    text = good.removeprefix("Bearer ")
    prefix, _, mac = text.rpartition("-")
    more = accesstokens.write(KEY, AccessToken(ApiKeyId(CLIENT.id), frozenset({Scope.ALL}), END))
    other = ["1" if mac[0] != "1" else "2", mac[1:]]
    headers = [
        granted(Scope.POLICY, key=b"x" * 32),
        granted(Scope.POLICY, client=TOKEN.id),
        granted(Scope.POLICY, client=OTHER.id),
        f"Bearer {prefix}-{''.join(other)}",
        f"Bearer {more.rpartition('-')[0]}-{mac}",
    ]
    for header in headers:
        with pytest.raises(Unauthorized):
            authenticated(snapshot, header, START)
    assert authenticated(snapshot, good, START + LIFE - timedelta(seconds=1)).may(Scope.POLICY)
    with pytest.raises(Unauthorized):
        authenticated(snapshot, good, START + LIFE)
    with pytest.raises(Unauthorized):
        authenticated(client_with("policy_file", revoked=START), good, START)


def test_the_secret_of_a_client_is_none_of_a_token() -> None:
    """Spelled either way it opens nothing by itself."""
    snapshot = client_with("all")
    for text in (CLIENT.text, CLIENT.text.replace("-client-", "-api-")):
        with pytest.raises(Unauthorized):
            authenticated(snapshot, f"Bearer {text}", START)


def test_a_token_is_none_of_a_client() -> None:
    """An API token gets no access tokens, spelled either way."""
    for text in (TOKEN.text, TOKEN.text.replace("-api-", "-client-"), CLIENT.text):
        with pytest.raises(Unauthorized):
            client_of(known(), parse(text), START)
    assert client_of(client_with("all"), parse(CLIENT.text), START).id == CLIENT.id
    with pytest.raises(Unauthorized):
        client_of(client_with("all"), parse(CLIENT.text.replace("-client-", "-api-")), START)

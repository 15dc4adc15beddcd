from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta

import pytest

from mergescale.domain.apikey import ApiKey
from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.identity.principals import (
    LOCAL_OPERATOR,
    Origin,
    Principal,
    Scope,
    authenticate,
)
from mergescale.identity.secrets import MINT_BYTES, Kind, mint
from mergescale.kernel.errors import Forbidden, Unauthorized
from mergescale.kernel.ids import ApiKeyId
from support.clock import START, FakeEntropy
from support.worlds import step, world

TOKEN = mint(Kind.API, FakeEntropy("api").bytes(MINT_BYTES))
OTHER = mint(Kind.API, FakeEntropy("other").bytes(MINT_BYTES))
AUTH = mint(Kind.AUTH, FakeEntropy("auth").bytes(MINT_BYTES))
END = START + timedelta(days=1)


def known(**change: object) -> Snapshot:
    key = ApiKey(ApiKeyId(TOKEN.id), TOKEN.secret_hash, "ci", START, END)
    return step(world(""), [Put(replace(key, **change))])  # type: ignore[arg-type]


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
    assert authenticate(known(), header, START) == Principal(
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
        authenticate(known(), header, START)
    assert refusal.value.message == "an API token is needed"


def test_ended_tokens_open_nothing() -> None:
    """Revoked and expired tokens are refused; one without an end is not."""
    header = f"Bearer {TOKEN.text}"
    for before, now in ((known(revoked=START), START), (known(), END), (world(""), START)):
        with pytest.raises(Unauthorized):
            authenticate(before, header, now)
    assert authenticate(known(expires=None), header, END).may(Scope.ALL)


def test_scopes_are_asked_for() -> None:
    """The local operator may do everything; without a scope one may not."""
    LOCAL_OPERATOR.require(Scope.ALL)
    nobody = replace(LOCAL_OPERATOR, scopes=frozenset())
    with pytest.raises(Forbidden, match="this needs the scope `all`"):
        nobody.require(Scope.ALL)

"""What may stand in the policy or in a file beside it: ``derpMap`` and ``randomizeClientPort``."""

from __future__ import annotations

import json

import pytest

from mergescale.domain.tailnet import RelayNode, RelayRegion, Relays, Settings
from support.declared import good, said

REGION = {
    "RegionID": 901,
    "RegionCode": "fra",
    "Nodes": [{"Name": "901a", "HostName": "derp.example.com", "STUNPort": 3478}],
}
RELAYS = Relays(
    (RelayRegion(901, "fra", "fra", (RelayNode("901a", "derp.example.com", stun_port=3478),)),)
)


def lower(value: object) -> object:
    """Return the value with the first letter of every key in lower case, as Go's client has it."""
    match value:
        case dict():
            return {key[:1].lower() + key[1:]: lower(one) for key, one in value.items()}
        case list():
            return [lower(one) for one in value]
        case _:
            return value


def policy(**sections: object) -> dict[str, str]:
    return {"policy.hujson": json.dumps({"acls": [], **sections})}


@pytest.mark.parametrize("spelt", [lambda one: one, lower], ids=["tailcfg", "client library"])
def test_relays_may_stand_in_the_policy(spelt: object) -> None:
    """In tailcfg's spelling or any other: the relays are those of the same derp.hujson."""
    assert callable(spelt)
    relays = {"Regions": {"901": REGION}}
    assert good(policy(derpMap=spelt(relays))).relays == RELAYS
    assert good({"derp.hujson": json.dumps(relays)}).relays == RELAYS

    alone = good(policy(derpMap=spelt({**relays, "OmitDefaultRegions": True})))
    assert alone.relays == Relays(RELAYS.regions, embedded=False)


def test_a_policy_without_relays_leaves_them_to_the_file() -> None:
    """Nothing, or null, in the policy is no map of its own."""
    file = {"derp.hujson": json.dumps({"Regions": {"901": REGION}})}
    assert good({**policy(), **file}).relays == RELAYS
    assert good({**policy(derpMap=None), **file}).relays == RELAYS
    assert good(policy()).relays == Relays()


def test_relays_in_both_are_an_error_with_both_places() -> None:
    """Even where both say the same; a file that says nothing is none."""
    files = {
        "policy.hujson": '{"acls": [], "derpMap": {"Regions": {}}}',
        "derp.hujson": '{"$schema": "x",\n "Regions": {}}',
    }
    assert said(files) == [
        (
            "policy.hujson:1:14",
            '"derpMap"',
            "relays are declared in the policy and in a file of their own",
            "the other one is at derp.hujson:2:2; keep one of them",
        )
    ]
    assert said({**files, "derp.hujson": '{"$schema": "x"}'}) == []


@pytest.mark.parametrize(
    ("derp_map", "under", "message"),
    [
        ({"Region": {}}, '"Region"', 'key "Region" is not known'),
        ({"regions": {"fra": {}}}, '"fra"', '"fra" is not the id of a region'),
        ({"regions": {"902": REGION}}, "901", 'region "902" says that its id is 901'),
        ({"Regions": {}, "regions": {}}, '"regions"', 'key "regions" is written twice'),
        ([], "[", "expected an object, found a list"),
    ],
)
def test_what_is_wrong_with_relays_is_told_in_the_policy(
    derp_map: object, under: str, message: str
) -> None:
    """With the messages of derp.hujson, at its place in the policy."""
    [(place, underlined, text, _)] = said(policy(derpMap=derp_map))

    assert place.startswith("policy.hujson:")
    assert (underlined, text) == (under, message)


def test_the_client_port_is_random_where_either_says_so() -> None:
    """The policy tells devices, the file is a setting; saying the same twice is no harm."""
    tailnet = {"tailnet.hujson": '{"randomizeClientPort": true}'}
    assert good({**policy(randomizeClientPort=True), **tailnet}).settings == Settings(
        randomize_client_port=True
    )
    assert good({**policy(), **tailnet}).settings == Settings(randomize_client_port=True)


@pytest.mark.parametrize("value", [True, False])
def test_two_ways_at_once_are_an_error_with_both_places(value: bool) -> None:
    """True here and false there is a contradiction, whichever of them is which."""
    files = {
        "policy.hujson": json.dumps({"acls": [], "randomizeClientPort": value}),
        "tailnet.hujson": json.dumps({"randomizeClientPort": not value}),
    }
    assert said(files) == [
        (
            "policy.hujson:1:14",
            '"randomizeClientPort"',
            "randomizeClientPort is set to one value here and to the other elsewhere",
            "the other one is at tailnet.hujson:1:2; keep one of them",
        )
    ]

"""derp.hujson."""

from __future__ import annotations

import json

import pytest

from mergescale.domain.tailnet import RelayNode, RelayRegion, Relays
from support.declared import good, said


def _map(*, region: str = "", node: str = "", top: str = "") -> str:
    return (
        f'{{{top}"Regions": {{"901": {{"RegionID": 901, "RegionCode": "fra", {region}"Nodes": ['
        f'{{"Name": "901a", "HostName": "derp.example.com", {node}}}]}}}}}}'
    )


def test_a_map_in_tailcfg_spelling_pastes_in() -> None:
    """Every field of a node arrives; regions come sorted by id; the own region is added."""
    text = """{
        // ours
        "Regions": {
            "902": {"RegionID": 902, "RegionCode": "ams", "NoMeasureNoHome": true, "Nodes": [
                {"Name": "902a", "HostName": "ams.example.com"},
            ]},
            "901": {"RegionID": 901, "RegionCode": "fra", "RegionName": "Frankfurt", "Nodes": [
                {
                    "Name": "901a", "RegionID": 901, "HostName": "fra.example.com",
                    "CertName": "cert.example.com", "IPv4": "192.0.2.1", "IPv6": "none",
                    "STUNPort": -1, "STUNOnly": false, "DERPPort": 8443, "CanPort80": true,
                },
            ]},
            "1": null,
        },
    }"""
    assert good({"derp.hujson": text}).relays == Relays(
        regions=(
            RelayRegion(
                901,
                "fra",
                "Frankfurt",
                (
                    RelayNode(
                        name="901a",
                        host_name="fra.example.com",
                        cert_name="cert.example.com",
                        ipv4="192.0.2.1",
                        ipv6="none",
                        stun_port=-1,
                        derp_port=8443,
                        can_port80=True,
                    ),
                ),
            ),
            RelayRegion(
                902, "ams", "ams", (RelayNode("902a", "ams.example.com"),), no_measure_no_home=True
            ),
        ),
        embedded=True,
    )


@pytest.mark.parametrize("key", ["OmitDefaultRegions", "omitDefaultRegions"])
def test_the_own_region_can_be_left_out(key: str) -> None:
    """Both spellings that are found in the wild work."""
    text = _map(top=f'"{key}": true, ')
    assert good({"derp.hujson": text}).relays.embedded is False


def test_fields_without_effect_are_only_warned_about() -> None:
    """Maps found elsewhere hold a few fields that nothing here uses."""
    text = _map(region='"Latitude": 50.1, "Avoid": false, ', node='"STUNTestIP": "127.0.0.1"')
    found = said({"derp.hujson": text})
    assert [rest for _, *rest in found] == [
        ['"Latitude"', '"Latitude" has no effect here', ""],
        ['"Avoid"', '"Avoid" has no effect here', ""],
        ['"STUNTestIP"', '"STUNTestIP" has no effect here', ""],
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '{"OmitDefaultRegions": true}',
            (
                "true",
                "no relay would be left that clients can use as their home",
                "add a region or keep the server's own",
            ),
        ),
        (
            _map(node='"IPv4": "::1"'),
            ('"::1"', '"::1" is not an IPv4 address', 'or write "none"'),
        ),
        (
            _map(node='"RegionID": 5'),
            ("5", "the server says region 5 and stands in 901", "leave RegionID out here"),
        ),
        (
            _map(node='"DERPPort": 70000'),
            ("70000", "70000 is more than 65535", ""),
        ),
        (
            _map(node='"HostNam": "x"'),
            ('"HostNam"', 'key "HostNam" is not known', 'did you mean "HostName"?'),
        ),
        (
            _map(node='"InsecureForTests": true'),
            ("true", "clients will not check this relay's certificate", "for tests only"),
        ),
        (
            '{"Regions": {"fra": {}}}',
            ('"fra"', '"fra" is not the id of a region', ""),
        ),
    ],
)
def test_what_is_wrong_is_underlined(text: str, expected: tuple[str, str, str]) -> None:
    """One mistake, one diagnostic, at the key or the value that is wrong."""
    assert [rest for _, *rest in said({"derp.hujson": text})] == [list(expected)]


def test_ids_codes_and_names_agree_and_are_unique() -> None:
    """The key is the id, a code names one region, a name one server."""
    node = {"Name": "a", "HostName": "x.org"}
    text = json.dumps(
        {
            "Regions": {
                "1": {"RegionID": 2, "RegionCode": "c", "Nodes": [node]},
                "3": {"RegionID": 3, "RegionCode": "c", "Nodes": [node]},
            }
        },
        indent=0,
    )
    assert [message for _, _, message, _ in said({"derp.hujson": text})] == [
        'region "1" says that its id is 2',
        'region code "c" is used twice',
        'server name "a" is used twice',
    ]

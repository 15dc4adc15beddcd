"""The language of posture conditions, and what a device is to it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mergescale.policy.attrconfig import AttributeConfig, AttributeType
from mergescale.policy.device import attributes_of
from mergescale.policy.postures import (
    Attribute,
    Condition,
    Operator,
    Posture,
    evaluate,
    parse_condition,
)
from mergescale.policy.selectors import Malformed
from support.policies import diagnose, policy, underlined
from support.worlds import node

MAC: dict[str, Attribute] = {
    "node:os": "macos",
    "node:osVersion": "13.4.0",
    "node:tsVersion": "1.42.2",
    "node:tsReleaseTrack": "stable",
    "node:tsAutoUpdate": True,
    "custom:tier": "prod",
    "custom:score": 80.0,
    "custom:checked": False,
}


def condition(text: str) -> Condition:
    read = parse_condition(text)
    assert isinstance(read, Condition), read
    return read


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("node:os == 'macos'", Condition("node:os", Operator.EQUAL, ("macos",))),
        ('  node:os=="macos" ', Condition("node:os", Operator.EQUAL, ("macos",))),
        ("custom:n<5.5", Condition("custom:n", Operator.LESS, (5.5,))),
        ("custom:n >= -3", Condition("custom:n", Operator.MORE_OR_EQUAL, (-3.0,))),
        ("ip:country in ['CA', 'US',]", Condition("ip:country", Operator.IN, ("CA", "US"))),
        ("custom:a NOT  IN [1,true,'x']", Condition("custom:a", Operator.NOT_IN, (1.0, True, "x"))),
        ("custom:a IN []", Condition("custom:a", Operator.IN)),
        ("custom:a IS SET", Condition("custom:a", Operator.SET)),
        ("custom:a not set", Condition("custom:a", Operator.NOT_SET)),
        ("node:tsAutoUpdate", Condition("node:tsAutoUpdate", Operator.EQUAL, (True,))),
        ("custom:a != false", Condition("custom:a", Operator.UNEQUAL, (False,))),
    ],
)
def test_conditions_are_read(text: str, read: Condition) -> None:
    """Each operator with its literals; printed and read again it is the same."""
    assert condition(text) == read
    assert condition(str(read)) == read
    assert [type(one) for one in condition(text).values] == [type(one) for one in read.values]


@pytest.mark.parametrize(
    "text",
    ["", "macos", "os == 'macos'", "node:os", "node:os ==", "node:os = 'macos'", "node:os == macos",
     "node:os == 'macos", "node:os == 'a' 'b'", "node:os == ['a']", "node:os IN 'a'",
     "node:os IN ['a' 'b']", "node:os IN [,]", "node:os IN ['a'", "node:os IN ['a']]",
     "custom:x IS SET 'a'", "custom:x IS SETX", "custom:x SET", "custom:x == truex",
     "node:oss == 'macos'", "node:os == 3", "node:tsVersion >= 1.40", "node:tsAutoUpdate == 'true'",
     "node:os > 'a'", "custom:x < 'a'", "custom:x < true", "custom:x == 'it\\'s'"],
)  # fmt: skip
def test_what_is_no_condition_is_refused(text: str) -> None:
    """Nothing is guessed: a text that is not wholly understood is malformed, with a message."""
    read = parse_condition(text)
    assert isinstance(read, Malformed)
    assert read.message
    assert read.help


def test_a_misspelt_attribute_is_suggested() -> None:
    """The nearest attribute that every device may have."""
    read = parse_condition("node:osversion >= '13'")
    assert read == Malformed(
        'posture attribute "node:osversion" is not known', 'did you mean "node:osVersion"?'
    )


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("node:os == 'macos'", True),
        ("node:os == 'macOS'", False),
        ("node:os != 'linux'", True),
        ("node:os IN ['linux', 'macos']", True),
        ("node:os NOT IN ['linux', 'macos']", False),
        ("node:os IN []", False),
        ("node:os NOT IN []", True),
        ("node:tsVersion >= '1.40'", True),
        ("node:tsVersion >= '1.100'", False),
        ("node:tsVersion < '1.100'", True),
        ("node:osVersion == '13.4.0'", True),
        ("node:osVersion == '13.4'", False),
        ("node:osVersion > '13.4'", True),
        ("node:osVersion <= '13.4.0'", True),
        ("node:tsAutoUpdate", True),
        ("custom:score > 79.5", True),
        ("custom:score > 80", False),
        ("custom:score >= 80", True),
        ("custom:score == 80", True),
        ("custom:score == '80'", False),
        ("custom:checked == false", True),
        ("custom:checked == 0", False),
        ("custom:checked", False),
        ("custom:tier != 5", True),
        ("custom:tier > 5", False),
        ("custom:tier IS SET", True),
        ("custom:tier NOT SET", False),
        ("custom:checked IS SET", True),
        ("custom:none NOT SET", True),
        ("custom:none IS SET", False),
        ("custom:none != 'x'", False),
        ("custom:none NOT IN ['x']", False),
        ("custom:none < 1", False),
    ],
)
def test_conditions_hold_or_not(text: str, holds: bool) -> None:
    """What is not set satisfies nothing but NOT SET; values of other types are never the same."""
    assert evaluate(Posture("posture:x", (condition(text),)), MAC) is holds


def test_a_posture_needs_all_of_its_conditions() -> None:
    """One that fails is enough; none at all is every device."""
    good, bad = condition("node:os == 'macos'"), condition("node:os == 'linux'")
    assert evaluate(Posture("posture:x", (good, good)), MAC)
    assert not evaluate(Posture("posture:x", (good, bad)), MAC)
    assert evaluate(Posture("posture:x", ()), {})


@pytest.mark.parametrize(
    ("said", "attributes"),
    [
        (
            {"OS": "macOS", "OSVersion": "13.4.0", "IPNVersion": "1.42.2-tabc-gdef",
             "AllowsUpdate": True, "StateEncrypted": False},
            {"node:os": "macos", "node:osVersion": "13.4.0", "node:tsVersion": "1.42.2",
             "node:tsReleaseTrack": "stable", "node:tsAutoUpdate": True,
             "node:tsStateEncrypted": False},
        ),
        (
            {"OS": "linux", "IPNVersion": "1.43.7"},
            {"node:os": "linux", "node:tsVersion": "1.43.7", "node:tsReleaseTrack": "unstable",
             "node:tsAutoUpdate": False},
        ),
        ({}, {"node:tsAutoUpdate": False}),
        (
            {"OS": 5, "OSVersion": "", "IPNVersion": "date.1", "StateEncrypted": "yes"},
            {"node:tsAutoUpdate": False},
        ),
    ],
)  # fmt: skip
def test_a_device_is_what_its_client_says(
    said: dict[str, object], attributes: dict[str, Attribute]
) -> None:
    """Attributes come from Hostinfo; what is missing or no text is not set."""
    one = replace(node(1, "x", user=None, tags=("tag:a",)), hostinfo=json.dumps(said).encode())
    assert attributes_of(one) == attributes


def text(**sections: object) -> str:
    return json.dumps({"tagOwners": {"tag:admin": []}, "acls": [], **sections})


def test_postures_and_attribute_types_are_in_the_document() -> None:
    """Both sections are typed and keep what they say."""
    document = policy(
        text(
            postures={"posture:a": ["node:os == 'macos'", "custom:n > 3"]},
            attrConfig={
                "custom:n": {"type": "number", "allowSetByNode": True,
                             "broadcastToPeers": ["tag:admin"]},
                "custom:any": {},
            },
        )
    ).document  # fmt: skip

    conditions = (condition("node:os == 'macos'"), condition("custom:n > 3"))
    assert document.postures == {"posture:a": Posture("posture:a", conditions)}
    number, anything = document.attribute_configs.values()
    assert (number.name, number.type, number.set_by_node) == (
        "custom:n",
        AttributeType.NUMBER,
        True,
    )
    assert [str(one) for one in number.broadcast] == ["tag:admin"]
    assert anything == AttributeConfig("custom:any")


@pytest.mark.parametrize(
    ("kind", "value", "good"),
    [
        (AttributeType.STRING, "x", True),
        (AttributeType.STRING, 1.0, False),
        (AttributeType.NUMBER, 1.0, True),
        (AttributeType.NUMBER, True, False),
        (AttributeType.BOOL, True, True),
        (AttributeType.BOOL, 1.0, False),
        (None, "x", True),
    ],
)
def test_a_type_admits_its_values_only(
    kind: AttributeType | None, value: Attribute, good: bool
) -> None:
    """Without a type everything is admitted."""
    assert AttributeConfig("custom:x", kind).admits(value) is good


@pytest.mark.parametrize(
    ("sections", "under", "message"),
    [
        ({"postures": {"a": []}}, '"a"', '"a" is not a posture name'),
        ({"postures": {"posture:a": ["x"]}}, '"x"', '"x" is not a posture condition'),
        ({"postures": {"posture:a": "x"}}, '"x"', "posture:a must be an array, not a string"),
        (
            {
                "postures": {"posture:a": ["custom:n == 'x'"]},
                "attrConfig": {"custom:n": {"type": "number"}},
            },
            "\"custom:n == 'x'\"",
            "attrConfig says that custom:n is a number",
        ),
        ({"attrConfig": {"n": {}}}, '"n"', '"n" is not the name of a custom attribute'),
        ({"attrConfig": {"node:os": {}}}, '"node:os"',
         '"node:os" is not the name of a custom attribute'),
        ({"attrConfig": {"custom:n": {"type": "int"}}}, '"int"', 'type "int" is not known'),
        (
            {"attrConfig": {"custom:n": {"allowSetByNode": 1}}},
            "1",
            "allowSetByNode must be a boolean, not a number",
        ),
        (
            {"attrConfig": {"custom:n": {"broadcastToPeers": ["tag:x"]}}},
            '"tag:x"',
            'tag not found: "tag:x"',
        ),
        ({"attrConfig": {"custom:n": {"typ": "x"}}}, '"typ"', 'attrConfig key "typ" is not known'),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(
    sections: dict[str, object], under: str, message: str
) -> None:
    """The message says what is wrong and underlines just that."""
    written = text(**sections)
    compiled, found = diagnose(written)

    assert compiled is None
    assert [(one.message, underlined(written, one)) for one in found] == [(message, under)]


def test_what_no_device_can_have_is_a_warning() -> None:
    """A condition on an attribute of some other service, and a posture that says nothing."""
    written = text(postures={"posture:a": ["falcon:ztaScore > 80"], "posture:b": []})
    compiled, found = diagnose(written)

    assert compiled is not None
    assert [(one.severity.value, underlined(written, one)) for one in found] == [
        ("warning", '"falcon:ztaScore > 80"'),
        ("warning", '"posture:b"'),
    ]

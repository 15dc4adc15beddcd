"""The JSON Schema of ``policy.hujson``, for editors.

The server reads policies with ``policy.check``, which knows what names mean and compares field
names without case, as the hosted service does. The schema is therefore a guide and not a judge: it
knows the documented spelling only, since patterns for all others would take completion and
descriptions from editors. A test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mergescale.policy.files import derp, forms

_SELECTOR_WORDS: Final = (
    "a login, user:*@domain, group:name, tag:name, autogroup:name, ipset:name, a name of hosts, an"
    " address, a CIDR, a range or *"
)


def _listed(description: str) -> dict[str, Any]:
    return {
        "type": "array",
        "items": {"type": "string", "minLength": 1},
        "description": description,
    }


def _mapped(names: str | None, values: Mapping[str, Any], description: str) -> dict[str, Any]:
    named = {} if names is None else {"propertyNames": {"pattern": names}}
    return {
        "type": "object",
        **named,
        "additionalProperties": values,
        "description": description,
    }


def _entries(
    description: str,
    required: list[str],
    properties: dict[str, Any],
    *either: tuple[str, ...],
) -> dict[str, Any]:
    """Return a list of objects; of each tuple of `either` at least one field is required."""
    choices = [{"anyOf": [{"required": [name]} for name in names]} for names in either]
    return {
        "type": "array",
        "description": description,
        "items": {
            "type": "object",
            "required": required,
            "additionalProperties": False,
            "properties": properties,
            **({"allOf": choices} if choices else {}),
        },
    }


_SRC: Final = _listed(f"Who may connect: {_SELECTOR_WORDS}.")
_PROTO: Final = {
    "type": "string",
    "description": "IP protocol by name or number, e.g. tcp, udp, icmp, 47. Default: TCP, UDP and ICMP.",
}
_PROBES: Final = "Destinations with one port each, e.g. tag:web:443."

_CONNECTOR: Final = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "description": "Name of the application, for people."},
        "connectors": _listed('Tags of the devices that carry it, or "*" for every connector.'),
        "domains": _listed("Its domains: example.com, or *.example.com with all below it."),
        "routes": _listed("Addresses that connectors route whatever DNS says, e.g. 192.0.2.0/24."),
        "presetAppID": {
            "type": "string",
            "description": "A list of the hosted service. Without effect here: name the domains.",
        },
    },
}

_NODE_ATTRS: Final = _entries(
    "What devices are told they may do, and where new ones take their address. Entries add up.",
    [],
    {
        "target": _listed(f"Which devices: {_SELECTOR_WORDS}. None when left out."),
        "attr": _listed(
            "Attributes without values, e.g. funnel, randomize-client-port, drive:share,"
            " disable-captive-portal-detection, nextdns:<profile>. Passed on as they are."
        ),
        "app": {
            "type": "object",
            "description": "Attributes with values; clients read tailscale.com/app-connectors.",
            "properties": {
                "tailscale.com/app-connectors": {
                    "type": "array",
                    "items": _CONNECTOR,
                    "description": "Applications that app connectors stand for.",
                }
            },
            "additionalProperties": {"type": "array", "description": "Values of the attribute."},
        },
        "ipPool": _listed(
            "Parts of 100.64.0.0/10 where new devices take their IPv4 address, e.g. 100.81.0.0/16."
            " The first entry for a device decides; devices keep the address they have."
        ),
    },
)

_ATTR_CONFIG: Final = {
    "type": "object",
    "description": "Attributes of devices that the API, or the device itself, may set.",
    "propertyNames": {"pattern": r"^custom:[A-Za-z0-9_:]{1,121}$"},
    "additionalProperties": {
        "type": "object",
        "description": "What may be said of the attribute.",
        "additionalProperties": False,
        "properties": {
            "type": {
                "type": "string",
                "enum": ["string", "bool", "number"],
                "description": "What its values are. Left out: any of these.",
            },
            "allowSetByNode": {
                "type": "boolean",
                "default": False,
                "description": "A device may set it for itself.",
            },
            "broadcastToPeers": _listed("Devices that are told the value, e.g. tag:admin."),
        },
    },
}

SCHEMA: Final[dict[str, Any]] = forms.document(
    "policy.hujson",
    "Who may reach what. Nothing is allowed unless a rule of acls or grants allows it.",
    {
        "groups": _mapped(
            r"^group:\S+$",
            _listed("Logins of the group's members."),
            "Groups of people, e.g. group:ops; joined with the groups of users.hujson.",
        ),
        "hosts": _mapped(
            None,
            {"type": "string", "description": "IP address or CIDR."},
            "Names for addresses, to use in rules.",
        ),
        "ipsets": _mapped(
            r"^ipset:\S+$",
            _listed("Addresses, hosts and ipsets; each may follow the word add or remove."),
            'Named sets of addresses, e.g. "ipset:prod": ["10.0.0.0/8", "remove 10.1.0.0/16"].',
        ),
        "tagOwners": _mapped(
            forms.TAG,
            _listed("Who may give the tag to a device: logins, groups, autogroups, tags."),
            "Tags and their owners; a tag that is not declared here or in tags.hujson is an error.",
        ),
        "acls": _entries(
            "Rules that allow connections. Order does not matter.",
            ["action"],
            {
                "action": {"type": "string", "enum": ["accept"], "description": "Always accept."},
                "proto": _PROTO,
                "src": _SRC,
                "dst": _listed("What may be reached, with ports: tag:web:80,443 or *:*."),
                "srcPosture": _listed("Postures of which the source's device needs one."),
                "users": _listed("The old name of src."),
                "ports": _listed("The old name of dst."),
            },
            ("src", "users"),
            ("dst", "ports"),
        ),
        "grants": _entries(
            "Rules that allow connections, with ports apart from destinations.",
            ["src", "dst"],
            {
                "src": _SRC,
                "dst": _listed(f"What may be reached: {_SELECTOR_WORDS}."),
                "ip": {
                    **_listed('Protocols and ports: "*", "80-90", "tcp:443", "icmp:*".'),
                },
                "app": _mapped(
                    r"^[A-Za-z0-9][A-Za-z0-9.-]*/\S+$",
                    {"type": "array", "description": "Values that the application reads."},
                    "Capabilities by name, e.g. tailscale.com/cap/drive or example.com/cap/admin.",
                ),
                "via": _listed("Tags of the routers that the traffic must go through."),
                "srcPosture": _listed("Postures of which the source's device needs one."),
            },
            ("ip", "app"),
        ),
        "autoApprovers": {
            "type": "object",
            "additionalProperties": False,
            "description": "Whose devices need no operator to route.",
            "properties": {
                "routes": _mapped(
                    None,
                    _listed("Logins, groups, autogroups and tags."),
                    "Subnets, e.g. 10.0.0.0/8, and whose devices may route them or a part of them.",
                ),
                "exitNode": _listed("Whose devices may be exit nodes."),
                "services": _mapped(
                    r"^(svc|tag):\S+$",
                    _listed("Logins, groups, autogroups and tags."),
                    "Services, e.g. svc:web, and whose devices may offer them.",
                ),
            },
        },
        "postures": _mapped(
            r"^posture:\S+$",
            _listed("Conditions, all of which must hold: node:os == 'macos', custom:x IS SET."),
            "Named conditions on the device that opens a connection. Attributes: node:os,"
            " node:osVersion, node:tsVersion, node:tsReleaseTrack, node:tsAutoUpdate,"
            " node:tsStateEncrypted, custom:*. Operators: ==, !=, IN, NOT IN, IS SET, NOT SET, and"
            " <, <=, >, >= for numbers and versions.",
        ),
        "attrConfig": _ATTR_CONFIG,
        "nodeAttrs": _NODE_ATTRS,
        "randomizeClientPort": {
            "type": "boolean",
            "default": False,
            "description": "Clients use a random UDP port instead of 41641.",
        },
        "ssh": _entries(
            "Who may log in with Tailscale SSH; rules that check come before those that accept.",
            ["action", "users"],
            {
                "action": {
                    "type": "string",
                    "enum": ["accept", "check"],
                    "description": "accept lets in at once, check after a person has approved.",
                },
                "src": _listed("Who may log in: logins, user:*@domain, groups, tags, autogroups."),
                "dst": _listed(
                    "Where: tags, autogroup:tagged, autogroup:self, or the one login that src names."
                ),
                "users": {
                    **_listed(
                        "As which local users: root, autogroup:nonroot, localpart:*@domain or names."
                    ),
                    "minItems": 1,
                },
                "checkPeriod": {
                    "type": "string",
                    "description": 'How long a check lasts: "always" or 1m to 168h. Default: 12h.',
                },
                "acceptEnv": _listed("Variables that may be sent, with * and ?, e.g. LC_*."),
                "recorder": _listed("Tags of the devices that record sessions."),
                "enforceRecorder": {
                    "type": "boolean",
                    "description": "Refuse sessions that no recorder takes. Default: false.",
                },
            },
        ),
        "derpMap": {
            **{key: derp.SCHEMA[key] for key in ("type", "additionalProperties")},
            "description": "Relays (DERP regions), as in derp.hujson; only one of them may have any.",
            "properties": {
                name: one for name, one in derp.SCHEMA["properties"].items() if name != "$schema"
            },
        },
        "disableIPv4": {
            "type": "boolean",
            "default": False,
            "description": "Devices have IPv6 addresses only. For some of them: the attribute"
            " disable-ipv4 in nodeAttrs.",
        },
        "oneCGNATRoute": {
            "type": "string",
            "enum": ["", "mac-always", "mac-never"],
            "description": "Whether macOS devices route 100.64.0.0/10 as one. Left out or empty:"
            " unless something else routes a part of it.",
        },
        "defaultSrcPosture": _listed("What rules without srcPosture ask for."),
        "tests": _entries(
            "Expectations; a commit that breaks one changes nothing.",
            [],
            {
                "src": {
                    "type": "string",
                    "description": "Who connects: a login, group, tag, host or address.",
                },
                "proto": {**_PROTO, "description": "IP protocol of the test. Default: TCP."},
                "accept": _listed(f"Must be allowed. {_PROBES}"),
                "deny": _listed(f"Must not be allowed. {_PROBES}"),
                "srcPostureAttrs": {
                    "type": "object",
                    "additionalProperties": {"type": ["string", "number", "boolean"]},
                    "description": "What the source's device is like, e.g. node:os: macos.",
                },
                "user": {"type": "string", "description": "The old name of src."},
                "allow": _listed("The old name of accept."),
            },
            ("src", "user"),
        ),
        "sshTests": _entries(
            "Expectations about ssh; a commit that breaks one changes nothing.",
            ["src", "dst"],
            {
                "src": {
                    "type": "string",
                    "description": "Who logs in: a login, group, tag, host or address.",
                },
                "dst": _listed("Where: logins, groups, tags, hosts or addresses."),
                "accept": _listed("Local users that must be let in at once."),
                "check": _listed("Local users that must be let in after a check."),
                "deny": _listed("Local users that must not be let in."),
            },
        ),
    },
    anyOf=[{"required": ["acls"]}, {"required": ["grants"]}],
)

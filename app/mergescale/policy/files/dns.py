"""``dns.hujson``: MagicDNS, nameservers, split DNS, search paths, extra records."""

from __future__ import annotations

import re
from typing import Any, Final

from mergescale.domain.tailnet import Dns, ExtraRecord
from mergescale.policy.diagnostics import Report, quoted
from mergescale.policy.files import forms
from mergescale.policy.hujson import Value

_DOH = re.compile(r"https://[A-Za-z0-9.\[\]:-]+(/[A-Za-z0-9._~/?=&{}-]*)?")
_TYPES = {4: "A", 6: "AAAA"}
_SERVER: Final = {"type": "string", "minLength": 1}
_SERVER_WORDS = "an IP address or an https:// address (DNS over HTTPS)"

SCHEMA: Final[dict[str, Any]] = forms.document(
    "dns.hujson",
    "DNS of the tailnet. Everything is optional.",
    {
        "magicDNS": {
            "type": "boolean",
            "default": True,
            "description": "Devices answer to their names.",
        },
        "nameservers": {
            "type": "array",
            "uniqueItems": True,
            "items": _SERVER,
            "description": f"Resolvers for all other names: {_SERVER_WORDS}.",
        },
        "overrideLocalDNS": {
            "type": "boolean",
            "default": False,
            "description": "Use nameservers instead of what the device's own network says.",
        },
        "splitDNS": {
            "type": "object",
            "patternProperties": {
                forms.DOMAIN: {
                    "type": "array",
                    "minItems": 1,
                    "uniqueItems": True,
                    "items": _SERVER,
                },
            },
            "additionalProperties": False,
            "patternErrorMessage": "a domain name",
            "description": "Resolvers for the names below a domain.",
        },
        "searchPaths": {
            "type": "array",
            "uniqueItems": True,
            "items": {
                "type": "string",
                "pattern": forms.DOMAIN,
                "patternErrorMessage": "a domain name",
            },
            "description": "Search domains, after the tailnet's own.",
        },
        "extraRecords": {
            "type": "array",
            "description": "Names that MagicDNS answers besides the devices'.",
            "items": {
                "type": "object",
                "required": ["name", "value"],
                "additionalProperties": False,
                "properties": {
                    "name": {
                        "type": "string",
                        "pattern": forms.DOMAIN,
                        "patternErrorMessage": "a domain name",
                        "description": "Full name, e.g. wiki.corp.example.com.",
                    },
                    "type": {
                        "type": "string",
                        "enum": ["A", "AAAA"],
                        "description": "Default: what the value is.",
                    },
                    "value": {"type": "string", "description": "IP address."},
                },
            },
        },
    },
)


def read(value: Value, report: Report) -> Dns:
    """Return the DNS settings; addresses that are none go to `report`."""
    nameservers = _servers(value.get("nameservers"), report)
    override = value.get("overrideLocalDNS")
    overrides = forms.boolean(override, default=False)
    if override is not None and overrides and not nameservers:
        report.error(
            "dns.override",
            override.span,
            "devices would be left without any resolver",
            'add "nameservers"',
        )
    return Dns(
        magic_dns=forms.boolean(value.get("magicDNS"), default=True),
        nameservers=nameservers,
        override_local=overrides,
        split=_split(value.get("splitDNS"), report),
        search=_search(value.get("searchPaths")),
        records=_records(value.get("extraRecords"), report),
    )


def _servers(value: Value | None, report: Report) -> tuple[str, ...]:
    found: list[str] = []
    for text, item in forms.strings(value):
        if (address := forms.address(text)) is not None:
            found.append(str(address))
        elif _DOH.fullmatch(text):
            found.append(text)
        elif text:
            message = f"{quoted(text)} is not {_SERVER_WORDS}"
            report.error("dns.nameserver", item.span, message)
    return tuple(found)


def _split(value: Value | None, report: Report) -> dict[str, tuple[str, ...]]:
    split: dict[str, tuple[str, ...]] = {}
    for member in value.members if value is not None else ():
        suffix = forms.domain(member.key)
        if suffix is None:
            continue
        if suffix in split:
            message = f"{quoted(suffix)} is declared twice"
            report.error("dns.twice", member.key_span, message, "domains are compared without case")
        split[suffix] = _servers(member.value, report)
    return split


def _search(value: Value | None) -> tuple[str, ...]:
    names = (forms.domain(text) for text, _ in forms.strings(value))
    return tuple(dict.fromkeys(name for name in names if name is not None))


def _records(value: Value | None, report: Report) -> tuple[ExtraRecord, ...]:
    records: list[ExtraRecord] = []
    for item in value.items if value is not None else ():
        name, answer = forms.string(item.get("name")), item.get("value")
        text = forms.string(answer)
        if answer is None or text is None:
            continue
        address = forms.address(text)
        if address is None:
            report.error("dns.record", answer.span, f"{quoted(text)} is not an IP address")
            continue
        kind = _TYPES[address.version]
        said = item.get("type")
        if said is not None and forms.string(said) in {"A", "AAAA"} and said.scalar != kind:
            message = f"an {said.scalar} record does not hold an IPv{address.version} address"
            report.error("dns.record", said.span, message, f"write {quoted(kind)} or leave it out")
        if name is not None and (plain := forms.domain(name)) is not None:
            records.append(ExtraRecord(plain, kind, str(address)))
    return tuple(records)

"""``tailnet.hujson``: settings of the tailnet."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from mergescale.domain.tailnet import DEFAULT_KEY_EXPIRY, Settings
from mergescale.policy.diagnostics import Report
from mergescale.policy.files import forms
from mergescale.policy.hujson import Kind, Value

#: LIMIT: ten years; beyond that "never" is what is meant.
_LONGEST_EXPIRY: Final = timedelta(days=3650)
_LONGEST_TIMEOUT: Final = timedelta(days=30)
_DURATION_MESSAGE = 'a duration such as "180d", "12h" or "1h30m"'

SCHEMA: Final[dict[str, Any]] = forms.document(
    "tailnet.hujson",
    "Settings of the tailnet. Everything is optional.",
    {
        "domain": {
            "type": "string",
            "minLength": 1,
            "maxLength": 253,
            "description": "Name of the tailnet that clients display, e.g. example.com.",
        },
        "magicDNSSuffix": {
            "type": "string",
            "pattern": forms.DOMAIN,
            "patternErrorMessage": "a domain name",
            "description": "What follows a device's name in DNS. Default: <tailnet>.tailnet.internal.",
        },
        "keyExpiry": {
            "type": "string",
            "pattern": f"^never$|{forms.DURATION}",
            "minLength": 1,
            "patternErrorMessage": f'{_DURATION_MESSAGE}, or "never"',
            "default": "180d",
            "description": "After this a person's device must log in again. Tagged devices never expire.",
        },
        "deviceApproval": {
            "type": "boolean",
            "default": False,
            "description": "New devices reach nobody until an operator approves them.",
        },
        "ephemeralTimeout": {
            "type": "string",
            "pattern": forms.DURATION,
            "minLength": 1,
            "patternErrorMessage": _DURATION_MESSAGE,
            "default": "5m",
            "description": "How long an ephemeral device may be offline before it is removed.",
        },
        "randomizeClientPort": {
            "type": "boolean",
            "default": False,
            "description": "Clients use a random UDP port instead of 41641.",
        },
        "openWithoutRules": {
            "type": "boolean",
            "default": False,
            "description": "A policy with neither acls nor grants allows everything, as the hosted service has it. Else such a policy is an error.",
        },
    },
)


def read(value: Value, report: Report) -> Settings:
    """Return the settings; what a schema cannot say goes to `report`."""
    defaults = Settings()
    suffix = forms.string(value.get("magicDNSSuffix"))
    expiry = value.get("keyExpiry")
    never = forms.string(expiry) == "never"
    return Settings(
        domain=forms.string(value.get("domain")) or "",
        magic_dns_suffix=(forms.domain(suffix) or "") if suffix else "",
        key_expiry=None
        if never
        else _duration(expiry, report, DEFAULT_KEY_EXPIRY, _LONGEST_EXPIRY),
        device_approval=forms.boolean(value.get("deviceApproval"), default=False),
        ephemeral_timeout=_duration(
            value.get("ephemeralTimeout"), report, defaults.ephemeral_timeout, _LONGEST_TIMEOUT
        ),
        randomize_client_port=forms.boolean(value.get("randomizeClientPort"), default=False),
        open_without_rules=forms.boolean(value.get("openWithoutRules"), default=False),
    )


def _duration(
    value: Value | None, report: Report, default: timedelta, longest: timedelta
) -> timedelta:
    if value is None or value.kind is not Kind.STRING:
        return default
    found = forms.duration(str(value.scalar))
    if found is None:
        return default
    if found > longest:
        report.error("tailnet.duration", value.span, f"this is longer than {longest.days} days")
    return found

"""What is known of a device besides what its client says: custom attributes for posture conditions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

#: Numbers are floats: JSON has no other ones.
AttributeValue = str | float | bool


@dataclass(frozen=True, slots=True)
class CustomAttribute:
    """One attribute that the API, or the device itself, has set.

    Attributes:
        name: ``custom:x``.
        expires: when it is removed; None for never.
    """

    name: str
    value: AttributeValue
    expires: datetime | None = None


class AttributeRule(Protocol):
    """What the policy says of a custom attribute."""

    @property
    def set_by_node(self) -> bool:
        """Whether a device may set it for itself."""
        ...

    def admits(self, value: AttributeValue) -> bool:
        """Say whether a value is of its type."""
        ...

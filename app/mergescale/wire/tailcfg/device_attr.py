"""``PATCH /machine/set-device-attr``: tailcfg.SetDeviceAttributesRequest."""

from __future__ import annotations

from typing import Any, Final

from msgspec import field

from mergescale.kernel.errors import RemoteProtocolError
from mergescale.kernel.keys import NodeKey
from mergescale.wire.tailcfg.decode import Shape, decode_request, key
from mergescale.wire.tailcfg.names import Wire


class SetDeviceAttributesRequest(Wire, frozen=True, kw_only=True):
    """tailcfg.SetDeviceAttributesRequest.

    Attributes:
        version: capability version.
        node_key: whose attributes; must be the asking machine's.
        update: name -> text, number or boolean; None takes the attribute away.
    """

    version: int = 0
    node_key: NodeKey = NodeKey.zero()
    update: dict[str, str | float | bool | None] = field(default_factory=dict)


def _update(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise RemoteProtocolError("an object was expected")
    return {
        name: float(one) if isinstance(one, int) and not isinstance(one, bool) else one
        for name, one in value.items()
    }


_REQUEST: Final = Shape(SetDeviceAttributesRequest, {"node_key": key(NodeKey), "update": _update})


def decode_device_attributes(body: bytes) -> SetDeviceAttributesRequest:
    """Return the request in a body; raise `RemoteProtocolError` if malformed."""
    return decode_request(body, _REQUEST, SetDeviceAttributesRequest)

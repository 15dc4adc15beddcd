"""What OpenAPI says of bodies that are no objects of ours: policies and forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Reference,
    RequestBody,
    Schema,
)
from litestar.openapi.spec.enums import OpenAPIType

from mergescale.api.problems import Message

HUJSON: Final = "application/hujson"
_JSON: Final = "application/json"
_FORM: Final = "application/x-www-form-urlencoded"
#: What only an `If-Match` can be answered with.
MOVED: Final[Mapping[int, ResponseSpec]] = {
    412: ResponseSpec(
        Message,
        description="`If-Match` names something else than what is in force",
        generate_examples=False,
    )
}


def _policy() -> dict[str, OpenAPIMediaType]:
    return {
        HUJSON: OpenAPIMediaType(Schema(type=OpenAPIType.STRING)),
        _JSON: OpenAPIMediaType(Schema(type=OpenAPIType.OBJECT)),
    }


@dataclass
class ReadsPolicy(Operation):
    """An operation that answers with a policy."""

    def __post_init__(self) -> None:
        """Say so."""
        self.responses = {
            **(self.responses or {}),
            "200": OpenAPIResponse("The policy", content=_policy()),
        }


@dataclass
class TriesPolicy(Operation):
    """An operation that is sent a policy."""

    def __post_init__(self) -> None:
        """Say so."""
        self.request_body = RequestBody(_policy(), required=True)


@dataclass
class WritesPolicy(ReadsPolicy):
    """An operation that is sent a policy and answers with one."""

    def __post_init__(self) -> None:
        """Say so."""
        ReadsPolicy.__post_init__(self)
        self.request_body = RequestBody(_policy(), required=True)


@dataclass
class TakesForm(Operation):
    """An operation that is sent a form."""

    def __post_init__(self) -> None:
        """Say so, and that it needs no token."""
        text = Schema(type=OpenAPIType.STRING)
        grant = Schema(type=OpenAPIType.STRING, enum=["client_credentials"])
        names = ("client_id", "client_secret", "scope")
        properties: dict[str, Schema | Reference] = {
            "grant_type": grant,
            **dict.fromkeys(names, text),
        }
        form = Schema(type=OpenAPIType.OBJECT, properties=properties)
        self.request_body = RequestBody({_FORM: OpenAPIMediaType(form)}, required=True)
        self.security = []

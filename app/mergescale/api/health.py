"""What load balancers, people and crawlers ask without a token: health, version, robots."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from msgspec import Struct

from mergescale import __version__
from mergescale.wire.tailcfg.capver import CURRENT, MINIMUM

_MEDIA_TYPE: Final = "application/health+json"
#: LIMIT: a check that takes longer is ill; load balancers give up after a few seconds.
CHECK_S: Final = 2.0


class Health(StrEnum):
    """How a part of the server is (draft-inadarei-api-health-check, section 3.1)."""

    PASS = "pass"  # noqa: S105 - a word of the format
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found.

    Attributes:
        output: why it is not well; anybody may read it, so nothing internal.
    """

    health: Health
    output: str = ""


#: Looks at one part of the server; an exception is an illness.
Check = Callable[[], Awaitable[Checked]]


class Part(Struct, frozen=True, omit_defaults=True):
    """One part of the server."""

    status: Health
    output: str = ""


class Report(Struct, frozen=True, kw_only=True, rename="camel"):
    """The server's health.

    Attributes:
        status: that of the worst part.
        checks: by part; a list, as the format has it, of one.
    """

    status: Health
    version: str = __version__
    checks: dict[str, list[Part]]


class Version(Struct, frozen=True, kw_only=True, rename="camel"):
    """What runs here.

    Attributes:
        minimum_capability_version: of the oldest client that is served.
        capability_version: of the newest client whose protocol is known.
    """

    name: str = "mergescale"
    version: str = __version__
    minimum_capability_version: int = MINIMUM
    capability_version: int = CURRENT


_ILL: Final = ResponseSpec(
    Report, description="Some part fails", generate_examples=False, media_type=_MEDIA_TYPE
)


def health_handlers(checks: Mapping[str, Check]) -> list[HTTPRouteHandler]:
    """Return the handlers.

    Args:
        checks: part -> how to look at it.
    """

    @get("/health", responses={503: _ILL}, media_type=_MEDIA_TYPE, tags=["Server"])
    async def read_health() -> Response[Report]:
        """Say whether the server is well, and which part is not. 503 if some part fails."""
        found = await asyncio.gather(*(_look(check) for check in checks.values()))
        report = Report(
            status=_worst(found),
            checks={
                name: [Part(one.health, one.output)]
                for name, one in zip(checks, found, strict=True)
            },
        )
        status_code = 503 if report.status is Health.FAIL else 200
        headers = {"cache-control": "no-store"}
        return Response(report, status_code=status_code, media_type=_MEDIA_TYPE, headers=headers)

    @get("/version", tags=["Server"], sync_to_thread=False)
    def read_version() -> Version:
        """Say what runs here."""
        return Version()

    @get("/robots.txt", media_type="text/plain", include_in_schema=False, sync_to_thread=False)
    def read_robots() -> str:
        """Ask search engines to stay away: the addresses of logins are nobody else's business."""
        return "User-agent: *\nDisallow: /\n"

    return [read_health, read_version, read_robots]


async def _look(check: Check) -> Checked:
    try:
        async with asyncio.timeout(CHECK_S):
            return await check()
    except TimeoutError:
        return Checked(Health.FAIL, f"no answer within {CHECK_S:g} s")
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it is ill
        return Checked(Health.FAIL, type(error).__name__)


def _worst(found: list[Checked]) -> Health:
    order = list(Health)
    return max((one.health for one in found), key=order.index, default=Health.PASS)

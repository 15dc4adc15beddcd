"""Logging: structlog everywhere, as lines for people or as JSON for machines.

Event names are constant (``policy.applied``), values are keys. Secrets have no business in a log;
as a last guard, anything that looks like one of our keys or tokens is masked.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Literal

import structlog

#: Texts of pre-auth keys and API tokens, and private keys.
_SECRET: Final = re.compile(r"(mskey-[a-z]+-[A-Za-z0-9]+)-[A-Za-z0-9_-]+|privkey:[0-9a-f]{8,}")


def set_up_logs(level: str, form: Literal["console", "json"]) -> None:
    """Send structlog's and the standard library's records to standard error in one form."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _mask,
    ]
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Libraries speak only when something is wrong; our own events tell the rest.
    for noisy in (
        "uvicorn",
        "alembic",
        "sqlalchemy",
        "hpack",
        "aiosqlite",
        "git",
        "asyncio",
        "httpx",
        "litestar",
    ):
        logging.getLogger(noisy).setLevel("WARNING")


def _mask(
    logger: Any,  # noqa: ARG001 - structlog's signature
    name: str,  # noqa: ARG001
    event: MutableMapping[str, Any],
) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = _SECRET.sub(_masked, value)
    return event


def _masked(found: re.Match[str]) -> str:
    return f"{found[1]}-…" if found[1] else "privkey:…"

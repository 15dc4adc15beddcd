"""Logging: structlog everywhere, as lines for people or as JSON for machines.

Event names are constant (``policy.applied``), values are keys. While a request is served its id is
in every line (``request``), and over Noise the machine's short key (``machine``). No event can flood
the log (``log_pace``). Secrets have no business in a log; as a last guard, whatever looks like one
of our keys or tokens, or like a password in a URL, is masked in the finished line.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, Final, Literal

import structlog

from mergescale.server.log_pace import Pace

#: Texts of pre-auth keys and API tokens, private keys, and the password of a URL.
_SECRET: Final = re.compile(
    r"(mskey-[a-z]+-[A-Za-z0-9]+)-[A-Za-z0-9_-]+"
    r"|(privkey:)[0-9a-f]{8,}"
    r"|(\b[a-z][a-z0-9+.-]*://[^/@:\s]*:)[^/@\s]+(?=@)"
)


def set_up_logs(level: str, form: Literal["console", "json"]) -> None:
    """Send structlog's and the standard library's records to standard error in one form."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # The pretty ones show local variables, and those may be keys.
            exception_formatter=structlog.dev.plain_traceback,
        )
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
    handler.addFilter(Pace())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                renderer,
                _masked_line,
            ],
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
        "httpcore",
        "litestar",
    ):
        logging.getLogger(noisy).setLevel("WARNING")


def masked(text: str) -> str:
    """Return the text without what looks like a secret; what is public of a token stays."""
    return _SECRET.sub(lambda found: f"{found[1] or found[2] or found[3]}…", text)


def _masked_line(logger: Any, name: str, line: Any) -> str:  # noqa: ARG001 - structlog's signature
    return masked(line)

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.contextvars import bound_contextvars

from mergescale.server.logs import masked, set_up_logs


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What is logged as JSON at debug level."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    before = structlog.get_config()
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    set_up_logs("debug", "json")
    yield out
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


def entries(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_has_its_name_its_values_and_the_request(lines: io.StringIO) -> None:
    """One JSON object a line, with what was bound around it."""
    with bound_contextvars(request="r1"):
        structlog.get_logger().info("thing.done", size_bytes=3)
    [entry] = entries(lines)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {"event": "thing.done", "level": "info", "request": "r1", "size_bytes": 3}


def test_libraries_speak_the_same_form(lines: io.StringIO) -> None:
    """A record of the standard library is a line like any other, and names the request too."""
    with bound_contextvars(request="r2"):
        logging.getLogger("somebody").error("broke at %s", "dawn")
    [entry] = entries(lines)
    assert (entry["event"], entry["level"], entry["request"]) == ("broke at dawn", "error", "r2")


def test_a_secret_is_masked_wherever_it_stands(lines: io.StringIO) -> None:
    """In a message, a nested value and a traceback; what is public of a token stays."""
    token, key = "mskey-api-abc123-verysecret_-9", "privkey:" + "ab" * 32
    url = "postgresql+psycopg://mergescale:hunter2@db/name"
    log = structlog.get_logger()
    log.info("thing.said", nested={"tokens": [token]}, url=url)
    logging.getLogger("somebody").warning("key %s", key)
    try:
        raise ValueError(f"cannot use {token} at {url}")
    except ValueError:
        log.exception("thing.broke")
    text = lines.getvalue()
    assert [secret for secret in ("verysecret", "abab", "hunter2") if secret in text] == []
    assert text.count("mskey-api-abc123…") == 2
    assert len(entries(lines)) == 3


def test_what_is_no_secret_is_not_touched() -> None:
    """Addresses, commits and public keys stay readable."""
    text = f"https://host:8443/a@b nodekey:{'ab' * 32} ssh://git@host/x http://[::1]:80/ 10:20@30"
    assert masked(text) == text

"""Connections to PostgreSQL that nobody waits for without end.

A database can be silent in ways that no error tells: stopped, behind a link that drops packets, on
a disk that hangs, behind a lock. Each way ends by somebody's clock:

* ours: every wait for an answer, and every transaction as a whole (`Patience`);
* the kernel's, for a peer that takes nothing or is gone (TCP only);
* PostgreSQL's, so that what we gave up is not still holding locks that all others wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import psycopg
from psycopg import waiting
from psycopg.abc import PQGen
from sqlalchemy import URL, ExceptionContext, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

T = TypeVar("T")

#: LIMIT: reads are the start, catching up and history: a handful at once. Writes are the engines'
#: (one each), leases and failed attempts.
CONNECTIONS: Final = 4
#: Share of the patience that is left for a database that was silent when it was asked last.
_IMPATIENT: Final = 0.2
#: PostgreSQL's own deadlines as shares of ours: it ends a statement and says so before we give up
#: the connection. Who waits for a lock outlasts whoever holds it and does nothing.
_STATEMENT, _LOCK, _IDLE = 0.9, 0.8, 0.7
#: The server takes no writes: it is a standby, or was made one.
_READ_ONLY: Final = "25006"
#: How often a wait looks up in between; psycopg's own.
_INTERVAL_S: Final = 0.1


class Patience:
    """How long one transaction may take; None: for ever.

    While the database is silent, each try would cost its whole deadline, one after the other, and
    whoever waits for the last of them waits for all. So after one that was in vain the next ones
    get a fifth, until one is answered.

    Attributes:
        silent: the newest transaction that ended was in vain.
    """

    def __init__(self, answer_s: float | None) -> None:
        self.silent = False
        self._answer_s = answer_s

    @property
    def lasts_s(self) -> float | None:
        """Seconds that the next transaction gets."""
        if self._answer_s is None or not self.silent:
            return self._answer_s
        return self._answer_s * _IMPATIENT


class Connection(psycopg.AsyncConnection[Any]):
    """A connection that is closed as soon as nobody waits for its answer any more.

    psycopg would ask the server to cancel the query and wait for that: not the right thing with a
    server that is silent. Whoever gives up cannot know what became of a COMMIT; see
    `journal.SqlJournal`.
    """

    answer_s: float | None = None

    async def wait(
        self,
        gen: PQGen[T],
        interval: float = _INTERVAL_S,
        timeout: float | None = None,  # noqa: ASYNC109 - psycopg's signature
    ) -> T:
        """Wait for an answer for at most `answer_s`; for notices, for as long as they say.

        Raises:
            psycopg.OperationalError: there was none in time; the connection is closed.
        """
        limit_s = self.answer_s if timeout is None else None
        try:
            async with asyncio.timeout(limit_s):
                return await waiting.wait_async(
                    gen, self.pgconn.socket, interval=interval, timeout=timeout
                )
        except TimeoutError:
            self.pgconn.finish()
            raise psycopg.OperationalError("no answer in time") from None
        except asyncio.CancelledError:
            self.pgconn.finish()
            raise


def engine_of(target: URL, answer_s: float, *, writes: bool) -> AsyncEngine:
    """Return a pool of connections for one purpose."""
    engine = create_async_engine(
        target,
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=answer_s * _IDLE,
        pool_pre_ping=True,
        hide_parameters=True,
        # Compare-and-set needs the newest row at each statement; a read needs one moment.
        isolation_level="READ COMMITTED" if writes else "REPEATABLE READ",
        connect_args=arguments(answer_s) | {"async_creator_fn": _creator(answer_s)},
    )
    event.listen(engine.sync_engine, "handle_error", _leave_a_standby)
    return engine


async def connect(engine: AsyncEngine, answer_s: float) -> Connection:
    """Open a connection beside the pools, without transactions."""
    sync = engine.sync_engine
    _, parameters = sync.dialect.create_connect_args(sync.url)
    return await _creator(answer_s)(**{**parameters, **arguments(answer_s)}, autocommit=True)


def reaching(answer_s: float) -> dict[str, Any]:
    """Return how any connection is made: in time, to a peer that is noticed when gone, which writes."""
    whole_s = max(1, round(answer_s / 3))
    return {
        # psycopg takes 2 s for anything less.
        "connect_timeout": max(2, round(answer_s)),
        # Of TCP only; a unix socket ignores them.
        "tcp_user_timeout": round(answer_s * 1000),
        "keepalives_idle": whole_s,
        "keepalives_interval": whole_s,
        "keepalives_count": 2,
        # INVARIANT(one-truth): nothing is read from a standby either. It may lag, and a replica
        # that follows it would put back in force what a newer policy took away.
        "target_session_attrs": "read-write",
    }


def arguments(answer_s: float) -> dict[str, Any]:
    """Return what a connection is opened with: the client's deadlines and the server's."""
    server_ms = {
        "statement_timeout": _STATEMENT,
        "lock_timeout": _LOCK,
        "idle_in_transaction_session_timeout": _IDLE,
    }
    words = [f"-c {name}={round(answer_s * share * 1000)}" for name, share in server_ms.items()]
    return {**reaching(answer_s), "options": " ".join(words)}


def _creator(answer_s: float) -> Callable[..., Awaitable[Connection]]:
    async def create(*args: Any, **parameters: Any) -> Connection:
        connection = await Connection.connect(*args, **parameters)
        connection.answer_s = answer_s
        return connection

    return create


def _leave_a_standby(context: ExceptionContext) -> None:
    """Connect anew to a server that takes no writes: its URL may name the one that does.

    After a failover the old primary may go on as a standby and keep our connections.
    """
    if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
        context.is_disconnect = True

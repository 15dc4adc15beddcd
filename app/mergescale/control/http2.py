"""hyper-h2 set up as the server inside Noise: windows, settings and what it remembers."""

from __future__ import annotations

import struct

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings

from mergescale.control.limits import Limits

#: LIMIT: window of the connection: bodies that handlers have not taken yet, all streams together.
CONNECTION_WINDOW_BYTES = 1 << 20
#: LIMIT: one stream gets the RFC's default, so that no stream can use up the connection's window.
STREAM_WINDOW_BYTES = 65_535


def data_frame_head(stream_id: int, size_bytes: int) -> bytes:
    """Return the nine bytes before the body of a DATA frame (RFC 9113 4.1, 6.1)."""
    return struct.pack(">BHBBI", size_bytes >> 16, size_bytes & 0xFFFF, 0, 0, stream_id)


class Connection(H2Connection):
    """A connection of a client that may stay for weeks."""

    # LIMIT: the default remembers 65,536 closed streams, megabytes on a connection that lives for
    # weeks; frames still under way belong to the last few at most.
    MAX_CLOSED_STREAMS = 512

    def release(self) -> None:
        """Let go of itself; nothing is received after that.

        hyper-h2 keeps a table of its own methods. Without it a connection that is gone is freed at
        once, and not by a collection that stops the whole loop.
        """
        self._frame_dispatch_table.clear()


def server_connection(limits: Limits) -> Connection:
    """Return a connection that has sent nothing yet."""
    connection = Connection(H2Configuration(client_side=False, header_encoding=None))
    connection.local_settings = Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: limits.streams,
            SettingCodes.MAX_HEADER_LIST_SIZE: limits.header_list_bytes,
            SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
        },
    )
    # In force before the client has acknowledged it: requests may come earlier than that.
    connection.decoder.max_header_list_size = limits.header_list_bytes
    return connection

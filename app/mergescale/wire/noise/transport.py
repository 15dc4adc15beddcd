"""Records: what both sides exchange after the handshake.

::

    04 | length u16 BE | ChaCha20-Poly1305 ciphertext, tag (16) included

* A record has at most 4096 bytes with its header, so at most 4077 of plaintext.
* No associated data: the header is not authenticated.
* Nonce: 4 zero bytes, then a counter of 64 bits, one per direction, from 0.
  WIRE(capver all): **big-endian**, where the Noise specification says little-endian. Record 0 is
  the same in both, so only a second record shows the difference.
* Record boundaries mean nothing to the layer above; a record without plaintext is skipped.

Source: tailscale ``control/controlbase/conn.go``.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from mergescale.kernel.errors import LocalProtocolError, RemoteProtocolError
from mergescale.wire.noise.messages import HEADER, TYPE_RECORD

#: LIMIT: tailscale ``controlbase.maxMessageSize``; a longer frame ends the Go client's reader.
MAX_FRAME_BYTES = 4096
TAG_BYTES = 16
MAX_CIPHERTEXT_BYTES = MAX_FRAME_BYTES - HEADER.size
MAX_PLAINTEXT_BYTES = MAX_CIPHERTEXT_BYTES - TAG_BYTES
#: SPEC(noise 5.1): the last counter value is reserved, so it never numbers a record.
LAST_COUNTER = 2**64 - 1


class Transport:
    """One end of an established channel.

    Bytes in, plaintext out, and the reverse. After the first error it is closed for good, as
    the two ends would not agree on the counters any more; there is no rekey.
    """

    __slots__ = ("_closed", "_pending", "_receive", "_received", "_send", "_sent")

    def __init__(
        self, *, send_key: bytes, receive_key: bytes, sent: int = 0, received: int = 0
    ) -> None:
        """Start with 32-byte keys; `sent` and `received` are the counters of the next records."""
        self._send = ChaCha20Poly1305(send_key)
        self._receive = ChaCha20Poly1305(receive_key)
        self._sent = sent
        self._received = received
        self._pending = bytearray()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether an error or `close` ended this channel."""
        return self._closed

    def close(self) -> None:
        """Forget buffered bytes and refuse everything from now on."""
        self._closed = True
        self._pending = bytearray()

    def seal(self, plaintext: bytes) -> bytes:
        """Encrypt into as many records as it takes and return them joined.

        Nothing becomes nothing: empty plaintext gives no record.

        Raises:
            LocalProtocolError: the channel is closed, or its counter is exhausted.
        """
        self._require_open()
        view = memoryview(plaintext)
        records: list[bytes] = []
        for start in range(0, len(view), MAX_PLAINTEXT_BYTES):
            if self._sent >= LAST_COUNTER:
                self.close()
                raise LocalProtocolError("the channel's send counter is exhausted")
            chunk = view[start : start + MAX_PLAINTEXT_BYTES]
            records.append(HEADER.pack(TYPE_RECORD, len(chunk) + TAG_BYTES))
            records.append(self._send.encrypt(self._sent.to_bytes(12, "big"), chunk, None))
            self._sent += 1
        return b"".join(records)

    def receive(self, data: bytes) -> bytes:
        """Take bytes as they arrived and return all plaintext they complete, maybe none.

        At most one partial record (4095 bytes) is kept between calls.

        Raises:
            RemoteProtocolError: a frame that is no record, has an impossible length or a wrong
                tag, or follows the last counter. The channel is closed.
            LocalProtocolError: the channel was closed before.
        """
        self._require_open()
        self._pending += data
        try:
            plaintext, used = self._open_records()
        except RemoteProtocolError:
            self.close()
            raise
        del self._pending[:used]
        return plaintext

    def _open_records(self) -> tuple[bytes, int]:
        """Decrypt every whole record; return plaintext and how many bytes they took."""
        opened: list[bytes] = []
        start, size = 0, len(self._pending)
        with memoryview(self._pending) as pending:
            while size - start >= HEADER.size:
                kind, length = HEADER.unpack_from(pending, start)
                if kind != TYPE_RECORD:
                    raise RemoteProtocolError("a frame other than a record after the handshake")
                if not TAG_BYTES <= length <= MAX_CIPHERTEXT_BYTES:
                    raise RemoteProtocolError("a record has an impossible length")
                end = start + HEADER.size + length
                if end > size:
                    break
                opened.append(self._open(pending[start + HEADER.size : end]))
                start = end
        return b"".join(opened), start

    def _open(self, ciphertext: memoryview) -> bytes:
        if self._received >= LAST_COUNTER:
            raise RemoteProtocolError("a record after the last counter")
        nonce = self._received.to_bytes(12, "big")
        try:
            opened = self._receive.decrypt(nonce, ciphertext, None)
        except InvalidTag:
            raise RemoteProtocolError("a record does not decrypt") from None
        self._received += 1
        return opened

    def _require_open(self) -> None:
        if self._closed:
            raise LocalProtocolError("the channel is closed")

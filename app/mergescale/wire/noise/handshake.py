"""The IK handshake, one function per side.

::

    <- s                      control's static key, known from /key
    ...
    -> e, es, s, ss           initiation, 101 bytes
    <- e, ee, se              response, 51 bytes

Both payloads are empty, so each message ends with a bare tag. Source: Noise rev. 34 section 7.5,
tailscale ``control/controlbase/handshake.go``.
"""

from __future__ import annotations

from dataclasses import dataclass

from mergescale.kernel.errors import LocalProtocolError
from mergescale.kernel.keys import MachineKey, PrivateKey
from mergescale.wire.noise.messages import MAX_VERSION, Initiation, Response, prologue
from mergescale.wire.noise.symmetric import KeyPair, SymmetricState
from mergescale.wire.noise.transport import Transport


@dataclass(frozen=True, slots=True)
class Accepted:
    """A finished handshake, seen from control.

    Attributes:
        version: the client's capability version.
        peer: the machine key that the client proved to hold.
        response: 51 bytes to send before anything else.
        transport: the channel; what it seals only the peer can read.
        handshake_hash: 32 bytes, the same on both sides and unique to this connection.
    """

    version: int
    peer: MachineKey
    response: bytes
    transport: Transport
    handshake_hash: bytes


def respond(initiation: bytes, *, static: PrivateKey | KeyPair, ephemeral: PrivateKey) -> Accepted:
    """Answer a machine's initiation (101 bytes).

    Args:
        initiation: the message of the ``X-Tailscale-Handshake`` header, base64 removed.
        static: control's private key; as a pair it is read once for all handshakes.
        ephemeral: fresh random key, never used before.

    Raises:
        RemoteProtocolError: wrong size or type, a low-order key, or a tag that does not verify,
            which is also what an initiation for another control key looks like.
    """
    message = Initiation.parse(initiation)
    lasting = static if isinstance(static, KeyPair) else KeyPair.of(static)
    state = SymmetricState(prologue(message.version))
    state.mix_hash(lasting.public)

    # -> e, es, s, ss
    state.mix_hash(message.ephemeral)
    state.mix_agreement(lasting, message.ephemeral)
    peer = MachineKey(state.decrypt_and_hash(message.encrypted_static))
    state.mix_agreement(lasting, peer.raw)
    state.decrypt_and_hash(message.tag)

    # <- e, ee, se
    fresh = KeyPair.of(ephemeral)
    state.mix_hash(fresh.public)
    state.mix_agreement(fresh, message.ephemeral)
    state.mix_agreement(fresh, peer.raw)
    response = Response(fresh.public, state.encrypt_and_hash(b""))

    to_control, to_machine = state.split()
    return Accepted(
        version=message.version,
        peer=peer,
        response=response.encode(),
        transport=Transport(send_key=to_machine, receive_key=to_control),
        handshake_hash=state.handshake_hash,
    )


def initiate(
    *, version: int, static: PrivateKey, ephemeral: PrivateKey, server: MachineKey
) -> Initiator:
    """Start a handshake as a machine; our own test and load clients do.

    Args:
        version: capability version to announce, 0 to 65535.
        static: the machine's private key.
        ephemeral: fresh random key, never used before.
        server: control's public key, from ``/key``.
    """
    if not 0 <= version <= MAX_VERSION:
        raise LocalProtocolError("a capability version has 16 bits")
    lasting, fresh = KeyPair.of(static), KeyPair.of(ephemeral)
    state = SymmetricState(prologue(version))
    state.mix_hash(server.raw)

    # -> e, es, s, ss
    state.mix_hash(fresh.public)
    state.mix_agreement(fresh, server.raw)
    encrypted_static = state.encrypt_and_hash(lasting.public)
    state.mix_agreement(lasting, server.raw)
    tag = state.encrypt_and_hash(b"")
    message = Initiation(version, fresh.public, encrypted_static, tag).encode()
    return Initiator(message, state, static=lasting, ephemeral=fresh)


class Initiator:
    """A machine that waits for control's response.

    Attributes:
        message: the initiation, 101 bytes.
    """

    __slots__ = ("_ephemeral", "_state", "_static", "message")

    def __init__(
        self, message: bytes, state: SymmetricState, *, static: KeyPair, ephemeral: KeyPair
    ) -> None:
        self.message = message
        self._state: SymmetricState | None = state
        self._static = static
        self._ephemeral = ephemeral

    def finish(self, response: bytes) -> Transport:
        """Read control's response (51 bytes) and return the channel.

        Raises:
            RemoteProtocolError: not a response, an error frame, or a wrong tag.
            LocalProtocolError: a response was given before; a handshake has one.
        """
        state, self._state = self._state, None
        if state is None:
            raise LocalProtocolError("the handshake is over")
        message = Response.parse(response)

        # <- e, ee, se
        state.mix_hash(message.ephemeral)
        state.mix_agreement(self._ephemeral, message.ephemeral)
        state.mix_agreement(self._static, message.ephemeral)
        state.decrypt_and_hash(message.tag)

        to_control, to_machine = state.split()
        return Transport(send_key=to_control, receive_key=to_machine)

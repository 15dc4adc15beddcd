"""A device in a network namespace of its own: registers, holds a map stream, says ``up``.

python faraway.py <host> <port> <server key> <name> <auth key>
"""

from __future__ import annotations

import asyncio
import sys

from mergescale.kernel.keys import MachineKey, PrivateKey
from mergescale.wire.noise import public_key
from support.control_world import Device
from support.machines import CAPABILITY_VERSION
from support.noise_client import NoiseClient
from support.worlds import key_bytes


async def main(host: str, port: str, server: str, name: str, auth: str) -> None:
    machine = PrivateKey(key_bytes(f"machine {name}"))
    async with NoiseClient.connect(
        host,
        int(port),
        machine=machine,
        server=MachineKey.parse(server),
        version=CAPABILITY_VERSION,
    ) as noise:
        device = Device(name, noise, public_key(machine), CAPABILITY_VERSION)
        await device.join(auth)
        async with device.polling() as stream:
            await stream.next()
            sys.stdout.write("up\n")
            sys.stdout.flush()
            while True:
                await stream.next()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

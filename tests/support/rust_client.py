"""The other implementation: `arkitekt-mesh`, a client in Rust that lives in this process.

It is a node that opens connections, by an HTTP proxy on loopback; nobody can connect to it.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx

from support.in_process import LoopThread
from support.plain import PLAIN
from support.real_clients import Reply

#: LIMIT: what a join may take on a busy machine.
JOIN_S = 30.0


def rust_client_installed() -> bool:
    """Say whether there is a wheel for this platform."""
    return find_spec("arkitekt_mesh") is not None


class RustClient:
    """One Rust client; a context manager that ends it.

    Attributes:
        name: its host name.
    """

    def __init__(self, name: str, control_url: str, folder: Path, auth_key: str) -> None:
        self.name = name
        self._control_url, self._auth_key = control_url, auth_key
        self._folder = folder
        self._thread = LoopThread()
        self._node: Any = None

    def __enter__(self) -> RustClient:
        self._thread.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._node is not None:
            self._node.close()
        self._thread.__exit__(*exc)

    def join(self) -> None:
        """Join the tailnet; raises what the client raises, ``arkitekt_mesh.Refused`` for one."""
        from arkitekt_mesh import Node

        self._folder.mkdir(parents=True, exist_ok=True)

        async def start() -> Any:
            return await Node.start(
                str(self._folder),
                self.name,
                control_url=self._control_url,
                auth_key=self._auth_key,
                timeout=JOIN_S,
            )

        self._node = self._thread.run(start(), JOIN_S + 5)

    @property
    def addresses(self) -> list[str]:
        """Its addresses in the tailnet, as it was told."""
        return [str(address) for address in self._node.addresses]

    def fetch(self, peer: str, timeout_s: float = 2) -> Reply:
        """Fetch the page of a peer through the tailnet, on a new connection."""
        with httpx.Client(
            proxy=self._node.proxy_url, timeout=timeout_s, verify=PLAIN, trust_env=False
        ) as web:
            try:
                answer = web.get(f"http://{peer}/")
            except httpx.HTTPError as error:
                return Reply(0, type(error).__name__)
            return Reply(answer.status_code, answer.text)

    def reaches(self, peer: str, *, timeout_s: float = 2) -> bool:
        """Say whether a new connection to the peer brings its page."""
        reply = self.fetch(peer, timeout_s)
        return reply.status == 200 and reply.body.startswith("hello from ")

    def cut_off(self, peer: str, *, timeout_s: float = 0.7) -> bool:
        """Say whether two new connections to the peer in a row bring nothing."""
        return not any(self.reaches(peer, timeout_s=timeout_s) for _ in range(2))

"""Styles, scripts and pictures: read once, served from memory by their exact names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery

from mergescale.kernel.errors import NotFound

_MEDIA_TYPES: Final[Mapping[str, str]] = {
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}
#: LIMIT: a year, the longest that caches understand; a changed file has another address.
_FOR_EVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file.

    Attributes:
        digest: of the content; part of the address that pages use.
    """

    name: str
    body: bytes
    media_type: str
    digest: str

    @property
    def address(self) -> str:
        """Path and query that pages refer to it by."""
        return f"/static/{self.name}?v={self.digest}"


def load() -> dict[str, Asset]:
    """Read every file of ``static/``."""
    assets = {}
    for path in files(__package__).joinpath("static").iterdir():
        body = path.read_bytes()
        digest = hashlib.sha256(body).hexdigest()[:12]
        media_type = _MEDIA_TYPES[path.name.rpartition(".")[2]]
        assets[path.name] = Asset(path.name, body, media_type, digest)
    return assets


def asset_handler(assets: Mapping[str, Asset]) -> HTTPRouteHandler:
    """Return the handler; a name that is not in `assets` leads nowhere, so no path can."""

    @get("/static/{name:str}", sync_to_thread=False)
    def read_asset(name: FromPath[str], v: FromQuery[str] = "") -> Response[bytes]:
        """Serve one file; for ever under the address of its content, else only after asking."""
        asset = assets.get(name)
        if asset is None:
            raise NotFound("there is nothing at this address")
        headers = {
            "cache-control": _FOR_EVER if v == asset.digest else "no-cache",
            "etag": f'"{asset.digest}"',
        }
        return Response(asset.body, media_type=asset.media_type, headers=headers)

    return read_asset

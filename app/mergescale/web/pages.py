"""Templates to responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import Response

from mergescale import __version__
from mergescale.web.assets import Asset

#: What a page may load: its own styles, scripts and pictures. It may not be framed, and has no forms.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: LIMIT: RFC 1035, characters of a name; what is longer is no name and is cut.
_TEXT_CHARS: Final = 253


class Pages:
    """Every template, compiled once, so that no request reads a file."""

    def __init__(self, assets: Mapping[str, Asset]) -> None:
        environment = Environment(
            loader=PackageLoader(__package__),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["shown"] = shown
        environment.globals["version"] = __version__
        environment.globals["asset"] = lambda name: assets[name].address
        names = environment.list_templates(extensions=["html"])
        self._templates = {name: environment.get_template(name) for name in names}

    def render(self, name: str, status: int = 200, **context: Any) -> Response[str]:
        """Return a page; it is for one reader at one moment, so no cache keeps it."""
        return Response(
            self._templates[name].render(context),
            status_code=status,
            media_type="text/html",
            headers={
                "content-security-policy": CONTENT_SECURITY_POLICY,
                "cache-control": "no-store",
            },
        )


def shown(text: str) -> str:
    """Return text of a stranger fit to be read: cut, and without characters that have no shape.

    A right-to-left override or a zero-width space would let one host name look like another.
    """
    cut = text if len(text) <= _TEXT_CHARS else text[: _TEXT_CHARS - 1] + "…"
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cut
    )

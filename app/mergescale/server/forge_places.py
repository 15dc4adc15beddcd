"""Where the forges of the configured repositories are."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from mergescale.gitops.forges.place import ForgePlace, Kind
from mergescale.kernel.errors import Invalid
from mergescale.server.settings import Repository
from mergescale.server.watched import source_of


def place_of(tailnet: str, repositories: Mapping[str, Repository | None]) -> ForgePlace | None:
    """Return where a tailnet's forge is; None if it has none.

    Raises:
        Invalid: the configuration does not say where, or has another tailnet tell it the same.
    """
    voice = _voice(repositories[tailnet])
    if voice is None:
        return None
    others = dict[str, tuple[ForgePlace, str] | None]()
    for other in sorted(repositories.keys() - {tailnet}):
        with contextlib.suppress(Invalid):  # what is wrong there is told of that tailnet
            others[other] = _voice(repositories[other])
    same = next((other for other, heard in others.items() if heard == voice), None)
    if same is not None:
        raise Invalid(
            f'"{tailnet}" and "{same}" tell {voice[0].project} the same statuses',
            help="give each of them its own forge.contexts",
        )
    return voice[0]


def _voice(repository: Repository | None) -> tuple[ForgePlace, str] | None:
    """Return where a forge is and what statuses are called there; None for no forge."""
    if repository is None or repository.forge is None:
        return None
    forge = repository.forge
    place = ForgePlace.parse(
        Kind(forge.kind),
        source_of(repository),
        api_url=forge.api_url,
        project=forge.project,
        loopback=forge.loopback_http,
    )
    return place, forge.contexts

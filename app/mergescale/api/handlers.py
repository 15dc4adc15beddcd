"""All of REST, for the application."""

from __future__ import annotations

from collections.abc import Mapping

from litestar import Router
from litestar.di import Provide
from litestar.types import ControllerRouterHandler

from mergescale.api import (
    attributes,
    credentials,
    forge,
    gitops,
    keys,
    logins,
    nodes,
    notices,
    plans,
    policyfile,
    routes,
    settings,
    sshchecks,
    steering,
    users,
    webhooks,
)
from mergescale.api.callers import ApiRequest, Backend, caller_of, guard
from mergescale.api.health import Check, health_handlers
from mergescale.api.oauth import oauth_router
from mergescale.api.openapi import SECURITY


def api_handlers(backend: Backend, checks: Mapping[str, Check]) -> list[ControllerRouterHandler]:
    """Return the routers and handlers.

    Args:
        backend: what ``/api/v2`` works with.
        checks: what ``/health`` looks at, by part.
    """
    v2 = Router(
        "/api/v2",
        route_handlers=[
            *nodes.HANDLERS,
            *routes.HANDLERS,
            *attributes.HANDLERS,
            *keys.HANDLERS,
            *users.HANDLERS,
            *logins.HANDLERS,
            *sshchecks.HANDLERS,
            *gitops.HANDLERS,
            *steering.HANDLERS,
            *webhooks.HANDLERS,
            *plans.HANDLERS,
            *credentials.HANDLERS,
            *notices.HANDLERS,
            *forge.HANDLERS,
            *policyfile.HANDLERS,
            *settings.HANDLERS,
        ],
        guards=[guard(backend)],
        dependencies={"caller": Provide(caller_of, sync_to_thread=False)},
        request_class=ApiRequest,
        security=SECURITY,
    )
    return [v2, oauth_router(backend), *health_handlers(checks)]

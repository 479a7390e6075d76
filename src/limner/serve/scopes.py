"""What each endpoint needs of a key, and the check before anything else of it runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from limner.privacy.access import ApiKey, Scope
from limner.serve.problems import problem

NEEDED: Mapping[Scope, frozenset[str]] = {
    "ingest": frozenset(
        {
            "POST /v1/events",
            "PUT /v1/items/{item_id}",
            "DELETE /v1/items/{item_id}",
            "PUT /v1/users/{user_id}",
            "PUT /v1/users/{user_id}/alias",
            "PUT /v1/users/{user_id}/choices",
            "POST /v1/validate",
        }
    ),
    "read": frozenset(
        {
            "GET /v1/users/{user_id}/portrait",
            "GET /v1/users/{user_id}/portrait/evidence",
            "GET /v1/users/{user_id}/portrait/explain",
            "GET /v1/users/{user_id}/portrait/history",
            "GET /v1/users/{user_id}/choices",
            "GET /v1/users/{user_id}/recommendations",
            "GET /v1/users/{user_id}/why/{item_id}",
            "POST /v1/recommendations",
            "GET /v1/items/{item_id}/similar",
            "GET /v1/attribution",
            "GET /v1/parameters",
            "GET /v1/topics",
            "POST /v1/audiences/query",
            "GET /v1/population",
            "GET /v1/changes",
            "GET /v1/stream",
            "GET /metrics",
        }
    ),
    "admin": frozenset(
        {
            "POST /v1/users/{user_id}/erase",
            "POST /v1/topics",
            "GET /v1/webhooks",
            "GET /v1/webhooks/{name}/dead",
            "POST /v1/webhooks/{name}/redeliver",
            "GET /v1/schedule",
            "GET /v1/status",
            "POST /v1/schedule/{name}/run",
            "GET /v1/cleaning",
            "GET /v1/quarantine",
            "GET /v1/quarantine/{row_id}",
            "POST /v1/quarantine/readmit",
            "POST /v1/quarantine/drop",
            "POST /v1/train",
            "GET /v1/train",
            "POST /v1/update",
            "GET /v1/models",
            "POST /v1/models/rollback",
            "POST /v1/models/{version}/promote",
            "GET /v1/models/{version}/diff",
        }
    ),
}
"""Scope → the endpoints that need it: the one place where that is said."""

GRANTED = "limner.key"
"""Where an ASGI scope has the key that came with the request; None where none is asked for."""


def needed(endpoint: str) -> Scope:
    """The scope that "METHOD /path" needs. Raises KeyError if none is said."""
    for scope, endpoints in NEEDED.items():
        if endpoint in endpoints:
            return scope
    raise KeyError(f"{endpoint} has no scope in limner.serve.scopes")


class Scoped(APIRoute):
    """A route that asks for its scope before it reads the request; one without cannot be made."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler behind the check."""
        (scope,) = {needed(f"{method} {self.path_format}") for method in self.methods or ()}
        answer = super().get_route_handler()

        async def checked(request: Request) -> Response:
            key: ApiKey | None = request.scope.get(GRANTED)
            if key is None or key.may(scope):
                return await answer(request)
            return problem(
                403,
                "The key is not good for this",
                f"it needs the scope {scope!r}, and the key {key.name!r} has {list(key.scopes)}",
                kind="urn:limner:error:scope",
                mend=f"use a key made with: limner keys add NAME --scope {scope}",
            )

        return checked

"""Endpoints of webhooks: how far they are, what could not be delivered, and sending that anew."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from limner.app import delivering
from limner.serve.answers import DeadOnes, Redelivered, Webhooks
from limner.serve.openapi import PROBLEMS, answers
from limner.serve.requests import Shop, json_answer
from limner.serve.scopes import Scoped

router = APIRouter(prefix="/v1", route_class=Scoped, responses=PROBLEMS, tags=["changes"])

Name = Annotated[str, Path(description="The webhook.", examples=["shop"])]


@router.get("/webhooks", summary="How far webhooks are", responses=answers(Webhooks))
def get_webhooks(app: Shop) -> Response:
    """Each webhook's last delivered change, and what fails at present."""
    return json_answer(Webhooks(delivering.deliveries(app)))


@router.get(
    "/webhooks/{name}/dead", summary="What could not be delivered", responses=answers(DeadOnes)
)
def get_dead(app: Shop, name: Name) -> Response:
    """The changes that were given up after the configured tries."""
    return json_answer(DeadOnes(delivering.dead(app, name)))


@router.post(
    "/webhooks/{name}/redeliver",
    summary="Send dead letters anew",
    responses=answers(Redelivered),
)
def redeliver(
    app: Shop,
    name: Name,
    change: Annotated[
        int | None, Query(ge=1, le=2**62, description="Only this change; all if left out.")
    ] = None,
) -> Response:
    """Each is tried once more, under its own webhook-id; what arrives leaves the list."""
    return json_answer(Redelivered(delivering.redeliver(app, name, change)))

"""The endpoints about many users: audiences, and the population they are compared with."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Response
from pydantic import BaseModel, ConfigDict, Field

from limner.app import Standing
from limner.serve.answers import Group
from limner.serve.openapi import PROBLEMS, answers
from limner.serve.requests import Shop, json_answer
from limner.serve.scopes import Scoped

router = APIRouter(prefix="/v1", route_class=Scoped, responses=PROBLEMS, tags=["users"])


class AudienceQuery(BaseModel):
    """Which users to find."""

    model_config = ConfigDict(extra="forbid")

    where: Annotated[str, Field(description="A condition; see docs/audiences.md.")]
    limit: Annotated[int, Field(ge=0, le=10_000, description="How many users, at most.")] = 100
    cursor: Annotated[str | None, Field(description="Where the last page ended.")] = None
    index: Annotated[str, Field(description="A slot: what they lean to in it.")] = ""


@router.post("/audiences/query", summary="The users who meet a condition", responses=answers(Group))
def post_audience(
    app: Shop,
    query: Annotated[
        AudienceQuery, Body(examples=[{"where": 'value.tier == "high"', "limit": 100}])
    ],
) -> Response:
    """How many users' portraits meet a condition, and a page of them under their own ids.

    Each page is of those who meet it when it is asked for.
    """
    found = app.audience(query.where, index=query.index)
    return json_answer(Group.of_audience(found, query.limit, query.cursor or ""))


@router.get("/population", summary="What users are compared with", responses=answers(Standing))
def get_population(app: Shop) -> Response:
    """The last survey of all users: clusters, and how many are in each segment and tier now."""
    return json_answer(app.standing())

"""The endpoints of what users may know of, and change in, their lists and portraits."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from limner.explain.parameters import Parameters
from limner.profile.choices import Choices
from limner.serve.openapi import PROBLEMS, answers
from limner.serve.requests import Shop, UserId, json_answer
from limner.serve.scopes import Scoped

router = APIRouter(prefix="/v1", route_class=Scoped, responses=PROBLEMS, tags=["users"])

SLOTS = Field(description='Slots, "section.name".')


class Chosen(BaseModel):
    """What a user chooses; what is not said stays as it was."""

    model_config = ConfigDict(extra="forbid")

    personalised: Annotated[
        bool | None, Field(description="Whether lists may be made for this user alone.")
    ] = None
    off: Annotated[list[str], SLOTS] = []
    on: Annotated[list[str], SLOTS] = []
    wrong: Annotated[list[str], SLOTS] = []
    right: Annotated[list[str], SLOTS] = []


@router.get("/users/{user_id}/choices", summary="What a user chose", responses=answers(Choices))
def get_choices(app: Shop, user_id: UserId) -> Response:
    """Slots that are off or marked wrong, and whether lists may be personalised."""
    return json_answer(app.choices(user_id))


@router.put("/users/{user_id}/choices", summary="Record choices", responses=answers(Choices))
def put_choices(
    app: Shop,
    user_id: UserId,
    chosen: Annotated[Chosen, Body(examples=[{"personalised": False, "off": ["value.spend"]}])],
) -> Response:
    """Durably, and answers with all that hold. Each can be taken back."""
    return json_answer(app.choose(user_id, **chosen.model_dump()))


@router.get("/parameters", summary="What lists depend on most", responses=answers(Parameters))
def get_parameters(
    app: Shop,
    scenario: Annotated[str, Query(description="The place that lists are shown in.")] = "",
) -> Response:
    """The main parameters in plain words, the strongest first, and how a user can change them."""
    return json_answer(app.parameters(scenario))

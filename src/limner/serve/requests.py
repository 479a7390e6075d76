"""What requests carry, as FastAPI takes it apart, and how answers are put together."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import unquote

from fastapi import Body, Depends, Path, Query, Request, Response
from pydantic import AfterValidator

from limner.app import Jobs, Limner
from limner.app.listing import boosts_of
from limner.serve.background import Trainer
from limner.serve.lots import Lots as Lots_
from limner.serve.wire import encode


def json_answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A value of the app as the answer; the log position it reflects is in a header too."""
    if (as_of := getattr(value, "as_of", None)) is not None:
        headers = {**(headers or {}), "Limner-As-Of": str(as_of)}
    return Response(encode(value), status, headers=headers, media_type="application/json")


async def _limner(request: Request) -> Limner:
    app: Limner = request.app.state.limner
    return app


async def _trainer(request: Request) -> Trainer:
    trainer: Trainer = request.app.state.trainer
    return trainer


async def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


async def _lots(request: Request) -> Lots_:
    lots: Lots_ = request.app.state.lots
    return lots


async def _body(request: Request) -> bytes:
    return await request.body()


Shop = Annotated[Limner, Depends(_limner)]
Lots = Annotated[Lots_, Depends(_lots)]
InTraining = Annotated[Trainer, Depends(_trainer)]
InJobs = Annotated[Jobs, Depends(_jobs)]
RawBody = Annotated[bytes, Depends(_body)]
UserId = Annotated[
    str, Path(description="The product's own user id.", examples=["u1"]), AfterValidator(unquote)
]
ItemId = Annotated[
    str, Path(description="The item's id.", examples=["tea"]), AfterValidator(unquote)
]
Attributes = Annotated[
    dict[str, Any],
    Body(
        description="Attributes by name: texts, numbers, truths or lists of these.",
        examples=[{"title": "Green tea", "category": "tea", "brand": "Oma", "price": 4.5}],
    ),
]


def _listing(
    by: Annotated[
        list[str] | None,
        Query(description="A family by itself, or several, instead of the blend."),
    ] = None,
    scenario: Annotated[
        str, Query(description="The place it is shown in, as limner.toml names it.")
    ] = "",
    repeats: Annotated[
        bool | Literal["learned"] | None,
        Query(description="Whether items the user already had may come again."),
    ] = None,
    filter: Annotated[
        list[str] | None,
        Query(description="Conditions that items must meet.", examples=[["price < 10"]]),
    ] = None,
    boost: Annotated[
        list[str] | None,
        Query(description="AMOUNT: CONDITION, in standard deviations of the score."),
    ] = None,
    diversity: Annotated[
        float | None, Query(ge=0, le=1, description="0: by score alone; 1: by unlikeness alone.")
    ] = None,
    freshness: Annotated[
        float | None, Query(description="What an item that came just now gains.")
    ] = None,
    pin: Annotated[list[str] | None, Query(description="Items that come first.")] = None,
    exclude: Annotated[list[str] | None, Query(description="Items that never come.")] = None,
) -> dict[str, Any]:
    return {
        "by": by,
        "scenario": scenario,
        "repeats": repeats,
        "filter": filter,
        "boosts": boosts_of(boost or ()),
        "diversity": diversity,
        "freshness": freshness,
        "pinned": pin,
        "excluded": exclude,
    }


Listing = Annotated[dict[str, Any], Depends(_listing)]
"""What a request says of the list it wants: keyword arguments of `Limner.recommend`."""

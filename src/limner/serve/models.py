"""Endpoints of the model: training, updating, and the versions there are."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from limner.app import Models
from limner.model.registry import Act, Difference
from limner.serve.background import Trainer, Training
from limner.serve.openapi import PROBLEMS, answers
from limner.serve.problems import problem
from limner.serve.requests import InTraining, Shop, json_answer
from limner.serve.scopes import Scoped

router = APIRouter(prefix="/v1", route_class=Scoped, responses=PROBLEMS)

VersionName = Annotated[str, Path(description="The version.", examples=["000002"])]
BEGUN = answers(Training, 202, "It has begun; GET /v1/train tells how it goes.")


@router.post(
    "/train",
    tags=["operations"],
    status_code=202,
    summary="Train the models",
    responses=BEGUN,
)
def post_train(
    trainer: InTraining,
    source: Annotated[
        str,
        Query(
            alias="from",
            pattern=r"^\d*$",
            description="The version whose sequence model to start from.",
            examples=["000001"],
        ),
    ] = "",
) -> Response:
    """Train on all events so far, beside answering; the new model is used as soon as it is done."""
    return _begun(trainer, source=source)


@router.post(
    "/update",
    tags=["operations"],
    status_code=202,
    summary="Learn what is new",
    responses=BEGUN,
)
def post_update(trainer: InTraining) -> Response:
    """Learn the events since the model in use; put the result to use only if it is no loss."""
    return _begun(trainer, update=True)


def _begun(trainer: Trainer, *, update: bool = False, source: str = "") -> Response:
    if not trainer.start(update=update, source=source):
        return problem(
            409,
            "A training is under way",
            "one model is trained at a time",
            kind="urn:limner:error:training",
            mend="wait until GET /v1/train says it is done",
        )
    return json_answer(trainer.training, 202, {"Location": "/v1/train"})


@router.get(
    "/train",
    tags=["operations"],
    summary="How the training goes",
    responses=answers(Training),
)
def get_train(trainer: InTraining) -> Response:
    """The training that is under way, or the last one since the server started."""
    return json_answer(trainer.training)


@router.get(
    "/models",
    tags=["operations"],
    summary="The versions of the model",
    responses=answers(Models),
)
def get_models(app: Shop) -> Response:
    """The versions that are kept, which one is in use, and what the gate said of updates."""
    return json_answer(app.models())


@router.post(
    "/models/rollback",
    tags=["operations"],
    summary="Go back to the version before",
    responses=answers(Act),
)
def post_rollback(app: Shop) -> Response:
    """Put the version to use that the present one took the place of."""
    act = app.roll_back()
    app.scorer()
    return json_answer(act)


@router.post(
    "/models/{version}/promote",
    tags=["operations"],
    summary="Put a version to use",
    responses=answers(Act),
)
def post_promote(app: Shop, version: VersionName) -> Response:
    """Put another version to use, if its files are as they were written."""
    act = app.promote(version)
    app.scorer()
    return json_answer(act)


@router.get(
    "/models/{version}/diff",
    tags=["operations"],
    summary="In what two versions differ",
    responses=answers(Difference),
)
def get_diff(
    app: Shop,
    version: VersionName,
    against: Annotated[str, Query(description="The other version.", examples=["000001"])],
) -> Response:
    """Settings, data, weights, metrics and items in which a version differs from another."""
    return json_answer(app.model_diff(against, version))

"""Endpoints of what happens in time: the jobs of the schedule, and the changes of portraits."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from limner.app import Run
from limner.profile.changes import Changes
from limner.serve.answers import Scheduled
from limner.serve.openapi import PROBLEMS, answers
from limner.serve.requests import InJobs, Shop, json_answer
from limner.serve.scopes import Scoped

router = APIRouter(prefix="/v1", route_class=Scoped, responses=PROBLEMS)


@router.get(
    "/changes",
    tags=["changes"],
    summary="What changed in portraits",
    responses=answers(Changes),
)
def get_changes(
    app: Shop,
    after: Annotated[int, Query(ge=0, description="The id of the change seen last.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many, at most.")] = 100,
) -> Response:
    """Changes of portraits and shifts of interest, oldest first; go on after `last`."""
    return json_answer(app.changes(after, limit=limit))


@router.get(
    "/schedule",
    tags=["operations"],
    summary="The jobs and their times",
    responses=answers(Scheduled),
)
def get_schedule(jobs: InJobs) -> Response:
    """What is done at times: the last run of each job, its outcome, and when it is due next."""
    return json_answer(Scheduled(jobs.runs()))


@router.post(
    "/schedule/{name}/run",
    tags=["operations"],
    summary="Run a job now",
    responses=answers(Run),
)
def run_job(
    jobs: InJobs,
    name: Annotated[str, Path(description="The job.", examples=["population"])],
) -> Response:
    """Run a job and answer when it is done; one that fails is answered as failed."""
    return json_answer(jobs.run(name))

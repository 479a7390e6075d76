"""Endpoints of what happens in time: the jobs of the schedule, and the changes of portraits."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from limner.app import Jobs, Limner, Run
from limner.profile.changes import Changes
from limner.serve.answers import Scheduled
from limner.serve.openapi import PROBLEMS, answers
from limner.serve.wire import encode

router = APIRouter(prefix="/v1", responses=PROBLEMS)


def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


def _json(value: object) -> Response:
    return Response(encode(value), media_type="application/json")


@router.get(
    "/changes",
    tags=["changes"],
    summary="What changed in portraits",
    responses=answers(Changes),
)
def get_changes(
    request: Request,
    after: Annotated[int, Query(ge=0, description="The id of the change seen last.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many, at most.")] = 100,
) -> Response:
    """Changes of portraits and shifts of interest, oldest first; go on after `last`."""
    app: Limner = request.app.state.limner
    return _json(app.changes(after, limit=limit))


@router.get(
    "/schedule",
    tags=["operations"],
    summary="The jobs and their times",
    responses=answers(Scheduled),
)
def get_schedule(request: Request) -> Response:
    """What is done at times: the last run of each job, its outcome, and when it is due next."""
    return _json(Scheduled(_jobs(request).runs()))


@router.post(
    "/schedule/{name}/run",
    tags=["operations"],
    summary="Run a job now",
    responses=answers(Run),
)
def run_job(
    request: Request,
    name: Annotated[str, Path(description="The job.", examples=["population"])],
) -> Response:
    """Run a job and answer when it is done; one that fails is answered as failed."""
    return _json(_jobs(request).run(name))

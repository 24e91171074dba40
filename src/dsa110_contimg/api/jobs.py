"""Batch jobs over HTTP: submit, follow, cancel."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from dsa110_contimg.api.files import file_response
from dsa110_contimg.api.problems import MISSING, problem
from dsa110_contimg.api.queries import refuse_unknown_names
from dsa110_contimg.api.security import may_read, may_write
from dsa110_contimg.batch import jobs as queue
from dsa110_contimg.batch.job_outputs import files_of_job
from dsa110_contimg.batch.kinds import KINDS
from dsa110_contimg.records import JsonObject
from dsa110_contimg.registry import jobs as registered_jobs
from dsa110_contimg.registry.models import Job
from dsa110_contimg.registry.states import JobState
from dsa110_contimg.settings import Settings

router = APIRouter(
    prefix="/api/jobs",
    tags=["jobs"],
    dependencies=[Depends(may_read), Depends(refuse_unknown_names)],
)
_MAX_LOG_BYTES = 1_000_000
_LOOK_S = 0.5
JobId = Annotated[int, Field(ge=1, le=2**31 - 1)]


class JobRequest(BaseModel):
    """What to do."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "type": "mosaic",
                    "params": {"name": "my_mosaic", "method": "pbweighted", "since": 1700000000},
                }
            ]
        },
    )
    type: str = Field(description=f"One of: {', '.join(KINDS)}")
    params: JsonObject = Field(default_factory=dict, description="Parameters of the type")


class JobStatus(BaseModel):
    """How far a job is."""

    id: int
    type: str
    status: JobState
    stage: str
    progress: float = Field(description="Fraction of the stage that is done, 0 to 1")
    message: str
    error: str
    created: float = Field(description="Unix seconds")
    started: float | None
    ended: float | None


class JobDetail(JobStatus):
    """A job with its parameters and result."""

    params: JsonObject
    result: JsonObject | None


def _status(job: Job) -> JsonObject:
    return {
        "id": job.id,
        "type": job.type,
        "status": job.state,
        "stage": job.stage,
        "progress": job.fraction,
        "message": job.message,
        "error": job.error,
        "created": job.created,
        "started": job.started,
        "ended": job.ended,
    }


def find_job(request: Request, job_id: int) -> Job:
    """A job by its number.

    Raises
    ------
    HTTPException
        404 if there is none.
    """
    job = registered_jobs.find_job(request.app.state.registry, job_id)
    if job is None:
        raise HTTPException(404, f"no job {job_id}")
    return job


@router.post(
    "/",
    status_code=201,
    responses={409: problem("The idempotency key was given with other parameters")},
    dependencies=[Depends(may_write)],
)
def submit(
    body: JobRequest,
    request: Request,
    idempotency_key: Annotated[str | None, Header(max_length=128)] = None,
) -> JobStatus:
    """Queue a job."""
    state = request.app.state
    job = queue.submit(state.registry, state.settings, body.type, body.params, idempotency_key)
    state.runner.notify()
    return JobStatus(**_status(job))


@router.get("/")
def list_jobs(
    request: Request,
    status: JobState | None = None,
    type: Annotated[str | None, Query(max_length=32)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> list[JobStatus]:
    """Newest jobs first; `before` is the last id of the page before."""
    found = registered_jobs.list_jobs(
        request.app.state.registry, state=status, kind=type, before=before, limit=limit
    )
    return [JobStatus(**_status(job)) for job in found]


@router.get("/{job_id}", responses=MISSING)
def detail(job_id: JobId, request: Request) -> JobDetail:
    """One job with its parameters and result."""
    job = find_job(request, job_id)
    return JobDetail(**_status(job), params=job.params, result=job.result)


@router.get("/{job_id}/status", responses=MISSING)
def status(job_id: JobId, request: Request) -> JobStatus:
    """How far one job is."""
    return JobStatus(**_status(find_job(request, job_id)))


class JobFile(BaseModel):
    """A file that a job made; size in bytes."""

    name: str
    size: int


@router.get("/{job_id}/files", responses=MISSING)
def files(job_id: JobId, request: Request) -> list[JobFile]:
    """Files that a job made; none before it is done."""
    return [
        JobFile(name=name, size=path.stat().st_size)
        for name, path in files_of_job(
            request.app.state.settings, find_job(request, job_id)
        ).items()
    ]


@router.head("/{job_id}/files/{name:path}", include_in_schema=False)
@router.get("/{job_id}/files/{name:path}", responses=MISSING, response_class=FileResponse)
def file(job_id: JobId, name: str, request: Request) -> FileResponse:
    """A file that a job made, whole or in ranges."""
    path = files_of_job(request.app.state.settings, find_job(request, job_id)).get(name)
    if path is None:
        raise HTTPException(404, f"job {job_id} made no file {name}")
    return file_response(path)


@router.get("/{job_id}/logs", responses=MISSING, response_class=PlainTextResponse)
def logs(job_id: JobId, request: Request) -> str:
    """The end of what a job printed."""
    find_job(request, job_id)
    return read_log(request.app.state.settings, job_id)


def read_log(settings: Settings, job_id: int) -> str:
    """The end of what a job printed; empty if it has not."""
    path = queue.log_path(settings, job_id)
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _MAX_LOG_BYTES))
        return file.read().decode(errors="replace")


@router.get("/{job_id}/logs/stream", responses=MISSING, response_class=StreamingResponse)
def stream_logs(job_id: JobId, request: Request) -> StreamingResponse:
    """What a job prints, as it prints it (server-sent events), until it ends."""
    find_job(request, job_id)
    return StreamingResponse(_events(request, job_id), media_type="text/event-stream")


async def _events(request: Request, job_id: int) -> AsyncIterator[str]:
    """Whole lines as they come; the last event tells how it ended."""
    path = queue.log_path(request.app.state.settings, job_id)
    position = 0
    while not await request.is_disconnected():
        ended = await run_in_threadpool(lambda: find_job(request, job_id).state)
        lines, position = await run_in_threadpool(_read_lines, path, position)
        for line in lines:
            yield f"data: {line}\n\n"
        if ended not in registered_jobs.UNFINISHED:
            yield f"event: end\ndata: {ended}\n\n"
            return
        await asyncio.sleep(_LOOK_S)


def _read_lines(path: Path, position: int) -> tuple[list[str], int]:
    """Whole lines of a file from a position on, and the position after them."""
    if not path.exists():
        return [], position
    with path.open("rb") as file:
        file.seek(position)
        content = file.read(_MAX_LOG_BYTES)
    whole = content[: content.rfind(b"\n") + 1]
    return whole.decode(errors="replace").splitlines(), position + len(whole)


@router.delete(
    "/{job_id}",
    responses={**MISSING, 409: problem("It has ended")},
    dependencies=[Depends(may_write)],
)
def cancel(job_id: JobId, request: Request) -> JobStatus:
    """Cancel a job that is queued or running."""
    job = find_job(request, job_id)
    if not queue.cancel(request.app.state.registry, job_id):
        raise HTTPException(409, f"job {job_id} has ended already ({job.state})")
    request.app.state.runner.notify()
    return JobStatus(**_status(find_job(request, job_id)))

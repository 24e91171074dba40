"""Batch jobs: a form for each type, their progress and log, cancel and repeat."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from fastapi import Depends, HTTPException, Query, Request, Response

from dsa110_contimg.api.jobs import JobId, find_job, read_log
from dsa110_contimg.api.security import may_read, may_write
from dsa110_contimg.batch import jobs as queue
from dsa110_contimg.batch import plans
from dsa110_contimg.batch.job_outputs import files_of_job
from dsa110_contimg.batch.kinds import KINDS, MosaicJob
from dsa110_contimg.batch.selection import Selection
from dsa110_contimg.errors import NothingToDo, UsageError
from dsa110_contimg.options import parse_options
from dsa110_contimg.registry.jobs import UNFINISHED, list_jobs
from dsa110_contimg.registry.models import Job
from dsa110_contimg.registry.states import JobState
from dsa110_contimg.web import forms
from dsa110_contimg.web.site import Form, page, page_router, to

router = page_router(dependencies=[Depends(may_read)])
_PAGE = 50
_FILES_SHOWN = 30


@router.get("/jobs")
def jobs(
    request: Request,
    status: Annotated[str, Query(pattern=f"^(|{'|'.join(JobState)})$")] = "",
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> Response:
    """The newest jobs."""
    found = list_jobs(request.app.state.registry, state=status, before=before, limit=_PAGE)
    return page(
        request,
        "jobs.html",
        title="Jobs",
        jobs=found,
        status=status,
        states=list(JobState),
        kinds=[(name, kind.__doc__) for name, kind in KINDS.items()],
        more=found[-1].id if len(found) == _PAGE else None,
    )


@router.get("/jobs/new/{kind}")
def new(
    kind: str,
    request: Request,
    like: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Repeat this job")] = None,
) -> Response:
    """An empty form, or one filled as another job was."""
    filled: dict[str, str] = {}
    if like is not None:
        earlier = find_job(request, like)
        if earlier.type == kind:
            filled = forms.filled(kind, earlier.params)
    return _form(request, kind, filled)


@router.post("/jobs/new/{kind}", dependencies=[Depends(may_write)])
def submit(kind: str, request: Request, given: Form) -> Response:
    """Queue the job; a wrong value gives the form back with the reason."""
    if kind not in KINDS:
        raise HTTPException(404, f"no type of job {kind!r}")
    state = request.app.state
    try:
        job = queue.submit(state.registry, state.settings, kind, forms.params(kind, given))
    except UsageError as error:
        return _form(request, kind, given, str(error))
    state.runner.notify()
    return to(f"/jobs/{job.id}")


@router.post("/jobs/new/{kind}/preview")
def preview(kind: str, request: Request, given: Form) -> Response:
    """The form again, with the tiles that a mosaic would be made of."""
    if kind != MosaicJob.kind:
        raise HTTPException(404, f"a job of type {kind!r} has no preview")
    state = request.app.state
    try:
        wanted = parse_options(MosaicJob, forms.params(kind, {"name": "preview"} | given), "params")
        options = wanted.mosaic_options(state.settings)
        made = plans.draft(state.registry, wanted.name, Selection.of(wanted), options)
    except (UsageError, NothingToDo) as error:
        return _form(request, kind, given, str(error))
    return _form(request, kind, given, tiles=plans.plan_rows(made))


def _form(
    request: Request,
    kind: str,
    filled: dict[str, str],
    error: str = "",
    tiles: Sequence[plans.PlannedTile] | None = None,
) -> Response:
    if kind not in KINDS:
        raise HTTPException(404, f"no type of job {kind!r}")
    return page(
        request,
        "job_form.html",
        422 if error else 200,
        title=f"New job: {kind}",
        kind=kind,
        about=KINDS[kind].__doc__,
        sets=forms.fieldsets(kind, request.app.state.settings),
        filled=filled,
        error=error,
        tiles=tiles,
        has_preview=kind == MosaicJob.kind,
    )


@router.get("/jobs/{job_id}")
def job(job_id: JobId, request: Request) -> Response:
    """How far a job is, what it printed, what it made."""
    found = find_job(request, job_id)
    return page(
        request,
        "job.html",
        title=f"Job {job_id}",
        job=found,
        runs=found.state in UNFINISHED,
        made=_made(request, found),
        shown=_FILES_SHOWN,
        log=read_log(request.app.state.settings, job_id),
    )


@dataclass(frozen=True)
class _Made:
    """A file that a job made; size in bytes."""

    name: str
    size: int
    address: str


def _made(request: Request, found: Job) -> list[_Made]:
    files = files_of_job(request.app.state.settings, found)
    return [
        _Made(name, path.stat().st_size, f"/api/jobs/{found.id}/files/{quote(name)}")
        for name, path in files.items()
    ]


@router.post("/jobs/{job_id}/cancel", dependencies=[Depends(may_write)])
def cancel(job_id: JobId, request: Request) -> Response:
    """Cancel a job that is queued or running."""
    find_job(request, job_id)
    if not queue.cancel(request.app.state.registry, job_id):
        raise UsageError(f"job {job_id} has ended already")
    request.app.state.runner.notify()
    return to(f"/jobs/{job_id}")

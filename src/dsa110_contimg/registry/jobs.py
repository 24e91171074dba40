"""Batch jobs as rows."""

import time
from collections.abc import Iterable, Mapping

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Job
from dsa110_contimg.registry.states import JobState

UNFINISHED = (JobState.QUEUED, JobState.RUNNING)


def add_job(
    session: Session, kind: str, params: Mapping[str, object], idempotency_key: str | None
) -> Job:
    """Queue a job; returns its row, which has its number."""
    job = Job(
        type=kind,
        params=dict(params),
        state=JobState.QUEUED,
        created=time.time(),
        idempotency_key=idempotency_key,
    )
    session.add(job)
    session.flush()
    return job


def job_of_key(session: Session, idempotency_key: str) -> Job | None:
    """The job that was submitted with an idempotency key."""
    wanted = select(Job).where(Job.idempotency_key == idempotency_key)
    return session.scalars(wanted).one_or_none()


def count_queued(session: Session) -> int:
    """Number of jobs that wait."""
    return session.scalar(select(func.count()).where(Job.state == JobState.QUEUED)) or 0


def unfinished_jobs(session: Session) -> list[Job]:
    """Jobs that wait or run, in the order in which they were submitted."""
    return list(session.scalars(select(Job).where(Job.state.in_(UNFINISHED)).order_by(Job.id)))


def find_job(registry: Registry, number: int) -> Job | None:
    """A job by its number."""
    with registry.read() as session:
        return session.get(Job, number)


def list_jobs(
    registry: Registry,
    *,
    state: str | None = None,
    kind: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[Job]:
    """The newest jobs first; `before` is the last number of the page before."""
    query = select(Job).order_by(Job.id.desc()).limit(limit)
    if state:
        query = query.where(Job.state == state)
    if kind is not None:
        query = query.where(Job.type == kind)
    if before is not None:
        query = query.where(Job.id < before)
    with registry.read() as session:
        return list(session.scalars(query))


def job_numbers(registry: Registry, states: Iterable[JobState]) -> list[int]:
    """Numbers of the jobs in some states."""
    wanted = Job.state.in_(list(states))
    with registry.read() as session:
        return list(session.scalars(select(Job.id).where(wanted)))


def start_next(session: Session) -> int | None:
    """Mark the oldest queued job as running; returns its number, or None if there is none."""
    queued = select(Job).where(Job.state == JobState.QUEUED).order_by(Job.id).limit(1)
    job = session.scalars(queued).first()
    if job is None:
        return None
    job.state, job.started = JobState.RUNNING, time.time()
    return job.id


def cancel_job(session: Session, number: int) -> bool:
    """Mark a job that waits or runs as cancelled; False if it has ended."""
    job = session.get(Job, number)
    if job is None or job.state not in UNFINISHED:
        return False
    job.state, job.ended, job.error = JobState.CANCELLED, time.time(), "cancelled by the user"
    return True


def fail_running(session: Session, number: int, reason: str) -> JobState:
    """Mark a job as failed if its row still says that it runs; returns the state it is in then."""
    job = session.get_one(Job, number)
    if job.state == JobState.RUNNING:
        job.state, job.ended, job.error = JobState.FAILED, time.time(), reason
    return job.state


def update_running(session: Session, number: int, values: Mapping[str, object]) -> None:
    """Change columns of a job while it runs; a cancelled one stays cancelled."""
    job = session.get_one(Job, number)
    if job.state == JobState.RUNNING:
        for name, value in values.items():
            setattr(job, name, value)

"""The queue of batch jobs: what REST and the command line submit, run once each.

A job runs in a process of its own (`python -m dsa110_contimg.batch.jobs ROOT ID`), never in the
server's; its row tells stage, fraction done, outcome. A job that fails stays failed.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from pydantic import Field
from sqlalchemy import select

from dsa110_contimg import settings as settings_module
from dsa110_contimg.errors import ContimgError, UsageError
from dsa110_contimg.mosaicking import Method
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.pipeline.executors import LocalExecutor
from dsa110_contimg.pipeline.options import Options
from dsa110_contimg.registry import records
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Job, JobState
from dsa110_contimg.settings import Settings
from dsa110_contimg.stages.options import options_from, parse_options

log = structlog.get_logger()

_STOP_GRACE_S = 10.0


class MosaicJob(Options):
    """Plan a mosaic of imaged tiles and build it."""

    name: str = Field(min_length=1, max_length=100, description="Name of plan and mosaic")
    method: Method = Field("mean", description="mean, weighted or pbweighted")
    since: float | None = Field(None, description="First observation time, Unix seconds")
    until: float | None = Field(None, description="Last observation time, Unix seconds")
    include_uncorrected: bool = Field(
        False, description="Take tiles that are not beam-corrected too"
    )
    output: str | None = Field(
        None, description="Path ending in .fits or .image; default: products/jobs/ in the root"
    )
    overwrite: bool = Field(False, description="Replace an output that exists")


class PipelineJob(Options):
    """All nine stages on sub-band files."""

    files: list[str] = Field(
        min_length=1, max_length=10000, description="Sub-band files, or directories of them"
    )
    name: str | None = Field(None, max_length=100, description="Name of the mosaic")


@dataclass(frozen=True)
class JobKind:
    """A type of job: its parameters and what does it."""

    params: type[Options]
    run: Callable[[Any, int, Settings, Registry, PipelineContext], dict[str, Any]]


def _mosaic(
    params: MosaicJob, job_id: int, settings: Settings, registry: Registry, context: PipelineContext
) -> dict[str, Any]:
    from dsa110_contimg.batch import plans

    made = plans.plan(
        registry, params.name, params.since, params.until, params.method,
        params.include_uncorrected,
    )  # fmt: skip
    output = (
        Path(params.output)
        if params.output
        else settings.root / "products" / "jobs" / str(job_id) / f"{params.name}.fits"
    )
    if params.output is None:
        output.parent.mkdir(parents=True, exist_ok=True)
    return records.to_json(plans.build(made, output, params.overwrite, context))


def _pipeline(
    params: PipelineJob, job_id: int, settings: Settings, registry: Registry,
    context: PipelineContext,
) -> dict[str, Any]:  # fmt: skip
    from dsa110_contimg.batch import pipelines

    files = pipelines.subband_files([Path(name) for name in params.files])
    inputs: dict[str, Any] = {"registry": registry}
    if params.name:
        inputs["name"] = params.name
    result = pipelines.run_pipeline(files, options_from(settings), context.with_artifacts(inputs))
    return records.to_json(result["published"])


KINDS: dict[str, JobKind] = {
    "mosaic": JobKind(MosaicJob, _mosaic),
    "pipeline": JobKind(PipelineJob, _pipeline),
}


def submit(
    registry: Registry, settings: Settings, kind: str, params: dict[str, Any],
    idempotency_key: str | None = None,
) -> Job:  # fmt: skip
    """Queue a job; the same idempotency key gives the same job.

    Raises
    ------
    UsageError
        For an unknown type, a wrong parameter or a path outside the root.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown job type {kind!r}; choose one of {', '.join(KINDS)}")
    parsed = parse_options(KINDS[kind].params, params, "params")
    _check_paths(parsed, settings)
    with registry.write() as session:
        if idempotency_key is not None:
            earlier = session.scalars(
                select(Job).where(Job.idempotency_key == idempotency_key)
            ).one_or_none()
            if earlier is not None:
                return earlier
        job = Job(
            type=kind, params=parsed.model_dump(mode="json"), state=JobState.QUEUED,
            created=time.time(), idempotency_key=idempotency_key,
        )  # fmt: skip
        session.add(job)
        session.flush()
        return job


def _check_paths(params: Options, settings: Settings) -> None:
    """Paths of a job stay under the root, links resolved; outputs under products/."""
    root = settings.root.resolve()
    if isinstance(params, MosaicJob) and params.output is not None:
        _inside(params.output, root / "products", "output")
        published = root / "products" / "mosaics"
        if Path(params.output).resolve().is_relative_to(published):
            raise UsageError("params.output: published products are never replaced by a job")
    if isinstance(params, PipelineJob):
        for name in params.files:
            _inside(name, root, "files")


def _inside(name: str, allowed: Path, field: str) -> None:
    if not Path(name).resolve().is_relative_to(allowed):
        raise UsageError(f"params.{field}: {name} lies outside the allowed directories")


def log_path(settings: Settings, job_id: int) -> Path:
    """Where a job's output goes."""
    return settings.root / "state" / "jobs" / f"{job_id}.log"


def cancel(registry: Registry, job_id: int) -> bool:
    """Cancel a job that is queued or running; False if it has ended."""
    with registry.write() as session:
        job = session.get(Job, job_id)
        if job is None or job.state not in (JobState.QUEUED, JobState.RUNNING):
            return False
        job.state, job.ended, job.error = JobState.CANCELLED, time.time(), "cancelled by the user"
        return True


class JobRunner:
    """Runs queued jobs, oldest first, each in its own process.

    Parameters
    ----------
    registry : Registry
    settings : Settings
    parallel : int
        Jobs at once.
    """

    def __init__(self, registry: Registry, settings: Settings, parallel: int = 1):
        self._registry = registry
        self._settings = settings
        self._parallel = parallel
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="jobs", daemon=True)

    def start(self) -> None:
        """Report what a dead server left running, then begin."""
        with self._registry.write() as session:
            for job in session.scalars(select(Job).where(Job.state == JobState.RUNNING)):
                job.state, job.ended = JobState.FAILED, time.time()
                job.error = "the server ended while this job was running; submit it again"
        self._thread.start()

    def notify(self) -> None:
        """A job was queued or cancelled."""
        self._wake.set()

    def stop(self) -> None:
        """End running jobs and the runner."""
        self._stopping = True
        self._wake.set()
        self._thread.join()
        for job_id, process in self._processes.items():
            _end(process)
            self._finish(job_id, "the server was stopped while this job was running")

    def _loop(self) -> None:
        while not self._stopping:
            try:
                self._reap()
                while len(self._processes) < self._parallel and self._start_next():
                    pass
            except Exception:
                # A database that is away, a disk that is full: the next round may do better.
                log.exception("jobs wait")
            self._wake.wait(0.2 if self._processes else 2.0)
            self._wake.clear()

    def _start_next(self) -> bool:
        with self._registry.write() as session:
            job = session.scalars(
                select(Job).where(Job.state == JobState.QUEUED).order_by(Job.id).limit(1)
            ).first()
            if job is None:
                return False
            job.state, job.started = JobState.RUNNING, time.time()
            job_id = job.id
        try:
            self._processes[job_id] = self._process(job_id)
        except OSError as error:
            self._finish(job_id, f"the job's process cannot be started: {error}")
        return True

    def _process(self, job_id: int) -> "subprocess.Popen[bytes]":
        path = log_path(self._settings, job_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "dsa110_contimg.batch.jobs", str(job_id)],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ
                | {
                    "CONTIMG_ROOT": str(self._settings.root),
                    "CONTIMG_DATABASE_URL": self._settings.database_url,
                },
            )

    def _reap(self) -> None:
        for job_id, process in list(self._processes.items()):
            with self._registry.read() as session:
                state = session.get_one(Job, job_id).state
            if process.poll() is None:
                if state == JobState.CANCELLED:
                    _end(process)
                    del self._processes[job_id]
                continue
            del self._processes[job_id]
            self._finish(
                job_id, f"the job's process ended with exit code {process.returncode}; see its log"
            )

    def _finish(self, job_id: int, reason: str) -> None:
        """A process that is gone while its row still says running has failed."""
        with self._registry.write() as session:
            job = session.get_one(Job, job_id)
            if job.state == JobState.RUNNING:
                job.state, job.ended, job.error = JobState.FAILED, time.time(), reason


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a job's whole process group."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(_STOP_GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    except ProcessLookupError:
        process.wait()


def run_job(settings: Settings, job_id: int) -> bool:
    """Run one job in this process and record its outcome; True if it succeeded."""
    registry = Registry(settings.database)

    def progress(stage: str, fraction: float, message: str) -> None:
        sys.stdout.write(f"{stage} {100 * fraction:.0f} % {message}\n")
        sys.stdout.flush()
        _update(registry, job_id, stage=stage, fraction=fraction, message=message)

    with registry.read() as session:
        job = session.get_one(Job, job_id)
    kind = KINDS[job.type]
    error = ""
    result = None
    with LocalExecutor(settings.workers, settings.slots_dir) as executor:
        context = PipelineContext(settings.root, executor=executor, progress=progress)
        try:
            params = kind.params(**job.params)
            result = kind.run(params, job_id, settings, registry, context)
        except ContimgError as failure:
            error = str(failure)
    sys.stdout.write(f"{error or 'done'}\n")
    _update(
        registry, job_id, state=JobState.FAILED if error else JobState.DONE, error=error,
        result=result, ended=time.time(), **({} if error else {"fraction": 1.0}),
    )  # fmt: skip
    return not error


def _update(registry: Registry, job_id: int, **values: Any) -> None:
    """Change a job's row while it runs; a cancelled one stays cancelled."""
    with registry.write() as session:
        job = session.get_one(Job, job_id)
        if job.state == JobState.RUNNING:
            for name, value in values.items():
                setattr(job, name, value)


if __name__ == "__main__":
    sys.exit(0 if run_job(settings_module.load(), int(sys.argv[1])) else 1)

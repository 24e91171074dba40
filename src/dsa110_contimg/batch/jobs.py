"""The queue of batch jobs: what REST and the command line submit, run once each.

A job runs in a process of its own (`python -m dsa110_contimg.batch.jobs ID SERVER_PID`), never in
the server's; its row tells stage, fraction done, outcome. A job that fails stays failed.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import structlog
from filelock import FileLock, Timeout

from dsa110_contimg import layout
from dsa110_contimg import settings as settings_module
from dsa110_contimg.batch.job_outputs import make_output, may_make, own_directory, request_of
from dsa110_contimg.batch.kinds import KINDS, Request
from dsa110_contimg.batch.workers import NICENESS, batch_workers
from dsa110_contimg.errors import (
    ConflictError,
    ContimgError,
    OutageError,
    RetryableError,
    UsageError,
)
from dsa110_contimg.executors.niceness import make_session_nice
from dsa110_contimg.executors.worker import end_with_parent
from dsa110_contimg.options import parse_options
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.records import JsonObject
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.jobs import (
    add_job,
    cancel_job,
    count_queued,
    fail_running,
    find_job,
    job_numbers,
    job_of_key,
    start_next,
    unfinished_jobs,
    update_running,
)
from dsa110_contimg.registry.models import Job
from dsa110_contimg.registry.states import JobState
from dsa110_contimg.settings import Settings

log = structlog.get_logger()

_STOP_GRACE_S = 10.0
_AGAIN_S, _OUTAGE_S = 2.0, 600.0
_TELL_S = 1.0
"""Between two reports of a job's progress."""


def submit(
    registry: Registry,
    settings: Settings,
    kind: str,
    params: JsonObject,
    idempotency_key: str | None = None,
) -> Job:
    """Queue a job; the same idempotency key gives the same job.

    Raises
    ------
    UsageError
        For an unknown type, a wrong parameter or option, a path outside the root, or an input that
        is not there and that no job is to make.
    ConflictError
        If the idempotency key was given with other parameters.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown job type {kind!r}; choose one of {', '.join(KINDS)}")
    parsed = parse_options(KINDS[kind], params, "params")
    parsed.check_paths(settings.root)
    parsed.check_options(settings)
    with registry.write() as session:
        earlier = job_of_key(session, idempotency_key) if idempotency_key is not None else None
        if earlier is not None:
            if (earlier.type, request_of(earlier)) != (kind, parsed):
                raise ConflictError(
                    f"the idempotency key {idempotency_key!r} was given for job {earlier.id}, "
                    "which has other parameters; give another key"
                )
            return earlier
        _check_inputs(parsed, settings, unfinished_jobs(session))
        if count_queued(session) >= settings.api_max_queued_jobs:
            raise RetryableError(
                f"{settings.api_max_queued_jobs} jobs wait already; submit again later"
            )
        return add_job(session, kind, parsed.model_dump(mode="json"), idempotency_key)


def _check_inputs(request: Request, settings: Settings, unfinished: Iterable[Job]) -> None:
    """Raise `UsageError` if an input is not there and none of the unfinished jobs may make it."""
    missing = [path for path in request.input_paths() if not (settings.root / path).exists()]
    if not missing:
        return
    coming = list(unfinished)
    for path in missing:
        wanted = settings.root / path
        if not any(may_make(job, settings, wanted) for job in coming):
            raise UsageError(f"params: {wanted}: is not there, and no job that waits makes it")


def log_path(settings: Settings, job_id: int) -> Path:
    """Where a job's output goes."""
    return layout.job_logs(settings.root) / f"{job_id}.log"


def cancel(registry: Registry, job_id: int) -> bool:
    """Cancel a job that is queued or running; False if it has ended."""
    with registry.write() as session:
        return cancel_job(session, job_id)


class JobRunner:
    """Runs queued jobs, oldest first, each in its own process that ends with this one.

    Of several servers on one root one runs the jobs, the next takes over when it ends.

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
        state = layout.state(settings.root)
        state.mkdir(parents=True, exist_ok=True)
        # The lock is taken by one thread and given back by another.
        self._turn = FileLock(state / "jobs.lock", thread_local=False)
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, after any other server that runs jobs."""
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="jobs", daemon=True)
        self._thread.start()

    def _take_over(self) -> bool:
        """Become the one that runs jobs, if nobody is, and report what a dead one left running."""
        if self._turn.is_locked:
            return True
        try:
            self._turn.acquire(timeout=0)
        except Timeout:
            return False
        with contextlib.ExitStack() as give_back:
            give_back.callback(self._turn.release)
            for job_id in job_numbers(self._registry, [JobState.RUNNING]):
                self._finish(job_id, "the server ended while this job was running; submit it again")
            self._sweep()
            give_back.pop_all()
        return True

    def notify(self) -> None:
        """A job was queued or cancelled."""
        self._wake.set()

    def stop(self) -> None:
        """End running jobs and the runner."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _loop(self) -> None:
        while not self._stopping:
            try:
                self.look()
            except ContimgError as error:
                # A database that is away: the next round may do better.
                log.error("jobs wait", error=str(error))
            except Exception:
                log.exception("jobs wait")
            self._wake.wait(0.2 if self._processes else 2.0)
            self._wake.clear()
        # Here, for jobs are killed when the thread ends that started them.
        for job_id, process in self._processes.items():
            _end(process)
            self._finish(job_id, "the server was stopped while this job was running")
        self._turn.release()

    def look(self) -> None:
        """One round: see what has ended, start what waits if it is this one's turn."""
        self._reap()
        if self._take_over():
            while len(self._processes) < self._parallel and self._start_next():
                pass

    def _start_next(self) -> bool:
        with self._registry.write() as session:
            job_id = start_next(session)
        if job_id is None:
            return False
        try:
            self._processes[job_id] = self._process(job_id)
        except OSError as error:
            self._finish(job_id, f"the job's process cannot be started: {error}")
        return True

    def _process(self, job_id: int) -> "subprocess.Popen[bytes]":
        path = log_path(self._settings, job_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as output:
            module = [sys.executable, "-m", "dsa110_contimg.batch.jobs"]
            process = subprocess.Popen(
                ["nice", "-n", str(NICENESS), *module, str(job_id), str(os.getpid())],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self._settings.root,
                start_new_session=True,
                env=os.environ
                | {
                    "CONTIMG_ROOT": str(self._settings.root),
                    "CONTIMG_DATABASE_URL": self._settings.database_url,
                    "CONTIMG_EXECUTOR__SCHEDULER": self._settings.executor.scheduler,
                },
            )
        make_session_nice(NICENESS, process.pid)
        return process

    def _reap(self) -> None:
        for job_id, process in list(self._processes.items()):
            job = find_job(self._registry, job_id)
            if process.poll() is None:
                if job is not None and job.state != JobState.CANCELLED:
                    continue
                _end(process)
            del self._processes[job_id]
            self._finish(
                job_id, f"the job's process ended with exit code {process.returncode}; see its log"
            )

    def _finish(self, job_id: int, reason: str) -> None:
        """A process that is gone while its row still says running has failed."""
        with self._registry.write() as session:
            state = fail_running(session, job_id, reason)
        if state != JobState.DONE:
            shutil.rmtree(own_directory(self._settings, job_id), ignore_errors=True)

    def _sweep(self) -> None:
        """Take away what jobs wrote that a server declared failed just before its own end."""
        # What no row tells of stays: the database may be an older one, put back.
        for job_id in job_numbers(self._registry, (JobState.FAILED, JobState.CANCELLED)):
            shutil.rmtree(own_directory(self._settings, job_id), ignore_errors=True)


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
    registry = Registry.of(settings)
    told_stage, told_until = "", 0.0

    def progress(stage: str, fraction: float, message: str) -> None:
        sys.stdout.write(f"{stage} {100 * fraction:.0f} % {message}\n")
        sys.stdout.flush()
        # Who has little of the processor holds the database's lock for long: others wait for it.
        nonlocal told_stage, told_until
        if stage == told_stage and time.monotonic() < told_until:
            return
        told_stage, told_until = stage, time.monotonic() + _TELL_S
        # A database that is away is no reason to end.
        with contextlib.suppress(OutageError):
            _update(registry, job_id, stage=stage, fraction=fraction, message=message)

    job = find_job(registry, job_id)
    if job is None or job.state != JobState.RUNNING:
        # Its server died before it could end with it, and the next one has declared it failed.
        return False
    error = ""
    result = None
    try:
        request = request_of(job)
        # Links may have changed since it was submitted.
        request.check_paths(settings.root)
        output = make_output(request, settings, job_id)
        with batch_workers(settings, map(Path, request.input_paths())) as executor:
            context = PipelineContext(
                settings.root, executor=executor, progress=progress, stage_name=job.type
            )
            result = request.run(settings, registry, context, output)
    except ContimgError as failure:
        error = str(failure)
    sys.stdout.write(f"{error or 'done'}\n")
    until = time.monotonic() + _OUTAGE_S
    while True:
        try:
            _update(
                registry,
                job_id,
                state=JobState.FAILED if error else JobState.DONE,
                error=error,
                result=result,
                ended=time.time(),
                **({} if error else {"fraction": 1.0}),
            )
        except OutageError as outage:
            if time.monotonic() > until:
                raise
            sys.stdout.write(f"waiting for the database: {outage}\n")
            time.sleep(_AGAIN_S)
        else:
            return not error


def _update(registry: Registry, job_id: int, **values: object) -> None:
    """Change a job's row while it runs; a cancelled one stays cancelled."""
    with registry.write() as session:
        update_running(session, job_id, values)


def _end_kindly(*_: object) -> None:
    """SIGTERM as an exception: what is half written is taken away on the way out."""
    sys.exit("ended by its server")


if __name__ == "__main__":
    end_with_parent()
    if os.getppid() != int(sys.argv[2]):
        sys.exit("the server ended before this job began")
    signal.signal(signal.SIGTERM, _end_kindly)
    sys.exit(0 if run_job(settings_module.load(), int(sys.argv[1])) else 1)

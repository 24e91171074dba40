"""Jobs of SLURM or PBS as the workers of a scheduler in this process.

dask-jobqueue submits and cancels them. What it leaves open is done here: a job that the queue
refused, or lost before it ever ran, is asked for again, and all are given back in the end.
"""

import asyncio
import contextlib
import math
import os
import re
import shlex
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from typing import Any

import dask
import dask_jobqueue
import structlog
from distributed import Client, Status
from tornado.ioloop import IOLoop

from dsa110_contimg import layout
from dsa110_contimg.errors import UsageError
from dsa110_contimg.executors.cluster.security import DASK, make_keys, security
from dsa110_contimg.executors.settings import ComputeSettings, ExecutorSettings

log = structlog.get_logger()

_CONNECT_S, _CLOSE_S = 10.0, 20.0
_ASK_S = 60.0
"""Interval between questions about jobs that have not begun."""
_ANSWER_S = 30.0
"""Response time-out of a program of the queue, which is then ended."""
_GONE = re.compile("Unknown Job|has finished")
"""Message of `qstat` about a job that is gone."""


def open_queue(settings: ComputeSettings) -> "Queue":
    """The queue that the settings name; nothing is submitted yet.

    Raises
    ------
    UsageError
        If the options, or the paths, cannot be those of jobs.
    """
    given = settings.executor
    kind, name = (given.slurm, "SLURMCluster") if given.slurm else (given.pbs, "PBSCluster")
    options = dict(kind or {})
    if options.get("processes", 1) != 1:
        raise UsageError("executor: processes must be 1; a job's worker has one process a core")
    for path in (settings.root, settings.tls_dir, sys.executable):
        if " " in str(path):
            raise UsageError(f"executor: {path}: a path of jobs may have no space in it")
    dask.config.update_defaults(DASK)
    make_keys(settings.tls_dir)
    logs = layout.queue_logs(settings.root)
    logs.mkdir(parents=True, exist_ok=True)
    options = {
        # A worker's calls run in processes of its own, which a nanny's worker may not have.
        "nanny": False,
        "processes": 1,
        "python": sys.executable,
        "log_directory": str(logs),
        **options,
        "security": security(settings.tls_dir),
        "protocol": "tls://",
        "scheduler_options": {
            "dashboard": False,
            "dashboard_address": "127.0.0.1:0",
            **options.get("scheduler_options", {}),
        },
    }
    kind_of_cluster = getattr(dask_jobqueue, name)
    commands = _Commands()
    try:
        cluster = kind_of_cluster(job_cls=commands.job_class(kind_of_cluster.job_cls), **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"executor: {name} does not take these options: {error}") from error
    return Queue(given, int(options.get("cores") or 1), cluster, commands)


class _Commands:
    """The queue's own programs, of which none may hang for ever."""

    def __init__(self) -> None:
        self._running: set[asyncio.subprocess.Process] = set()

    async def run(self, *command: str) -> tuple[int, str, str]:
        """Exit status, output and complaints.

        Raises
        ------
        OSError
            If there is no such program.
        TimeoutError
            If it did not answer.
        """
        # What a user has there would change what is listed.
        mine = {key: value for key, value in os.environ.items() if not key.startswith("SQUEUE_")}
        program = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=mine, start_new_session=True
        )
        self._running.add(program)
        try:
            output, complaint = await asyncio.wait_for(program.communicate(), _ANSWER_S)
        finally:
            self._running.discard(program)
            if program.returncode is None:
                _end(program)
                await program.wait()
        status = -1 if program.returncode is None else program.returncode
        return status, output.decode(errors="replace"), complaint.decode(errors="replace")

    def end(self) -> None:
        """End those that run."""
        for program in self._running:
            _end(program)

    async def output_of(self, *command: str) -> str:
        """Output of a command that has to succeed.

        Raises
        ------
        RuntimeError
            If it did not.
        """
        name = " ".join(command)
        try:
            status, output, complaint = await self.run(*command)
        except (OSError, TimeoutError) as error:
            raise RuntimeError(f"{name}: {str(error) or 'does not answer'}") from error
        if status:
            raise RuntimeError(f"{name}: exit status {status}: {complaint.strip()}")
        return output

    def job_class(self, kind: Any) -> Any:
        """A kind of job of dask-jobqueue that is submitted and cancelled by these commands."""
        commands = self

        class Job(kind):  # type: ignore[misc]
            async def start(self) -> None:
                """Submit the job."""
                try:
                    with self.job_file() as script:
                        submit = shlex.split(self.submit_command)
                        output = await commands.output_of(*submit, script)
                    found = re.search(self.job_id_regexp, output)
                    if found is None:
                        raise RuntimeError(f"{self.submit_command}: no number in {output!r}")
                except (RuntimeError, OSError):
                    self.status = Status.failed
                    raise
                self.job_id = found["job_id"]
                self.status = Status.running

            async def close(self) -> None:
                """Cancel the job; one that has ended already is no error."""
                if self.job_id:
                    with contextlib.suppress(RuntimeError):
                        await commands.output_of(*shlex.split(self.cancel_command), self.job_id)
                self.status = Status.closed

        return Job


def _end(program: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)


class Queue:
    """A scheduler in this process, and as many jobs as calls need.

    Parameters
    ----------
    given : ExecutorSettings
    slots_a_job : int
    cluster : dask_jobqueue.JobQueueCluster
    commands : _Commands

    Attributes
    ----------
    at_most : int
        Calls that all jobs compute at once.
    """

    def __init__(
        self, given: ExecutorSettings, slots_a_job: int, cluster: Any, commands: _Commands
    ):
        self.at_most = given.maximum_jobs * slots_a_job
        self._given, self._slots_a_job = given, slots_a_job
        self._cluster, self._commands = cluster, commands
        self._wanted = 0
        self._joined: set[str] = set()
        self._ask_at = 0.0
        self._looking: asyncio.Task[None] | None = None
        self._closing = False

    def connect(self, _: IOLoop) -> Client:
        """A client on the loop that the scheduler runs on, in this process."""
        return Client(self._cluster, timeout=_CONNECT_S, set_as_default=False)

    def fit(self, calls: int) -> None:
        """Ask for as many jobs as calls need, and for those that ended again."""
        wanted = math.ceil(calls / self._slots_a_job)
        # The queue does not know which job is idle: it takes some away when all are.
        self._wanted = max(self._wanted, wanted) if calls else 0
        jobs = min(max(self._wanted, self._given.minimum_jobs), self._given.maximum_jobs)
        self._cluster.loop.add_callback(self._look)
        self._cluster.loop.add_callback(self._cluster.scale, jobs=jobs)

    def close(self) -> None:
        """Give the jobs back, and end the scheduler."""
        try:
            self._cluster.sync(self._let_close)
        finally:
            self._cluster.close(timeout=_CLOSE_S)

    def _look(self) -> None:
        """Look after the jobs, unless that is still being done."""
        if not self._closing and (self._looking is None or self._looking.done()):
            self._looking = asyncio.ensure_future(self._forget())

    async def _forget(self) -> None:
        """Forget jobs that were refused, or lost before they ran: they count as there till then."""
        jobs = self._cluster.workers
        there = {worker["name"] for worker in self._cluster.scheduler_info["workers"].values()}
        self._joined |= {job.job_id for name, job in jobs.items() if name in there}
        refused = {job for job in jobs.values() if job.status in (Status.created, Status.failed)}
        waiting = {
            job.job_id: job
            for job in jobs.values()
            if job not in refused and job.job_id not in self._joined
        }
        lost = {waiting[job_id] for job_id in await self._lost(list(waiting))}
        for job in lost:
            # In case that it is there after all.
            await job.close()
        for name, job in list(jobs.items()):
            if job in refused | lost:
                log.warning("cluster: a job is asked for again", job=job.job_id or "refused")
                del jobs[name]

    async def _lost(self, job_ids: list[str]) -> set[str]:
        """Which of these jobs the queue says that it has not, waiting or running."""
        if not job_ids or time.monotonic() < self._ask_at:
            return set()
        self._ask_at = time.monotonic() + _ASK_S
        if self._given.slurm:
            command = ["squeue", "--noheader", "--format=%A", f"--jobs={','.join(job_ids)}"]
        else:
            command = ["qstat", *job_ids]
        try:
            status, output, complaint = await self._commands.run(*command)
        except (OSError, TimeoutError) as error:
            log.warning("cluster: the queue cannot be asked", reason=str(error) or command[0])
            return set()
        if self._given.slurm:
            understood = status == 0 or "Invalid job id" in complaint
            return set(job_ids) - set(output.split()) if understood else set()
        lines = [line for line in complaint.splitlines() if _GONE.search(line)]
        numbers = {number for line in lines for number in re.findall(r"\d+", line)}
        return set(job_ids) & numbers

    async def _let_close(self) -> None:
        """End what is under way; the cluster does not close while a job seems to run."""
        self._closing = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        self._cluster.scale(0)
        self._commands.end()

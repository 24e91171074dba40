"""Who computes, according to the settings."""

import asyncio
import math
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from dsa110_contimg.errors import UsageError
from dsa110_contimg.pipeline.executors import LocalExecutor
from dsa110_contimg.pipeline.slots import Priority
from dsa110_contimg.settings import ExecutorSettings, Settings

if TYPE_CHECKING:
    from distributed import Client
    from tornado.ioloop import IOLoop

    from dsa110_contimg.pipeline.cluster import ClusterExecutor

log = structlog.get_logger()

_CONNECT_S = 10.0
_CLOSE_S = 20.0
_QUEUE_S = 10.0
"""That a queue has to answer in."""
_NO_SUCH_JOB = (b"Invalid job id", b"Unknown Job", b"has finished")


def open_executor(
    settings: Settings, timeout_s: float | None = None, priority: Priority = Priority.BATCH
) -> "LocalExecutor | ClusterExecutor":
    """Processes of this machine, or a cluster where the settings name one.

    Parameters
    ----------
    settings : Settings
    timeout_s : float, optional
        A call is killed after computing for so long.
    priority : Priority

    Raises
    ------
    UsageError
        If a cluster is wanted and cannot be: Dask or its keys are not there, or several are named.
    """
    given = settings.executor
    kinds = [kind for kind in (given.scheduler, given.slurm, given.pbs) if kind]
    if not kinds:
        return LocalExecutor(
            settings.workers, settings.slots_dir, timeout_s=timeout_s, priority=priority
        )
    if len(kinds) > 1:
        raise UsageError("executor: give one of scheduler, slurm and pbs")
    try:
        import dask

        from dsa110_contimg.pipeline.cluster import ClusterExecutor
    except ImportError as error:
        raise UsageError(
            f"a cluster needs the extra: pip install 'dsa110-contimg[cluster]' ({error})"
        ) from error
    # A scheduler that is away is asked again; Dask itself would wait for half a minute each time.
    dask.config.update_defaults({"distributed": {"comm": {"timeouts": {"connect": "5s"}}}})
    if given.scheduler:
        return ClusterExecutor(_address(settings), timeout_s, priority, patience_s=given.patience_s)
    queue = _queue(settings)
    return ClusterExecutor(queue.connect, timeout_s, priority, queue)


def _address(settings: Settings) -> "Callable[[IOLoop], Client]":
    """A scheduler that somebody else runs."""
    from distributed import Client

    from dsa110_contimg.pipeline.cluster_security import security

    keys = security(settings.tls_dir)

    def connect(loop: "IOLoop") -> Client:
        return Client(
            settings.executor.scheduler, security=keys, timeout=_CONNECT_S, set_as_default=False,
            loop=loop,
        )  # fmt: skip

    return connect


def _queue(settings: Settings) -> "_Queue":
    import dask
    import dask_jobqueue

    from dsa110_contimg.pipeline.cluster_security import DASK, make_keys, security

    given = settings.executor
    kind, name = (given.slurm, "SLURMCluster") if given.slurm else (given.pbs, "PBSCluster")
    if int((kind or {}).get("processes", 1)) != 1:
        raise UsageError("executor: processes must be 1; a job's worker has one process a core")
    dask.config.update_defaults(DASK)
    make_keys(settings.tls_dir)
    logs = settings.root / "state" / "queue"
    logs.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {
        # A worker's calls run in processes of its own, which a nanny's worker may not have.
        "nanny": False, "python": sys.executable, "log_directory": str(logs),
        **(kind or {}), "security": security(settings.tls_dir), "protocol": "tls://",
        "scheduler_options": {
            "dashboard": False, "dashboard_address": "127.0.0.1:0",
            **(kind or {}).get("scheduler_options", {}),
        },
    }  # fmt: skip
    try:
        cluster = getattr(dask_jobqueue, name)(**options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"executor: {name} does not take these options: {error}") from error
    return _Queue(given, int((kind or {}).get("cores") or 1), cluster)


class _Queue:
    """A scheduler in this process, and jobs of a queue as its workers.

    Attributes
    ----------
    at_most : int
        Calls that all jobs compute at once.
    """

    def __init__(self, given: ExecutorSettings, slots_a_job: int, cluster: Any):
        self.at_most = given.maximum_jobs * slots_a_job
        self._given, self._slots_a_job, self._cluster = given, slots_a_job, cluster
        self._asked = 0
        self._joined: set[str] = set()

    def connect(self, _: "IOLoop") -> "Client":
        """A client on the loop that the scheduler runs on, in this process."""
        from distributed import Client

        return Client(self._cluster, timeout=_CONNECT_S, set_as_default=False)

    def fit(self, calls: int) -> None:
        """Ask for as many jobs as calls need, and for those that ended again."""
        wanted = math.ceil(calls / self._slots_a_job)
        # The queue does not know which job is idle: it takes some away when all are.
        self._asked = max(self._asked, wanted) if calls else 0
        jobs = min(max(self._asked, self._given.minimum_jobs), self._given.maximum_jobs)
        self._cluster.loop.add_callback(self._forget)
        self._cluster.scale(jobs=jobs)

    def close(self) -> None:
        """Give the jobs back, and end the scheduler."""
        self._cluster.close(timeout=_CLOSE_S)

    async def _forget(self) -> None:
        """Jobs that were refused, or lost before they ran, count as there until forgotten."""
        from distributed import Status

        jobs = self._cluster.workers
        there = {worker["name"] for worker in self._cluster.scheduler_info["workers"].values()}
        self._joined |= {job.job_id for name, job in jobs.items() if name in there}
        for name, job in list(jobs.items()):
            refused = job.status in (Status.created, Status.failed)
            if not refused and (job.job_id in self._joined or not await self._is_lost(job.job_id)):
                continue
            if jobs.get(name) is job:
                log.warning("cluster: a job is asked for again", job=job.job_id or "refused")
                # Or the cluster does not close.
                job.status = Status.failed
                del jobs[name]

    async def _is_lost(self, job_id: str) -> bool:
        """True if the queue says that it has no such job, waiting or running."""
        command = ["squeue", "--noheader", "--jobs"] if self._given.slurm else ["qstat"]
        try:
            program = await asyncio.create_subprocess_exec(
                *command, job_id, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
            )
            told, error = await asyncio.wait_for(program.communicate(), _QUEUE_S)
        except (OSError, TimeoutError):
            return False
        if program.returncode == 0:
            # SLURM says nothing of a job that is over, PBS calls that an error.
            return not told.strip()
        return any(words in error for words in _NO_SUCH_JOB)

"""Who computes, according to the settings."""

import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dsa110_contimg.errors import UsageError
from dsa110_contimg.pipeline.executors import LocalExecutor
from dsa110_contimg.pipeline.slots import Priority
from dsa110_contimg.settings import ExecutorSettings, Settings

if TYPE_CHECKING:
    from distributed import Client
    from tornado.ioloop import IOLoop

    from dsa110_contimg.pipeline.cluster import ClusterExecutor

_CONNECT_S = 10.0


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
    connect, scale = _jobs(settings)
    at_most = given.maximum_jobs * _cores(given)
    return ClusterExecutor(connect, timeout_s, priority, scale, at_most)


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


def _jobs(settings: Settings) -> "tuple[Callable[[IOLoop], Client], Callable[[int], None]]":
    """A scheduler in this process, and jobs of a queue as its workers."""
    import dask
    import dask_jobqueue
    from distributed import Client

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

    def connect(_: "IOLoop") -> Client:
        # On the loop that the scheduler runs on, in this process.
        return Client(cluster, timeout=_CONNECT_S, set_as_default=False)

    return connect, _scaling(given, cluster)


def _cores(given: ExecutorSettings) -> int:
    """Of a job."""
    return int((given.slurm or given.pbs or {}).get("cores") or 1)


def _scaling(given: ExecutorSettings, cluster: Any) -> Callable[[int], None]:
    """Ask for as many jobs as calls need, and for those that ended again."""
    asked, slots_a_job = 0, _cores(given)

    def fit(calls: int) -> None:
        nonlocal asked
        wanted = math.ceil(calls / slots_a_job)
        # The queue does not know which job is idle: it takes some away when all are.
        asked = max(asked, wanted) if calls else 0
        cluster.loop.add_callback(_forget_failed, cluster)
        cluster.scale(jobs=min(max(asked, given.minimum_jobs), given.maximum_jobs))

    return fit


def _forget_failed(cluster: Any) -> None:
    """A job that could not be submitted counts as there until it is forgotten."""
    from distributed import Status

    for name, job in list(cluster.workers.items()):
        if job.status in (Status.created, Status.failed):
            del cluster.workers[name]

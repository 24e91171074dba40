"""Who computes, according to the settings."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dsa110_contimg.errors import UsageError
from dsa110_contimg.executors.local import LocalExecutor
from dsa110_contimg.executors.priority import Priority
from dsa110_contimg.executors.settings import ComputeSettings

if TYPE_CHECKING:
    from distributed import Client
    from tornado.ioloop import IOLoop

    from dsa110_contimg.executors.cluster.executor import ClusterExecutor

_CONNECT_S = 10.0


def open_executor(
    settings: ComputeSettings, timeout_s: float | None = None, priority: Priority = Priority.BATCH
) -> "LocalExecutor | ClusterExecutor":
    """Processes of this machine, or a cluster where the settings name one.

    Parameters
    ----------
    settings : ComputeSettings
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

        from dsa110_contimg.executors.cluster.executor import ClusterExecutor
        from dsa110_contimg.executors.cluster.queue import open_queue
    except ImportError as error:
        raise UsageError(
            f"a cluster needs the extra: pip install 'dsa110-contimg[cluster]' ({error})"
        ) from error
    # A scheduler that is away is asked again; Dask itself would wait for half a minute each time.
    dask.config.update_defaults({"distributed": {"comm": {"timeouts": {"connect": "5s"}}}})
    if given.scheduler:
        return ClusterExecutor(_address(settings), timeout_s, priority, patience_s=given.patience_s)
    queue = open_queue(settings)
    return ClusterExecutor(queue.connect, timeout_s, priority, queue)


def _address(settings: ComputeSettings) -> "Callable[[IOLoop], Client]":
    """A scheduler that somebody else runs."""
    from distributed import Client

    from dsa110_contimg.executors.cluster.security import security

    keys = security(settings.tls_dir)

    def connect(loop: "IOLoop") -> Client:
        return Client(
            settings.executor.scheduler,
            security=keys,
            timeout=_CONNECT_S,
            set_as_default=False,
            loop=loop,
        )

    return connect

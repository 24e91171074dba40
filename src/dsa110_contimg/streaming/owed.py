"""Cross-matches that published mosaics are owed: their daemon died, or something failed."""

import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor

import structlog

from dsa110_contimg import layout
from dsa110_contimg.artifacts.mosaics import PublishedMosaic
from dsa110_contimg.errors import ContimgError, OutageError, RetryableError
from dsa110_contimg.executors.base import Executor
from dsa110_contimg.pipeline.context import StageContext
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.mosaics import owed_crossmatches, set_crossmatch
from dsa110_contimg.registry.states import CrossmatchState
from dsa110_contimg.settings import Settings
from dsa110_contimg.sources.options import CrossmatchOptions
from dsa110_contimg.stages.crossmatch import CrossmatchStage

log = structlog.get_logger()


class OwedCrossmatches:
    """Makes up for cross-matches, with the rules of retrying.

    Parameters
    ----------
    registry : Registry
    settings : Settings
    options : CrossmatchOptions
    executor : Executor
    wake : callable
        Called when one is done.
    """

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        options: CrossmatchOptions,
        executor: Executor,
        wake: Callable[[], None],
    ):
        self._registry = registry
        self._settings = settings
        self._stage = CrossmatchStage(options, registry)
        self._executor = executor
        self._wake = wake
        self._threads = ThreadPoolExecutor(1, "owed")
        self._running: dict[str, Future[None]] = {}
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._running)

    def look(self, busy_groups: Collection[str]) -> None:
        """Begin what is owed, unless its group is at it."""
        for name in [name for name, future in self._running.items() if future.done()]:
            self._settle(name, self._running.pop(name).exception())
        with self._registry.read() as session:
            owed = owed_crossmatches(session)
        now = time.monotonic()
        for name, group_id in owed:
            if group_id in busy_groups or name in self._running:
                continue
            if now >= self._not_before.get(name, 0.0):
                self._running[name] = self._threads.submit(self._crossmatch, name)
                self._running[name].add_done_callback(lambda _: self._wake())

    def _crossmatch(self, name: str) -> None:
        published = PublishedMosaic.at(
            layout.published_mosaics(self._settings.root) / f"{name}.fits"
        )
        self._stage.run(StageContext(self._settings.root, executor=self._executor), published)

    def _settle(self, name: str, error: BaseException | None) -> None:
        if error is None:
            self._failures.pop(name, None)
            return
        outage = isinstance(error, OutageError)
        failures = self._failures[name] = self._failures.get(name, 0) + (not outage)
        delay_s = self._settings.retry_delay_s * 2 ** max(failures - 1, 0)
        self._not_before[name] = time.monotonic() + delay_s
        again = isinstance(error, RetryableError) or not isinstance(error, ContimgError)
        if not again or (not outage and failures >= self._settings.max_attempts):
            with self._registry.write() as session:
                set_crossmatch(session, name, CrossmatchState.FAILED)
        self._registry.record_event(name, f"cross-match failed: {error}", "error")
        log.error("cross-match failed", mosaic=name, error=str(error))

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

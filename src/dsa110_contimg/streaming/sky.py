"""Keeps the HiPS of the sky up to date with what is published."""

import time
from collections.abc import Callable
from concurrent.futures import Future

import structlog

from dsa110_contimg.executors.base import Executor
from dsa110_contimg.operations import sky_survey
from dsa110_contimg.products.survey import Survey
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.products import publication_mark
from dsa110_contimg.settings import Settings

log = structlog.get_logger()


class SkyKeeper:
    """Draws what is new, one update at a time.

    Parameters
    ----------
    registry : Registry
    settings : Settings
    executor : Executor
    wake : callable
        Called when an update is done.
    """

    def __init__(
        self, registry: Registry, settings: Settings, executor: Executor, wake: Callable[[], None]
    ):
        self._registry = registry
        self._settings = settings
        self._executor = executor
        self._wake = wake
        self._running: Future[Survey] | None = None
        self._seen: tuple[int, float | None] | None = None
        self._failures = 0
        self._not_before = 0.0

    def __len__(self) -> int:
        return int(self._running is not None)

    def look(self) -> None:
        """Take in what is done; begin if mosaics were published or taken back since."""
        if self._running is not None and self._running.done():
            self._settle(self._running.exception())
        if not self._settings.hips or self._running is not None:
            return
        if time.monotonic() < self._not_before:
            return
        state = publication_mark(self._registry)
        if state == self._seen:
            return
        self._running = sky_survey.start_update(self._registry, self._settings.root, self._executor)
        self._seen = state
        self._running.add_done_callback(lambda _: self._wake())

    def _settle(self, error: BaseException | None) -> None:
        assert self._running is not None
        if error is None:
            done = self._running.result()
            self._failures = 0
            if done.added or done.removed:
                log.info(
                    "HiPS up to date",
                    added=list(done.added),
                    removed=list(done.removed),
                    cells=done.n_cells,
                )
        else:
            self._seen = None
            delay_s = self._settings.retry_delay_s * 2.0 ** min(self._failures, 8)
            self._failures += 1
            self._not_before = time.monotonic() + delay_s
            self._registry.record_event("HiPS", f"not brought up to date: {error}", "error")
            log.error("HiPS not brought up to date", error=str(error))
        self._running = None

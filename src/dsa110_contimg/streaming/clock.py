"""When the clock is set back, moments that were written before lie in the future."""

import time

import structlog

from dsa110_contimg.registry.clock import STEP_S, bring_in
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.settings import Settings

log = structlog.get_logger()


class ClockWatch:
    """Brings such moments in, at the start and after each step: nothing waits for them.

    Parameters
    ----------
    registry : Registry
    settings : Settings
        Lease and retry times.
    """

    def __init__(self, registry: Registry, settings: Settings):
        self._registry = registry
        self._settings = settings
        self._offset_s: float | None = None

    def look(self) -> None:
        """Compare the clock with one that is never set."""
        offset_s = time.time() - time.monotonic()
        if self._offset_s is None or offset_s < self._offset_s - STEP_S:
            longest_retry_s = self._settings.retry_delay_s * 2.0**self._settings.max_attempts
            count = bring_in(self._registry, self._settings.lease_s, longest_retry_s)
            if count:
                log.warning("the clock was set back", moments_in_the_future=count)
        self._offset_s = offset_s

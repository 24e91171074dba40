"""No work begins that the disk has no room for."""

import shutil
from pathlib import Path

import structlog

from dsa110_contimg.registry.database import Registry
from dsa110_contimg.settings import Settings

log = structlog.get_logger()
_GB = 1e9


class DiskGuard:
    """Says whether there is room, and tells operators when that changes.

    Parameters
    ----------
    registry : Registry
    directory : Path
        On the file system that is written to.
    settings : Settings
    """

    def __init__(self, registry: Registry, directory: Path, settings: Settings):
        self._registry = registry
        self._directory = directory
        self._settings = settings
        self.paused = False

    def is_short(self, need_bytes: float) -> bool:
        """True if work that writes so much has no room."""
        free = shutil.disk_usage(self._directory).free
        return free < self._settings.disk_stop_gb * _GB + need_bytes

    def room_for(self, need_bytes: float) -> bool:
        """True if work that writes so much may begin.

        Once it may not, it may again only when the higher of both limits is reached.
        """
        limit_gb = self._settings.disk_resume_gb if self.paused else self._settings.disk_stop_gb
        free = shutil.disk_usage(self._directory).free
        short = free < limit_gb * _GB + need_bytes
        if short != self.paused:
            self.paused = short
            free_gb = free / _GB
            message = (
                f"{self._directory}: {free_gb:.1f} GB are free, {limit_gb:g} GB and "
                f"{need_bytes / _GB:.1f} GB for the next piece of work are needed: nothing new "
                "begins; make room (dsa110-contimg housekeeping --dry-run shows what may go)"
                if short
                else f"{self._directory}: {free_gb:.1f} GB are free again, work goes on"
            )
            (log.error if short else log.info)(message)
            self._registry.record_event("disk", message, "error" if short else "info")
        return not short

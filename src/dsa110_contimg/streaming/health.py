"""How the whole system is: counts, flow, and what somebody should know."""

from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.status import Overview, Pulse, overview, pulse
from dsa110_contimg.settings import Settings
from dsa110_contimg.sky.astrometry import orientation_warning


class Health(Overview):
    """The overview with the flow of data."""

    pulse: Pulse


def health(registry: Registry, settings: Settings) -> Health:
    """The overview with the pulse of the data, and a warning if their dates outrun our tables."""
    view = overview(registry)
    warning = orientation_warning(view.latest_tile)
    warnings = [warning, *view.warnings] if warning else view.warnings
    found = dict(view) | {"warnings": warnings}
    return Health(**found, pulse=pulse(registry, settings.root))

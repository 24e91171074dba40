"""How the whole system is: counts, flow, and what somebody should know."""

from typing import Any

from dsa110_contimg import records
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.queries import overview, pulse
from dsa110_contimg.settings import Settings
from dsa110_contimg.sky.astrometry import orientation_warning


def health(registry: Registry, settings: Settings) -> dict[str, Any]:
    """The overview with the pulse of the data, and a warning if their dates outrun our tables."""
    view = overview(registry)
    told = orientation_warning(view["latest_tile"])
    return view | {
        "pulse": records.to_json(pulse(registry, settings.root)),
        "warnings": [told, *view["warnings"]] if told else view["warnings"],
    }

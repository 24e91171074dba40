"""Figures for Prometheus, measured when they are asked for."""

from collections.abc import Iterator

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dsa110_contimg.api.security import may_read
from dsa110_contimg.registry.antennas import departing_antennas
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.status import overview, pulse
from dsa110_contimg.settings import Settings

router = APIRouter(tags=["operations"], dependencies=[Depends(may_read)])

_STATES = {
    "files": "Sub-band files by state",
    "tiles": "Tiles by state",
    "groups": "Mosaic groups by state",
    "mosaics": "Mosaics by state",
    "jobs": "Batch jobs by state",
}
_PULSE = {
    "data_age_s": ("contimg_data_age_seconds", "Since the newest tile was observed"),
    "lag_s": ("contimg_lag_seconds", "From the oldest unfinished tile to the newest"),
    "failing": ("contimg_failing", "Tiles and groups that failed, are quarantined or held"),
    "tiles_last_hour": ("contimg_tiles_last_hour", "Tiles converted in the last hour"),
    "mosaics_last_hour": ("contimg_mosaics_last_hour", "Mosaics published in the last hour"),
    "tiles_last_day": ("contimg_tiles_last_day", "Tiles converted in the last 24 h"),
    "mosaics_last_day": ("contimg_mosaics_last_day", "Mosaics published in the last 24 h"),
    "disk_free_gb": ("contimg_disk_free_gigabytes", "Free space where the root is"),
}


class _Figures(Collector):
    def __init__(self, registry: Registry, settings: Settings):
        self._registry = registry
        self._settings = settings

    def collect(self) -> Iterator[GaugeMetricFamily]:
        view, flow = overview(self._registry), pulse(self._registry, self._settings.root)
        counts = view.counts()
        for title, text in _STATES.items():
            family = GaugeMetricFamily(f"contimg_{title}", text, labels=["state"])
            for state, count in counts[title].items():
                family.add_metric([state], count)
            yield family
        yield GaugeMetricFamily("contimg_alerts", "Alert rules broken now", len(view.alerts))
        for name, (metric, text) in _PULSE.items():
            value = getattr(flow, name)
            if value is not None:
                yield GaugeMetricFamily(metric, text, value)
        yield GaugeMetricFamily(
            "contimg_antennas_departing",
            "Antennas of the newest tile not as in its reference tile, or without signal",
            len(departing_antennas(self._registry)),
        )


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request) -> Response:
    """The state of the pipeline in Prometheus's text format."""
    state = request.app.state
    figures = CollectorRegistry(auto_describe=False)
    figures.register(_Figures(state.registry, state.settings))
    return Response(generate_latest(figures), media_type=CONTENT_TYPE_LATEST)

"""The page of antennas against time."""

from typing import Annotated

from fastapi import Depends, Query, Request, Response

from dsa110_contimg.api.products import Moment
from dsa110_contimg.api.security import may_read
from dsa110_contimg.calibration.antenna_history import find_events
from dsa110_contimg.registry.antennas import (
    misplaced_antennas,
    recorded_antennas,
    tile_antennas_beside,
)
from dsa110_contimg.web import charts
from dsa110_contimg.web.site import page, page_router

router = page_router(dependencies=[Depends(may_read)])
_TILES = 96


@router.get("/antennas")
def antennas(
    request: Request,
    by: Annotated[str, Query(pattern=f"^({'|'.join(charts.ANTENNA_STEPS)})$")] = "state",
    until: Moment = None,
) -> Response:
    """The newest tiles, a column each, and events in words."""
    registry = request.app.state.registry
    tiles = recorded_antennas(registry, None, until, _TILES)
    earlier = later = None
    if tiles:
        earlier, later = tile_antennas_beside(registry, tiles[0].start, tiles[-1].start, _TILES)
    return page(
        request,
        "antennas.html",
        title="Antennas",
        by=by,
        steps=charts.ANTENNA_STEPS,
        chart=charts.antennas(tiles, by),
        tiles=tiles,
        events=find_events(tiles)[::-1],
        earlier=earlier,
        later=later,
        misplaced=misplaced_antennas(registry, tiles),
    )

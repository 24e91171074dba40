"""What the pipeline holds, over HTTP; read only."""

from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import select

from dsa110_contimg import __version__
from dsa110_contimg.registry.models import Mosaic
from dsa110_contimg.streaming.health import health

router = APIRouter(prefix="/api", tags=["products"])


@router.get("/status")
def status(request: Request) -> dict[str, Any]:
    """Counts by state, the flow of data, and what is wrong."""
    state = request.app.state
    return {"version": __version__, **health(state.registry, state.settings)}


@router.get("/mosaics")
def mosaics(request: Request) -> list[dict[str, Any]]:
    """Mosaics, the newest observation first."""
    with request.app.state.registry.read() as session:
        return [
            {
                "name": row.name,
                "start": row.start,
                "method": row.method,
                "state": row.state,
                "verdict": row.verdict,
                "tiles": row.record["mosaic"]["tile_ids"],
            }
            for row in session.scalars(select(Mosaic).order_by(Mosaic.start.desc()).limit(500))
        ]

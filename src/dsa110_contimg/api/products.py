"""What the pipeline holds, over HTTP; read only."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import Field

from dsa110_contimg import __version__
from dsa110_contimg.api.problems import MISSING
from dsa110_contimg.api.security import may_read
from dsa110_contimg.calibration.antenna_history import find_events, measurements_of
from dsa110_contimg.errors import UsageError
from dsa110_contimg.registry import light_curves
from dsa110_contimg.registry.antennas import recorded_antennas
from dsa110_contimg.registry.calibration_sets import list_calibration_sets
from dsa110_contimg.registry.models import TileState
from dsa110_contimg.registry.mosaics import get_mosaic, list_mosaics
from dsa110_contimg.registry.products import products_of_file
from dsa110_contimg.registry.sources import find_source, query_sources, source_as_dict
from dsa110_contimg.registry.tiles import get_tile, list_tiles
from dsa110_contimg.streaming.health import health

router = APIRouter(prefix="/api", tags=["products"], dependencies=[Depends(may_read)])
Name = Annotated[str, Field(min_length=1, max_length=160, pattern=r"^[A-Za-z0-9_.+ -]+$")]
Limit = Annotated[int, Query(ge=1, le=500, description="Most rows")]
Degrees = Annotated[float, Query(ge=0, le=360)]
Declination = Annotated[float, Query(ge=-90, le=90)]
Moment = Annotated[float | None, Query(description="Observation time, Unix seconds")]


@router.get("/status")
def status(request: Request) -> dict[str, Any]:
    """Counts by state, the flow of data, and what is wrong."""
    state = request.app.state
    return {"version": __version__, **health(state.registry, state.settings)}


@router.get("/tiles")
def tiles(
    request: Request,
    since: Moment = None,
    until: Moment = None,
    state: TileState | None = None,
    limit: Limit = 100,
) -> list[dict[str, Any]]:
    """Tiles, the newest observation first; `until` the last one's start gives the next page."""
    return list_tiles(request.app.state.registry, since, until, state, limit)


@router.get("/tiles/{tile_id}", responses=MISSING)
def tile(tile_id: Name, request: Request) -> dict[str, Any]:
    """One tile with its images."""
    return _found(get_tile, request, tile_id)


@router.get("/mosaics")
def mosaics(
    request: Request,
    since: Moment = None,
    until: Moment = None,
    state: Literal["staged", "published", "held"] | None = None,
    limit: Limit = 100,
) -> list[dict[str, Any]]:
    """Mosaics, the newest observation first; `until` the last one's start gives the next page."""
    return list_mosaics(request.app.state.registry, limit, since, until, state)


@router.get("/mosaics/{name}", responses=MISSING)
def mosaic(name: Name, request: Request) -> dict[str, Any]:
    """One mosaic with its gates and files."""
    return _found(get_mosaic, request, name)


@router.get("/mosaics/{name}/cutout", responses=MISSING, response_class=Response)
def cutout(
    name: Name,
    request: Request,
    ra: Degrees,
    dec: Declination,
    size: Annotated[float, Query(gt=0, le=600, description="Side, arcmin")] = 20.0,
    format: Literal["png", "fits"] = "png",
) -> Response:
    """A square of a mosaic around a position."""
    from dsa110_contimg.products import cutout as cutouts

    paths = {
        product["kind"]: Path(product["path"]) for product in mosaic(name, request)["products"]
    }
    if "mosaic" not in paths:
        raise HTTPException(404, f"{name} is not published")
    if format == "fits":
        content = cutouts.fits_bytes(paths["mosaic"], ra, dec, size)
        return Response(content, media_type="application/fits")
    content = cutouts.png_bytes(paths["mosaic"], paths["rms"], ra, dec, size)
    return Response(content, media_type="image/png")


@router.get("/files/{file}", responses=MISSING, response_class=FileResponse)
def download(file: Name, request: Request) -> FileResponse:
    """A published file by its name, whole or in ranges."""
    state = request.app.state
    public = state.settings.root.resolve() / "products"
    found = products_of_file(state.registry, file)
    for path in found:
        if path.is_file() and path.resolve().is_relative_to(public):
            return FileResponse(path, filename=file)
    raise HTTPException(404, f"no published file {file}")


@router.get("/calibration-sets")
def calibration_sets(request: Request, limit: Limit = 100) -> list[dict[str, Any]]:
    """Calibration sets, the newest data first."""
    return list_calibration_sets(request.app.state.registry, limit)[::-1]


@router.get("/antennas")
def antennas(
    request: Request, since: Moment = None, until: Moment = None, limit: Limit = 100
) -> list[dict[str, Any]]:
    """Events of antennas over the newest tiles."""
    tiles = recorded_antennas(request.app.state.registry, since, until, limit)
    return [asdict(event) for event in find_events(tiles)]


@router.get("/antennas/{antenna}", responses=MISSING)
def antenna(
    antenna: Name, request: Request, since: Moment = None, until: Moment = None, limit: Limit = 100
) -> list[dict[str, Any]]:
    """Each polarization of an antenna in the newest tiles, in order of time."""
    tiles = recorded_antennas(request.app.state.registry, since, until, limit)
    try:
        return measurements_of(tiles, antenna)
    except UsageError as error:
        raise HTTPException(404, str(error)) from error


@router.get("/sources")
def sources(
    request: Request,
    ra: Annotated[float | None, Query(ge=0, le=360)] = None,
    dec: Annotated[float | None, Query(ge=-90, le=90)] = None,
    radius: Annotated[float, Query(gt=0, le=30, description="Of the cone, degrees")] = 0.1,
    name: Annotated[str | None, Query(max_length=32, description="Part of the name")] = None,
    behaviour: Annotated[str | None, Query(max_length=16)] = None,
    min_modulation: float | None = None,
    min_eta: float | None = None,
    dips: bool = False,
    limit: Limit = 100,
) -> list[dict[str, Any]]:
    """Sources, those that vary most first."""
    if (ra is None) != (dec is None):
        raise UsageError("give ra and dec together")
    cone = None if ra is None or dec is None else (ra, dec, radius)
    with request.app.state.registry.read() as session:
        rows = query_sources(
            session,
            cone=cone,
            name=name,
            behaviour=behaviour,
            min_modulation=min_modulation,
            min_eta=min_eta,
            dips=dips,
            limit=limit,
        )
        return [source_as_dict(row) for row in rows]


@router.get("/sources/{source}", responses=MISSING)
def source(source: Name, request: Request) -> dict[str, Any]:
    """One source by its name or number."""
    return _source(request, source, light_curves.MOSAIC)["source"]


@router.get("/sources/{source}/lightcurve", responses=MISSING)
def light_curve(
    source: Name, request: Request, epochs: Literal["mosaic", "tile"] = "mosaic"
) -> dict[str, Any]:
    """A source's flux density at every epoch; below 3 sigma an upper limit."""
    return _source(request, source, epochs)


def _source(request: Request, name: str, kind: str) -> dict[str, Any]:
    try:
        with request.app.state.registry.read() as session:
            row = find_source(session, name)
            curve = light_curves.light_curves(session, [row.id], kind).get(row.id)
            return {
                "source": source_as_dict(row),
                "epochs": curve.as_rows() if curve is not None else [],
            }
    except UsageError as error:
        raise HTTPException(404, str(error)) from error


def _found(query: Any, request: Request, name: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = query(request.app.state.registry, name)
    except UsageError as error:
        raise HTTPException(404, str(error)) from error
    return found

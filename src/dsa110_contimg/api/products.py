"""What the pipeline holds, over HTTP; read only."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import Field

from dsa110_contimg import __version__
from dsa110_contimg.api.files import file_response
from dsa110_contimg.api.problems import MISSING
from dsa110_contimg.api.queries import refuse_unknown_names
from dsa110_contimg.api.security import may_read
from dsa110_contimg.api.tables import CSV, csv_response
from dsa110_contimg.calibration.antenna_history import (
    AntennaEvent,
    AntennaMeasurement,
    find_events,
    measurements_of,
)
from dsa110_contimg.errors import UsageError
from dsa110_contimg.options import UnixTime
from dsa110_contimg.registry.antennas import recorded_antennas
from dsa110_contimg.registry.calibration_sets import CalibrationSetSummary, list_calibration_sets
from dsa110_contimg.registry.light_curves import EpochFlux, SourceLightCurve, source_light_curve
from dsa110_contimg.registry.mosaics import MosaicDetail, MosaicSummary, get_mosaic, list_mosaics
from dsa110_contimg.registry.products import products_of_file
from dsa110_contimg.registry.sources import SourceFilter, SourceSummary, find_source, query_sources
from dsa110_contimg.registry.states import MosaicState, TileState
from dsa110_contimg.registry.tiles import TileDetail, TileSummary, get_tile, list_tiles
from dsa110_contimg.sky.cones import Cone
from dsa110_contimg.sources.behaviour import Behaviour
from dsa110_contimg.streaming.health import Health, health

router = APIRouter(
    prefix="/api",
    tags=["products"],
    dependencies=[Depends(may_read), Depends(refuse_unknown_names)],
)
description = APIRouter(dependencies=[Depends(may_read)])
Name = Annotated[str, Field(min_length=1, max_length=160, pattern=r"^[A-Za-z0-9_.+ -]+$")]
Form = Literal["json", "csv"]
Limit = Annotated[int, Query(ge=1, le=500, description="Most rows")]
Degrees = Annotated[float, Query(ge=0, le=360)]
Declination = Annotated[float, Query(ge=-90, le=90)]
Moment = Annotated[
    UnixTime | None, Query(description="Observation time: ISO time, MJD 61065.9, or Unix seconds")
]


class Status(Health):
    """Counts, flow, warnings, and the version of this program."""

    version: str


@contextmanager
def found_or_404() -> Iterator[None]:
    """Answer 404 if there is no such thing."""
    try:
        yield
    except UsageError as error:
        raise HTTPException(404, str(error)) from error


@description.get("/openapi.json", include_in_schema=False)
def openapi(request: Request) -> JSONResponse:
    """The description of this interface."""
    return JSONResponse(request.app.openapi())


@router.get("/status")
def status(request: Request) -> Status:
    """Counts by state, the flow of data, and what is wrong."""
    state = request.app.state
    found = health(state.registry, state.settings)
    return Status(version=__version__, **dict(found))


@router.get("/tiles")
def tiles(
    request: Request,
    since: Moment = None,
    until: Moment = None,
    state: TileState | None = None,
    limit: Limit = 100,
) -> list[TileSummary]:
    """Tiles, the newest observation first; `until` the last one's start gives the next page."""
    return list_tiles(request.app.state.registry, since, until, state, limit)


@router.get("/tiles/{tile_id}", responses=MISSING)
def tile(tile_id: Name, request: Request) -> TileDetail:
    """One tile with its images."""
    with found_or_404():
        return get_tile(request.app.state.registry, tile_id)


@router.get("/mosaics")
def mosaics(
    request: Request,
    since: Moment = None,
    until: Moment = None,
    state: MosaicState | None = None,
    limit: Limit = 100,
) -> list[MosaicSummary]:
    """Mosaics, the newest observation first; `until` the last one's start gives the next page."""
    return list_mosaics(request.app.state.registry, limit, since, until, state)


@router.get("/mosaics/{name}", responses=MISSING)
def mosaic(name: Name, request: Request) -> MosaicDetail:
    """One mosaic with its gates and files."""
    with found_or_404():
        return get_mosaic(request.app.state.registry, name)


@router.get("/mosaics/{name}/cutout", responses=MISSING, response_class=Response)
def cutout(
    name: Name,
    request: Request,
    ra: Degrees,
    dec: Declination,
    size: Annotated[
        float, Query(gt=0, le=600, description="Side, arcmin; at most 2048 pixels of the mosaic")
    ] = 20.0,
    format: Literal["png", "fits"] = "png",
) -> Response:
    """A square of a mosaic around a position."""
    from dsa110_contimg.products import cutout as cutouts

    paths = {product.kind: product.path for product in mosaic(name, request).products}
    if "mosaic" not in paths:
        raise HTTPException(404, f"{name} is not published")
    if format == "fits":
        content = cutouts.fits_bytes(paths["mosaic"], ra, dec, size)
        return Response(content, media_type="application/fits")
    content = cutouts.png_bytes(paths["mosaic"], paths["rms"], ra, dec, size)
    return Response(content, media_type="image/png")


@router.head("/files/{file}", include_in_schema=False)
@router.get("/files/{file}", responses=MISSING, response_class=FileResponse)
def download(file: Name, request: Request) -> FileResponse:
    """A published file by its name, whole or in ranges."""
    state = request.app.state
    public = state.settings.root.resolve() / "products"
    found = products_of_file(state.registry, file)
    for path in found:
        if path.is_file() and path.resolve().is_relative_to(public):
            return file_response(path)
    raise HTTPException(404, f"no published file {file}")


@router.get("/calibration-sets")
def calibration_sets(request: Request, limit: Limit = 100) -> list[CalibrationSetSummary]:
    """Calibration sets, the newest data first."""
    return list_calibration_sets(request.app.state.registry, limit)[::-1]


@router.get("/antennas")
def antennas(
    request: Request, since: Moment = None, until: Moment = None, limit: Limit = 100
) -> list[AntennaEvent]:
    """Events of antennas over the newest tiles."""
    tiles = recorded_antennas(request.app.state.registry, since, until, limit)
    return list(find_events(tiles))


@router.get("/antennas/{antenna}", responses=MISSING)
def antenna(
    antenna: Name, request: Request, since: Moment = None, until: Moment = None, limit: Limit = 100
) -> list[AntennaMeasurement]:
    """Each polarization of an antenna in the newest tiles, in order of time."""
    tiles = recorded_antennas(request.app.state.registry, since, until, limit)
    with found_or_404():
        return measurements_of(tiles, antenna)


def source_filter(
    ra: Annotated[float | None, Query(ge=0, le=360, description="Degrees")] = None,
    dec: Annotated[float | None, Query(ge=-90, le=90, description="Degrees")] = None,
    radius: Annotated[float, Query(gt=0, le=30, description="Of the cone, degrees")] = 0.1,
    name: Annotated[str, Query(max_length=32, description="Part of the name")] = "",
    behaviour: Behaviour | None = None,
    min_modulation: Annotated[
        float | None, Query(description="Of V: standard deviation over mean")
    ] = None,
    min_eta: Annotated[
        float | None, Query(description="Of eta: reduced chi-square of a constant flux density")
    ] = None,
    dips: Annotated[
        bool, Query(description="Only candidates for extreme scattering events")
    ] = False,
) -> SourceFilter:
    """Conditions on sources from a query."""
    if (ra is None) != (dec is None):
        raise UsageError("give ra and dec together")
    cone = None if ra is None or dec is None else Cone(ra, dec, radius)
    return SourceFilter(cone, name, behaviour, min_modulation, min_eta, dips)


@router.get("/sources", responses=CSV, response_model=list[SourceSummary])
def sources(
    request: Request,
    response: Response,
    wanted: Annotated[SourceFilter, Depends(source_filter)],
    limit: Limit = 100,
    format: Form = "json",
) -> list[SourceSummary] | Response:
    """Sources, those that vary most first; the header X-Total-Count has the number of all."""
    with request.app.state.registry.read() as session:
        found = query_sources(session, wanted, limit)
    if format == "csv":
        response = csv_response(found.sources, list(SourceSummary.model_fields), "sources.csv")
    response.headers["X-Total-Count"] = str(found.n_total)
    return response if format == "csv" else found.sources


@router.get("/sources/{source}", responses=MISSING)
def source(source: Name, request: Request) -> SourceSummary:
    """One source by its name or number."""
    with found_or_404(), request.app.state.registry.read() as session:
        return find_source(session, source)


@router.get(
    "/sources/{source}/lightcurve", responses={**MISSING, **CSV}, response_model=SourceLightCurve
)
def light_curve(
    source: Name,
    request: Request,
    epochs: Literal["mosaic", "tile"] = "mosaic",
    format: Form = "json",
) -> SourceLightCurve | Response:
    """A source's flux density at every epoch; below 3 sigma an upper limit."""
    with found_or_404(), request.app.state.registry.read() as session:
        found = source_light_curve(session, source, epochs)[0]
    if format == "csv":
        name = f"{found.source.name.replace(' ', '_')}.csv"
        return csv_response(found.epochs, list(EpochFlux.model_fields), name)
    return found

"""Gallery and pages of mosaics: the sky itself, gates, downloads."""

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from dsa110_contimg import layout
from dsa110_contimg.api.products import Name
from dsa110_contimg.api.security import may_read, may_write
from dsa110_contimg.errors import UsageError
from dsa110_contimg.products.pyramid import SIDE, Pyramid, one_pixel, open_pyramid
from dsa110_contimg.records import JsonObject
from dsa110_contimg.registry.mosaics import (
    MosaicDetail,
    get_mosaic,
    list_mosaics,
    mosaic_neighbours,
)
from dsa110_contimg.registry.sources import sources_around
from dsa110_contimg.sky import catalogues
from dsa110_contimg.web import assets
from dsa110_contimg.web.assets import ASK
from dsa110_contimg.web.site import Form, needed, page, page_router, to

router = page_router(dependencies=[Depends(may_read)])
_PAGE = 24
_SOURCES_SHOWN = 100
_PERSON = "on the dashboard"
_MOST_OVERLAID = 1000
_CELL = re.compile(r"([^/.][^/]*)/Norder\d+/Dir\d+/Npix\d+\.png")


@router.get("/mosaics")
def gallery(
    request: Request,
    state: Annotated[str, Query(pattern="^(|staged|published|held)$")] = "",
    before: float | None = None,
) -> Response:
    """The newest mosaics as pictures."""
    found = list_mosaics(request.app.state.registry, _PAGE, until=before, state=state or None)
    return page(
        request,
        "mosaics.html",
        title="Mosaics",
        mosaics=found,
        state=state,
        more=found[-1].start - 1e-3 if len(found) == _PAGE else None,
    )


@router.get("/mosaics/{name}")
def mosaic(name: Name, request: Request) -> Response:
    """One mosaic on the sky, with its gates and files."""
    state = request.app.state
    found = get_mosaic(state.registry, name)
    hips = _hips_home(request) / name / "properties"
    return page(
        request,
        "mosaic.html",
        sky=True,
        title=name,
        mosaic=found,
        image=found.record.mosaic,
        validation=found.record.validation,
        has_hips=hips.exists(),
        aladin=assets.ALADIN if assets.has_aladin() else "",
        neighbours=mosaic_neighbours(state.registry, name),
        files=found.products,
        is_there=_path(found).exists(),
    )


def _path(found: MosaicDetail, kind: str = "mosaic") -> Path:
    """A file of a mosaic: where it is public, or where it was staged."""
    for product in found.products:
        if product.kind == kind:
            return product.path
    staged = found.record.mosaic.path
    suffix = {"mosaic": ".fits", "preview": ".png", "report": ".html"}.get(kind)
    if suffix is None:
        return staged.with_name(f"{staged.stem}_{kind}.fits")
    return staged.with_suffix(suffix)


def _pyramid(request: Request, name: str) -> tuple[MosaicDetail, Pyramid]:
    found = get_mosaic(request.app.state.registry, name)
    return found, open_pyramid(_path(found))


@router.get("/mosaics/{name}/preview.png")
def preview(
    name: Name, request: Request, width: Annotated[int, Query(ge=64, le=1600)] = 480
) -> Response:
    """The picture of a mosaic, small."""
    found = get_mosaic(request.app.state.registry, name)
    return Response(
        assets.thumbnail(_path(found, "preview"), width), media_type="image/png", headers=ASK
    )


@router.get("/mosaics/{name}/report")
def report(name: Name, request: Request) -> Response:
    """The page of evidence."""
    path = _path(get_mosaic(request.app.state.registry, name), "report")
    if not path.is_file():
        raise HTTPException(404, f"{name}: its report is gone")
    return assets.self_contained(path.read_text())


@dataclass(frozen=True)
class _FoundSource:
    """A source that was found on a mosaic, and the catalogue's nearest one if it matches."""

    ra_deg: float
    dec_deg: float
    flux_jy: float
    error_jy: float
    catalogue_jy: float | None
    distance_arcsec: float | None


@router.get("/mosaics/{name}/sources")
def found_sources(name: Name, request: Request) -> Response:
    """The brightest sources that were found on a published mosaic."""
    from astropy.table import Table

    from dsa110_contimg.sources import catalogue_file

    path = _path(get_mosaic(request.app.state.registry, name), "catalogue")
    if not path.is_file():
        return page(request, "found_sources.html", name=name, sources=None, n_found=0)
    table = Table.read(path, hdu=catalogue_file.SOURCES)
    table.sort("flux_jy", reverse=True)
    rows = [
        _FoundSource(
            float(row["ra_deg"]),
            float(row["dec_deg"]),
            float(row["flux_jy"]),
            float(row["flux_error_jy"]),
            float(row["catalogue_flux_jy"]) if row["matched"] else None,
            float(row["separation_arcsec"]) if row["matched"] else None,
        )
        for row in table[:_SOURCES_SHOWN]
    ]
    return page(request, "found_sources.html", name=name, sources=rows, n_found=len(table))


@router.get("/mosaics/{name}/sky.json")
def sky(name: Name, request: Request) -> JSONResponse:
    """Size and position of the image, and what can be laid over it."""
    _, pyramid = _pyramid(request, name)
    ny, nx = pyramid.shape
    settings = request.app.state.settings
    centre, reach = pyramid.position(nx / 2, ny / 2), pyramid.reach_deg()
    with request.app.state.registry.read() as session:
        places = sources_around(session, *centre, reach)
    index, shown = _on_image(pyramid, places.ra_deg, places.dec_deg)
    overlays = {"sources": {**shown, "id": places.ids[index].tolist()}}
    known = catalogues.names(settings.root)
    if settings.sky_catalog in known:
        catalogue = catalogues.load(settings.root, settings.sky_catalog)
        strip = catalogue.between(centre[1] - reach, centre[1] + reach)
        _, listed = _on_image(pyramid, strip.ra_deg, strip.dec_deg, strip.flux_jy)
        overlays[settings.sky_catalog] = listed
    return JSONResponse(
        {
            "width": nx,
            "height": ny,
            "side": SIDE,
            "levels": len(pyramid.levels),
            "ra_deg": centre[0],
            "dec_deg": centre[1],
            "field_deg": nx * float(np.abs(pyramid.wcs.wcs.cdelt[0])),
            "overlays": overlays,
        }
    )


def _on_image(
    pyramid: Pyramid, ra_deg: np.ndarray, dec_deg: np.ndarray, flux_jy: np.ndarray | None = None
) -> tuple[np.ndarray, dict[str, list[float]]]:
    """Those of some positions that are on observed pixels, the brightest if there are many.

    Returns
    -------
    index : ndarray
    places : dict
        Columns of pixels and positions.
    """
    ny, nx = pyramid.shape
    at = pyramid.pixels(ra_deg, dec_deg)
    with np.errstate(invalid="ignore"):
        inside = (at >= 0).all(axis=1) & (at[:, 0] <= nx - 1) & (at[:, 1] <= ny - 1)
    index = np.flatnonzero(inside)
    column, row = np.rint(at[index]).astype(int).T
    index = index[np.isfinite(pyramid.levels[0][row, column])]
    if flux_jy is not None:
        index = index[np.argsort(-flux_jy[index], kind="stable")]
    index = index[:_MOST_OVERLAID]
    return index, {
        "x": at[index, 0].tolist(),
        "y": (ny - 1 - at[index, 1]).tolist(),
        "ra_deg": ra_deg[index].tolist(),
        "dec_deg": dec_deg[index].tolist(),
    }


@router.get("/mosaics/{name}/{level}/{column}/{row}.png")
def square(name: Name, level: int, column: int, row: int, request: Request) -> Response:
    """A square of the picture for the viewer that zooms."""
    found, pyramid = _pyramid(request, name)
    content = pyramid.square(level, column, row, found.record.mosaic.median_rms_jy)
    return Response(content, media_type="image/png", headers=ASK)


@router.get("/mosaics/{name}/value.json")
def value(
    name: Name,
    request: Request,
    x: Annotated[float | None, Query(description="Pixels from the left")] = None,
    y: Annotated[float | None, Query(description="Pixels from the top")] = None,
    ra: Annotated[float | None, Query(ge=0, le=360)] = None,
    dec: Annotated[float | None, Query(ge=-90, le=90)] = None,
) -> JSONResponse:
    """Position, brightness and noise at a pixel or a position."""
    found, pyramid = _pyramid(request, name)
    ny, nx = pyramid.shape
    if ra is not None and dec is not None:
        column, line = (float(v) for v in pyramid.pixels(np.array([ra]), np.array([dec]))[0])
    elif x is not None and y is not None:
        column, line = x, ny - 1 - y
        ra, dec = pyramid.position(column, line)
    else:
        raise HTTPException(422, "give x and y, or ra and dec")
    answer: JsonObject = {
        "ra_deg": _finite(ra),
        "dec_deg": _finite(dec),
        "flux_jy": None,
        "rms_jy": None,
    }
    if np.isfinite([column, line]).all():
        i, j = round(line), round(column)
        if 0 <= i < ny and 0 <= j < nx:
            answer["flux_jy"] = _finite(pyramid.levels[0][i, j])
            rms = _path(found, "rms")
            if rms.exists():
                answer["rms_jy"] = _finite(one_pixel(rms, j, i))
    return JSONResponse(answer)


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _hips_home(request: Request) -> Path:
    return layout.hips(request.app.state.settings.root).resolve()


@router.get("/hips/{path:path}")
def hips(path: str, request: Request) -> Response:
    """Our own HiPS, as viewers of the sky ask for it: also where nothing was observed."""
    home = _hips_home(request)
    survey = _CELL.fullmatch(path)
    # Cells are drawn anew when another mosaic reaches them: browsers ask whether they are the same.
    with contextlib.suppress(ValueError, OSError):
        wanted = (home / path).resolve()
        if wanted.is_relative_to(home) and wanted.is_file():
            return FileResponse(wanted, headers=ASK)
        if survey and (home / survey[1] / "properties").is_file():
            from dsa110_contimg.products.hips import empty_cell

            return Response(empty_cell(), media_type="image/png", headers=ASK)
    raise HTTPException(404, "there is no such cell")


@router.post("/mosaics/{name}", dependencies=[Depends(may_write)])
def change(name: Name, request: Request, given: Form) -> Response:
    """Publish a mosaic that is held, or take a published one back."""
    from dsa110_contimg.operations.verdicts import hold_by_hand, publish_by_hand

    actions = {"publish": publish_by_hand, "hold": hold_by_hand}
    action, reason = needed(given, "action"), needed(given, "reason")
    if action not in actions:
        raise UsageError(f"no action {action!r}")
    state = request.app.state
    actions[action](state.registry, state.settings.root, name, reason, _PERSON)
    return to(f"/mosaics/{name}")

"""Sources: search, what varies, and the page of one with its light curve."""

import re
from typing import Annotated, Any

import erfa
import numpy as np
from fastapi import Depends, Query, Request, Response
from pydantic import BeforeValidator

from dsa110_contimg.api.products import Name
from dsa110_contimg.api.security import may_read
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.errors import UsageError
from dsa110_contimg.registry import light_curves
from dsa110_contimg.registry.sources import find_source, query_sources, source_as_dict
from dsa110_contimg.sky import catalogues
from dsa110_contimg.web import charts
from dsa110_contimg.web.site import none_if_empty, page, page_router

router = page_router(dependencies=[Depends(may_read)])
_RADIUS_DEG = 0.1
_SHOWN, _DRAWN = 100, 600
_CUTOUTS = 12
_NEIGHBOUR_DEG = 5 / 60
_TWO_NUMBERS = re.compile(r"^\s*([+-]?\d+(?:\.\d*)?)[\s,]+([+-]?\d+(?:\.\d*)?)\s*$")


@router.get("/sources")
def sources(
    request: Request,
    q: Annotated[str, Query(max_length=64, description="Part of the name, or a position")] = "",
    radius: Annotated[
        float | None,
        BeforeValidator(none_if_empty),
        Query(gt=0, le=30, description="Of a position, deg"),
    ] = None,
    behaviour: Annotated[str, Query(max_length=16)] = "",
    dips: bool = False,
) -> Response:
    """Search by name or cone; those that vary most first."""
    place = position(q)
    radius = radius or _RADIUS_DEG
    with request.app.state.registry.read() as session:
        rows = query_sources(
            session,
            cone=None if place is None else (*place, radius),
            name=q if place is None else None,
            behaviour=behaviour or None,
            dips=dips,
            limit=_DRAWN,
        )
        found = [source_as_dict(row) for row in rows]
    return page(
        request,
        "sources.html",
        title="Sources",
        sources=found[:_SHOWN],
        chart=charts.eta_v(found),
        q=q,
        radius=radius,
        behaviour=behaviour,
        dips=dips,
        place=place,
        n_found=len(found),
        more=len(found) == _DRAWN,
    )


def position(text: str) -> tuple[float, float] | None:
    """Right ascension and declination (degrees) from text, or None if it is none.

    Raises
    ------
    UsageError
        If it looks like a position and is none.
    """
    degrees = _TWO_NUMBERS.match(text)
    if degrees:
        ra, dec = float(degrees[1]), float(degrees[2])
    elif re.search(r"\d[:h ]\s*\d.*[+-]\s*\d", text) and not text.upper().startswith("DSA"):
        from astropy.coordinates import SkyCoord

        try:
            found = SkyCoord(text, unit=("hourangle", "deg"))
        except ValueError as error:
            raise UsageError(f"{text!r} is no position: {error}") from error
        ra, dec = float(found.ra.deg), float(found.dec.deg)
    else:
        return None
    if not (0 <= ra <= 360 and -90 <= dec <= 90):
        raise UsageError("right ascension is 0 to 360, declination -90 to 90 degrees")
    return ra, dec


@router.get("/sources/{name}")
def source(
    name: Name,
    request: Request,
    epochs: Annotated[str, Query(pattern="^(mosaic|tile)$")] = light_curves.MOSAIC,
) -> Response:
    """Light curve, cut-outs, neighbours of one source."""
    with request.app.state.registry.read() as session:
        row = find_source(session, name)
        curve = light_curves.light_curves(session, [row.id], epochs).get(row.id)
        found = source_as_dict(row)
    rows = curve.as_rows() if curve is not None else []
    return page(
        request,
        "source.html",
        title=found["name"],
        source=found,
        epochs=rows,
        kind=epochs,
        chart=charts.light_curve(rows),
        cutouts=rows[-_CUTOUTS:][::-1] if epochs == light_curves.MOSAIC else [],
    )


@router.get("/sources/{name}/neighbours")
def neighbours(name: Name, request: Request) -> Response:
    """What the catalogues and we have near a source."""
    root = request.app.state.settings.root
    with request.app.state.registry.read() as session:
        row = find_source(session, name)
        near = [
            source_as_dict(other)
            for other in query_sources(
                session, cone=(row.ra_deg, row.dec_deg, _NEIGHBOUR_DEG), limit=20
            )
            if other.id != row.id
        ]
    found: list[dict[str, Any]] = []
    for catalogue_name in catalogues.names(root):
        cone = catalogues.load(root, catalogue_name).cone(row.ra_deg, row.dec_deg, _NEIGHBOUR_DEG)
        found += [
            {
                "catalogue": catalogue_name,
                "ra_deg": float(ra),
                "dec_deg": float(dec),
                "flux_jy": float(flux),
                "mhz": cone.frequency_hz / 1e6,
            }
            for ra, dec, flux in zip(cone.ra_deg, cone.dec_deg, cone.flux_jy, strict=True)
        ]
    for other in (*near, *found):
        there = np.deg2rad((other["ra_deg"], other["dec_deg"]))
        away_rad = erfa.seps(*np.deg2rad((row.ra_deg, row.dec_deg)), *there)
        other["arcsec"] = float(away_rad) / ARCSEC_RAD
    return page(
        request,
        "neighbours.html",
        near=sorted(near, key=_distance),
        listed=sorted(found, key=_distance),
    )


def _distance(row: dict[str, Any]) -> float:
    return float(row["arcsec"])

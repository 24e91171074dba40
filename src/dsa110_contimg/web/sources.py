"""Sources: search, what varies, and the page of one with its light curve."""

import re
from dataclasses import dataclass
from typing import Annotated

import erfa
import numpy as np
from fastapi import Depends, Query, Request, Response
from pydantic import BeforeValidator

from dsa110_contimg.api.products import Name
from dsa110_contimg.api.security import may_read
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.errors import UsageError
from dsa110_contimg.registry import light_curves
from dsa110_contimg.registry.sources import find_source, query_sources
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
        found = query_sources(
            session,
            cone=None if place is None else (*place, radius),
            name=q if place is None else None,
            behaviour=behaviour or None,
            dips=dips,
            limit=_DRAWN,
        )
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
        found, _ = light_curves.source_light_curve(session, name, epochs)
    rows = found.epochs
    return page(
        request,
        "source.html",
        title=found.source.name,
        source=found.source,
        epochs=rows,
        kind=epochs,
        chart=charts.light_curve(rows),
        cutouts=rows[-_CUTOUTS:][::-1] if epochs == light_curves.MOSAIC else [],
    )


@dataclass(frozen=True)
class _Near:
    """A source near another one.

    Attributes
    ----------
    origin : str
        Catalogue; empty for a source of the pipeline's own list.
    name : str
        Empty for one of a catalogue.
    ra_deg, dec_deg : float
    flux_jy : float or None
    mhz : float or None
        Frequency of a catalogue.
    arcsec : float
        Distance.
    """

    origin: str
    name: str
    ra_deg: float
    dec_deg: float
    flux_jy: float | None
    mhz: float | None
    arcsec: float


@router.get("/sources/{name}/neighbours")
def neighbours(name: Name, request: Request) -> Response:
    """What the catalogues and we have near a source."""
    root = request.app.state.settings.root
    with request.app.state.registry.read() as session:
        source = find_source(session, name)
        cone = (source.ra_deg, source.dec_deg, _NEIGHBOUR_DEG)
        others = [one for one in query_sources(session, cone=cone, limit=20) if one != source]

    def arcsec(ra_deg: float, dec_deg: float) -> float:
        here = np.deg2rad((source.ra_deg, source.dec_deg))
        return float(erfa.seps(*here, *np.deg2rad((ra_deg, dec_deg)))) / ARCSEC_RAD

    near = [
        _Near(
            "",
            one.name,
            one.ra_deg,
            one.dec_deg,
            one.mean_jy,
            None,
            arcsec(one.ra_deg, one.dec_deg),
        )
        for one in others
    ]
    listed = []
    for origin in catalogues.names(root):
        inside = catalogues.load(root, origin).cone(*cone)
        listed += [
            _Near(origin, "", ra, dec, flux, inside.frequency_hz / 1e6, arcsec(ra, dec))
            for ra, dec, flux in zip(
                inside.ra_deg.tolist(),
                inside.dec_deg.tolist(),
                inside.flux_jy.tolist(),
                strict=True,
            )
        ]
    return page(
        request,
        "neighbours.html",
        near=sorted(near, key=lambda one: one.arcsec),
        listed=sorted(listed, key=lambda one: one.arcsec),
    )

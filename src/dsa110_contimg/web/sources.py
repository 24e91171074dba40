"""Sources: search, what varies, and the page of one with its light curve."""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

import numpy as np
from fastapi import Depends, Query, Request, Response
from pydantic import BeforeValidator

from dsa110_contimg.api.products import Name
from dsa110_contimg.api.security import may_read
from dsa110_contimg.registry import light_curves
from dsa110_contimg.registry.sources import SourceFilter, find_source, query_sources
from dsa110_contimg.sky import catalogues
from dsa110_contimg.sky.cones import Cone, parse_position
from dsa110_contimg.sources.behaviour import Behaviour
from dsa110_contimg.web import charts
from dsa110_contimg.web.site import none_if_empty, page, page_router

router = page_router(dependencies=[Depends(may_read)])
_RADIUS_DEG = 0.1
_SHOWN, _DRAWN = 100, 600
_CUTOUTS = 12
_SAME_ARCSEC = 1.0
"""The catalogue's entry that a source was made of is no neighbour of it."""
_NEIGHBOUR_DEG, _NEIGHBOURS = 5 / 60, 20


@router.get("/sources")
def sources(
    request: Request,
    q: Annotated[str, Query(max_length=64, description="Part of the name, or a position")] = "",
    radius: Annotated[
        float | None,
        BeforeValidator(none_if_empty),
        Query(gt=0, le=30, description="Of a position, deg"),
    ] = None,
    behaviour: Annotated[Behaviour | None, BeforeValidator(none_if_empty)] = None,
    dips: bool = False,
) -> Response:
    """Search by name or cone; those that vary most first."""
    place = parse_position(q)
    radius = radius or _RADIUS_DEG
    wanted = SourceFilter(
        cone=None if place is None else Cone(*place, radius),
        name=q if place is None else "",
        behaviour=behaviour,
        dips=dips,
    )
    with request.app.state.registry.read() as session:
        found = query_sources(session, wanted, _DRAWN)
    query: dict[str, object] = {
        **({"name": q} if q and place is None else {}),
        **({"ra": place[0], "dec": place[1], "radius": radius} if place else {}),
        **({"behaviour": behaviour} if behaviour else {}),
        **({"dips": "true"} if dips else {}),
    }
    return page(
        request,
        "sources.html",
        title="Sources",
        sources=found.sources[:_SHOWN],
        chart=charts.eta_v(found.sources),
        q=q,
        radius=radius,
        behaviour=behaviour or "",
        behaviours=list(Behaviour),
        dips=dips,
        place=place,
        n_found=found.n_total,
        export=f"&{urlencode(query)}" if query else "",
    )


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
        cone = Cone(source.ra_deg, source.dec_deg, _NEIGHBOUR_DEG)
        near_sources = query_sources(session, SourceFilter(cone=cone), _NEIGHBOURS).sources

    def arcsec(ra_deg: float, dec_deg: float) -> float:
        return float(cone.distance_arcsec(np.array(ra_deg), np.array(dec_deg)))

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
        for one in near_sources
        if one != source
    ]
    listed = []
    for origin in catalogues.names(root):
        inside = catalogues.load(root, origin).cone(cone.ra_deg, cone.dec_deg, cone.radius_deg)
        listed += [
            _Near(origin, "", ra, dec, flux, inside.frequency_hz / 1e6, arcsec(ra, dec))
            for ra, dec, flux in zip(
                inside.ra_deg.tolist(),
                inside.dec_deg.tolist(),
                inside.flux_jy.tolist(),
                strict=True,
            )
            if origin != source.origin or arcsec(ra, dec) > _SAME_ARCSEC
        ]
    return page(
        request,
        "neighbours.html",
        near=sorted(near, key=lambda one: one.arcsec),
        listed=sorted(listed, key=lambda one: one.arcsec),
    )

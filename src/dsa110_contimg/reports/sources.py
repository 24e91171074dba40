"""What a report says of sources against the catalogue."""

from collections.abc import Sequence

import numpy as np

from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.quality import plots
from dsa110_contimg.quality.report import Section, Table
from dsa110_contimg.registry.sources import source_name
from dsa110_contimg.sources.options import CrossmatchOptions
from dsa110_contimg.sources.source_check import STRONG_SIGMA, SourceCheck

_UNLIKE_SIGMA = 4.0
_TOLERANCE = CrossmatchOptions().flux_tolerance
_HEADING = (
    "source",
    "ra (deg)",
    "dec (deg)",
    "catalogue (mJy)",
    "measured (mJy)",
    "measured / catalogue",
    "offset east (arcsec)",
    "offset north (arcsec)",
    "in the flux ratio",
)


def source_sections(
    sources: Sequence[SourceCheck], sky_catalog: str, beam_major_rad: float
) -> list[Section]:
    """Flux densities and positions of strong sources: plots, those that differ, and all.

    Parameters
    ----------
    sources : sequence of SourceCheck
    sky_catalog : str
    beam_major_rad : float
        Of the restoring beam, which positions are as accurate as.
    """
    strong = sorted((s for s in sources if s.is_strong), key=lambda s: -s.catalogue_jy)
    said = (
        f"Isolated sources of {sky_catalog} on observed pixels: {len(sources)}, of which "
        f"{len(strong)} are above {STRONG_SIGMA:g} times the noise."
    )
    if not strong:
        return [Section("Sources", said)]
    unlike = [source for source in strong if _is_unlike(source)]
    said += (
        f" They differ from the catalogue by more than {_UNLIKE_SIGMA:g} times noise and "
        f"{100 * _TOLERANCE:g} % together: {len(unlike)}. Errors are those of the noise."
    )
    drawn = _plots(strong, beam_major_rad)
    sections = [Section("Sources", said, pictures=drawn, side_by_side=True)]
    if unlike:
        title = "Sources that differ from the catalogue"
        sections.append(Section(title, table=Table(_HEADING, [_row(s) for s in unlike])))
    table = Table(_HEADING, [_row(s) for s in strong], is_long=True)
    return [*sections, Section("Strong sources, the brightest first", table=table)]


def _is_unlike(source: SourceCheck) -> bool:
    allowed = np.hypot(source.noise_jy, _TOLERANCE * source.catalogue_jy)
    return bool(abs(source.measured_jy - source.catalogue_jy) > _UNLIKE_SIGMA * allowed)


def _row(source: SourceCheck) -> list[str]:
    ratio, error = (value / source.catalogue_jy for value in (source.measured_jy, source.noise_jy))
    return [
        source_name(source.ra_deg, source.dec_deg),
        f"{source.ra_deg:.5f}",
        f"{source.dec_deg:+.5f}",
        f"{1e3 * source.catalogue_jy:.1f}",
        f"{1e3 * source.measured_jy:.1f} ± {1e3 * source.noise_jy:.1f}",
        f"{ratio:.3f} ± {error:.3f}",
        f"{source.east_arcsec:+.2f}",
        f"{source.north_arcsec:+.2f}",
        "yes" if source.in_ratio else "no: carries the calibration",
    ]


def _plots(strong: Sequence[SourceCheck], beam_major_rad: float) -> list[tuple[str, bytes]]:
    catalogue, measured, noise, east, north = (
        np.array([getattr(source, name) for source in strong])
        for name in ("catalogue_jy", "measured_jy", "noise_jy", "east_arcsec", "north_arcsec")
    )
    unlike = np.array([_is_unlike(source) for source in strong])
    # Half a beam over the signal-to-noise ratio (Condon 1997, PASP 109, 166).
    error_arcsec = 0.5 * beam_major_rad / ARCSEC_RAD * noise / measured
    return [
        (
            f"Flux density of sources above {STRONG_SIGMA:g} sigma over the catalogue's",
            plots.flux_against_catalogue(catalogue, measured, noise, unlike),
        ),
        (
            "Positions minus the catalogue's; the cross is the median",
            plots.position_offsets(east, north, error_arcsec),
        ),
    ]

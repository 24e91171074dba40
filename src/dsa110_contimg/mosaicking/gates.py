"""Which tiles may enter a mosaic, and the reason for each that may not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.mosaicking.options import TileLimits

_SIGNIFICANT = 3.0
_SAME_CELL = 0.2
"""Tiles are resampled: cells follow the flags of a tile, and only another setup differs more."""


@dataclass(frozen=True)
class TileFacts:
    """What the gates look at.

    Attributes
    ----------
    name : str
    rms_jy, peak_jy : float
    beam_major_rad, beam_minor_rad : float
    cell_arcsec, dec_deg : float
    beam_corrected : bool
    n_not_finite : int
        Pixels without a number.
    n_sources : int
        Catalogue sources that flux ratio and offset are made of.
    flux_ratio, flux_ratio_error : float
    offset_arcsec, offset_error_arcsec : float
    stripe_share, ring_share : float
        Of the image's variance.
    """

    name: str
    rms_jy: float
    peak_jy: float
    beam_major_rad: float
    beam_minor_rad: float
    cell_arcsec: float
    dec_deg: float
    beam_corrected: bool = True
    n_not_finite: int = 0
    n_sources: int = 0
    flux_ratio: float = 1.0
    flux_ratio_error: float = 0.0
    offset_arcsec: float = 0.0
    offset_error_arcsec: float = 0.0
    stripe_share: float = 0.0
    ring_share: float = 0.0


def tile_gates(tiles: Sequence[TileFacts], limits: TileLimits | None = None) -> dict[str, str]:
    """Reasons for leaving tiles out.

    Parameters
    ----------
    tiles : sequence of TileFacts
    limits : TileLimits, optional

    Returns
    -------
    dict
        Name of each tile left out, and why.
    """
    limits = limits or TileLimits()
    reasons = {
        tile.name: f"{tile.n_not_finite or 'some'} pixels of its image are not finite numbers"
        for tile in tiles
        if tile.n_not_finite or not (np.isfinite(tile.rms_jy) and tile.rms_jy > 0)
    }
    usual = _Usual([tile for tile in tiles if tile.name not in reasons])
    for tile in tiles:
        if tile.name not in reasons and (reason := _reason(tile, usual, limits)):
            reasons[tile.name] = reason
    return reasons


def strains(
    tiles: Sequence[TileFacts], limits: TileLimits | None = None
) -> dict[str, dict[str, float]]:
    """How far each tile is on its way to each limit: above 1 it would stay out.

    Parameters
    ----------
    tiles : sequence of TileFacts
        Of one strip.
    limits : TileLimits, optional

    Returns
    -------
    dict
        By tile, then by what is limited; only what the tile can be judged by.
    """
    limits = limits or TileLimits()
    measured = [tile for tile in tiles if np.isfinite(tile.rms_jy) and tile.rms_jy > 0]
    usual = _Usual(measured)
    found = {}
    for tile in measured:
        strain = {
            "noise": tile.rms_jy / usual.rms_jy / limits.max_noise_ratio,
            "dynamic range": limits.min_dynamic_range / max(tile.peak_jy / tile.rms_jy, 1e-9),
            "beam": max(
                abs(tile.beam_major_rad / usual.major_rad - 1),
                abs(tile.beam_minor_rad / usual.minor_rad - 1),
            )
            / limits.max_beam_deviation,
            "stripes": tile.stripe_share / limits.max_pattern_share,
            "rings": tile.ring_share / limits.max_pattern_share,
        }
        if tile.n_sources:
            strain |= {
                "flux ratio": abs(tile.flux_ratio - usual.flux_ratio)
                / _allowed_ratio(tile, usual, limits),
                "astrometry": tile.offset_arcsec / _allowed_arcsec(tile, limits),
            }
        found[tile.name] = {name: float(value) for name, value in strain.items()}
    return found


class _Usual:
    """Medians of the tiles."""

    def __init__(self, tiles: Sequence[TileFacts]):
        def median(
            value: Callable[[TileFacts], float], of: Sequence[TileFacts] = tiles, none: float = 1.0
        ) -> float:
            return float(np.median([value(tile) for tile in of])) if of else none

        self.rms_jy = median(lambda tile: tile.rms_jy)
        self.major_rad = median(lambda tile: tile.beam_major_rad)
        self.minor_rad = median(lambda tile: tile.beam_minor_rad)
        self.cell_arcsec = median(lambda tile: tile.cell_arcsec)
        self.dec_deg = median(lambda tile: tile.dec_deg)
        compared = [tile for tile in tiles if tile.n_sources]
        self.flux_ratio = median(lambda tile: tile.flux_ratio, compared)


def _reason(tile: TileFacts, usual: _Usual, limits: TileLimits) -> str:
    """Why a tile stays out; empty if it may come in."""
    if not tile.beam_corrected and not limits.include_uncorrected:
        return "it is not beam-corrected"
    if abs(tile.dec_deg - usual.dec_deg) > limits.max_dec_offset_deg:
        return (
            f"declination {tile.dec_deg:.2f} deg is of another strip than the median of the "
            f"tiles, {usual.dec_deg:.2f} deg"
        )
    if abs(tile.cell_arcsec / usual.cell_arcsec - 1) > _SAME_CELL:
        return (
            f"cell of {tile.cell_arcsec:.2f} arcsec differs from the median of the tiles, "
            f"{usual.cell_arcsec:.2f} arcsec"
        )
    if (
        abs(tile.beam_major_rad / usual.major_rad - 1) > limits.max_beam_deviation
        or abs(tile.beam_minor_rad / usual.minor_rad - 1) > limits.max_beam_deviation
    ):
        return (
            f"its restoring beam differs by more than {100 * limits.max_beam_deviation:.0f} % "
            "from the median"
        )
    if tile.rms_jy > limits.max_noise_ratio * usual.rms_jy:
        return (
            f"rms {1e3 * tile.rms_jy:.2f} mJy is above {limits.max_noise_ratio:g} times the "
            f"median of the tiles, {1e3 * usual.rms_jy:.2f} mJy"
        )
    if tile.peak_jy < limits.min_dynamic_range * tile.rms_jy:
        return (
            f"dynamic range {tile.peak_jy / tile.rms_jy:.1f} is below {limits.min_dynamic_range:g}"
        )
    return _against_catalogue(tile, usual, limits) or _patterns(tile, limits)


def _against_catalogue(tile: TileFacts, usual: _Usual, limits: TileLimits) -> str:
    if not tile.n_sources:
        return ""
    if tile.offset_arcsec > _allowed_arcsec(tile, limits):
        return (
            f"its {tile.n_sources} catalogue sources are {tile.offset_arcsec:.1f} arcsec off, "
            f"more than {_allowed_arcsec(tile, limits):.1f}"
        )
    if abs(tile.flux_ratio - usual.flux_ratio) > _allowed_ratio(tile, usual, limits):
        return (
            f"its flux ratio to the catalogue, {tile.flux_ratio:.3f} from {tile.n_sources} "
            f"sources, differs by more than {100 * limits.max_flux_deviation:.0f} % from the "
            f"median of the tiles, {usual.flux_ratio:.3f}"
        )
    return ""


def _allowed_arcsec(tile: TileFacts, limits: TileLimits) -> float:
    beams_arcsec = limits.max_offset_beams * tile.beam_minor_rad / ARCSEC_RAD
    return max(beams_arcsec, _SIGNIFICANT * tile.offset_error_arcsec)


def _allowed_ratio(tile: TileFacts, usual: _Usual, limits: TileLimits) -> float:
    return max(limits.max_flux_deviation * usual.flux_ratio, _SIGNIFICANT * tile.flux_ratio_error)


def _patterns(tile: TileFacts, limits: TileLimits) -> str:
    for kind, share in (("stripes", tile.stripe_share), ("rings", tile.ring_share)):
        if share > limits.max_pattern_share:
            return f"{kind} make {100 * share:.0f} % of its variance"
    return ""

"""Which tiles may enter a mosaic, and the reason for each that may not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIN_DYNAMIC_RANGE = 5.0
MAX_NOISE_RATIO = 5.0
MAX_BEAM_DEVIATION = 0.2


@dataclass(frozen=True)
class TileFacts:
    """What the gates look at.

    Attributes
    ----------
    name : str
    rms_jy : float
    peak_jy : float
    beam_major_rad, beam_minor_rad : float
    beam_corrected : bool
    finite : bool
        No NaN or infinity in the image.
    """

    name: str
    rms_jy: float
    peak_jy: float
    beam_major_rad: float
    beam_minor_rad: float
    beam_corrected: bool
    finite: bool = True


def tile_gates(tiles: Sequence[TileFacts], include_uncorrected: bool = False) -> dict[str, str]:
    """Reasons for leaving tiles out.

    Parameters
    ----------
    tiles : sequence of TileFacts
    include_uncorrected : bool
        Take tiles without beam correction too.

    Returns
    -------
    dict
        Name of each tile left out, and why.
    """
    reasons: dict[str, str] = {}
    if not tiles:
        return reasons
    usable = [t for t in tiles if t.finite and np.isfinite(t.rms_jy) and t.rms_jy > 0]
    rms = float(np.median([t.rms_jy for t in usable])) if usable else float("nan")
    major = float(np.median([t.beam_major_rad for t in tiles]))
    minor = float(np.median([t.beam_minor_rad for t in tiles]))
    for tile in tiles:
        if tile not in usable:
            reasons[tile.name] = "its image holds values that are not finite"
        elif not tile.beam_corrected and not include_uncorrected:
            reasons[tile.name] = "it is not beam-corrected"
        elif tile.peak_jy < MIN_DYNAMIC_RANGE * tile.rms_jy:
            reasons[tile.name] = (
                f"dynamic range {tile.peak_jy / tile.rms_jy:.1f} is below {MIN_DYNAMIC_RANGE:g}"
            )
        elif tile.rms_jy > MAX_NOISE_RATIO * rms:
            reasons[tile.name] = (
                f"rms {1e3 * tile.rms_jy:.2f} mJy is above {MAX_NOISE_RATIO:g} times the "
                f"median of the tiles, {1e3 * rms:.2f} mJy"
            )
        elif (
            abs(tile.beam_major_rad / major - 1) > MAX_BEAM_DEVIATION
            or abs(tile.beam_minor_rad / minor - 1) > MAX_BEAM_DEVIATION
        ):
            reasons[tile.name] = (
                f"its restoring beam differs by more than {100 * MAX_BEAM_DEVIATION:.0f} % from "
                "the median"
            )
    return reasons

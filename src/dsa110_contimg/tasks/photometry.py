"""Measure the flux densities of given positions on an image."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.mosaicking.combined_tile import CombinedTile
from dsa110_contimg.mosaicking.transits import Transits, transits
from dsa110_contimg.sky import primary_beam
from dsa110_contimg.sources.forced import ForcedFluxes, measure

_TILE_RESPONSE = 0.5


@dataclass(frozen=True)
class Epoch:
    """An image to measure on.

    Attributes
    ----------
    name, kind : str
    path : Path
    rms_path : Path or None
    rms_jy : float
        Where there is no map.
    primary_beam_path : Path or None
        Of an image that is not beam-corrected.
    observed, frequency_hz : float
    duration_s : float
    tiles : tuple of CombinedTile
        Of a mosaic, combined by `method`.
    method : str
    divisor : float
        Flux scale of a tile, to be divided out.
    """

    name: str
    kind: str
    path: Path
    rms_path: Path | None
    rms_jy: float
    primary_beam_path: Path | None
    observed: float
    frequency_hz: float
    duration_s: float
    tiles: tuple[CombinedTile, ...] = ()
    method: str = ""
    divisor: float = 1.0

    def transits(self, ra_deg: np.ndarray, dec_deg: np.ndarray) -> Transits:
        """When places were observed."""
        if self.tiles:
            return transits(self.tiles, self.method, self.frequency_hz, ra_deg, dec_deg)
        first = self.observed - self.duration_s / 2
        return Transits.during(first, first + self.duration_s, ra_deg.size)


def measure_epoch(epoch: Epoch, ra_deg: np.ndarray, dec_deg: np.ndarray) -> ForcedFluxes:
    """Measure positions on an image."""
    image = read_fits(epoch.path)
    if epoch.primary_beam_path is None:
        noise = (
            read_fits(epoch.rms_path).pixels
            if epoch.rms_path is not None and epoch.rms_path.exists()
            else np.full(image.pixels.shape, epoch.rms_jy)
        )
        return measure(image, noise, ra_deg, dec_deg)
    response = read_fits(epoch.primary_beam_path).pixels
    gain = primary_beam.correction(response, _TILE_RESPONSE) / epoch.divisor
    corrected = replace(image, pixels=image.pixels * gain)
    return measure(corrected, epoch.rms_jy * gain, ra_deg, dec_deg)

"""Tiles of a known sky, drawn instead of observed: what stages 5 to 9 start from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from dsa110_contimg.artifacts.tiles import ImagedTile
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.imaging.fits_image import Image, write_fits
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.robust import robust_rms
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sources.options import ComparisonOptions
from dsa110_contimg.tasks.tile_checks import check_tile

CELL = 10 * ARCSEC_RAD
BEAM = RestoringBeam(4.5 * CELL, 4 * CELL, 0.3)
NPIX = 512
RMS = 0.002


@dataclass(frozen=True, eq=False)
class Sky:
    """Compact sources: degrees and Jy."""

    ra_deg: np.ndarray
    dec_deg: np.ndarray
    flux_jy: np.ndarray


def draw(centre_deg: tuple[float, float], sky: Sky, seed: int) -> tuple[Image, np.ndarray]:
    """A tile's apparent image with noise as the beam has it, and its primary beam."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(NPIX, NPIX)), 1.7)
    centre = (float(np.deg2rad(centre_deg[0])), float(np.deg2rad(centre_deg[1])))
    middle = (NPIX / 2, NPIX / 2)
    apparent = Image(RMS / noise.std() * noise, centre, middle, CELL, "SIN", BEAM, "Jy/beam", 1.4e9)
    y, x = np.indices((NPIX, NPIX))
    response = np.exp(-((x - NPIX / 2) ** 2 + (y - NPIX / 2) ** 2) / (0.7 * NPIX) ** 2)
    q = BEAM.quadratic_form(CELL)
    vectors = astrometry.radec_to_vector(np.deg2rad(sky.ra_deg), np.deg2rad(sky.dec_deg))
    near = astrometry.direction_cosines(vectors, *centre)[:, 2] > np.cos(np.deg2rad(2.0))
    columns, rows = apparent.wcs.all_world2pix(sky.ra_deg[near], sky.dec_deg[near], 0)
    for column, row, flux in zip(columns, rows, sky.flux_jy[near], strict=True):
        i, j = round(float(column)), round(float(row))
        box = np.s_[max(j - 15, 0) : max(j + 16, 0), max(i - 15, 0) : max(i + 16, 0)]
        dx, dy = x[box] - column, y[box] - row
        apparent.pixels[box] += (
            flux
            * response[box]
            * np.exp(-(q[0, 0] * dx**2 + 2 * q[0, 1] * dx * dy + q[1, 1] * dy**2))
        )
    return apparent, response


def imaged_tile(
    folder: Path,
    name: str,
    start: float,
    centre_deg: tuple[float, float],
    sky: Sky,
    seed: int,
    root: Path,
    catalogue: str,
    spoil: Callable[[Image], Image] = lambda image: image,
) -> ImagedTile:
    """The same on disk, spoilt if wished, as the imaging stage leaves it."""
    apparent, response = draw(centre_deg, sky, seed)
    apparent = spoil(apparent)
    made = ImagedTile(
        tile_id=name,
        prefix=folder / name,
        calibration_set_id="c",
        start=start,
        duration_s=309.0,
        ra_deg=float(np.rad2deg(apparent.centre_rad[0])) % 360,
        dec_deg=float(np.rad2deg(apparent.centre_rad[1])),
        rms_jy=robust_rms(apparent.pixels),
        peak_jy=float(apparent.pixels.max()),
        beam_major_rad=BEAM.major_rad,
        beam_minor_rad=BEAM.minor_rad,
        beam_angle_rad=BEAM.position_angle_rad,
        cell_arcsec=apparent.cell_rad / ARCSEC_RAD,
        frequency_hz=1.4e9,
        size=NPIX,
        n_iterations=1,
        n_major=1,
        n_samples=1,
        n_subtracted=0,
    )
    write_fits(made.file("image"), apparent)
    write_fits(made.file("pb"), replace(apparent, pixels=response))
    return replace(made, check=check_tile(made, root, ComparisonOptions(sky_catalog=catalogue)))

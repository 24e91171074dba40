"""The `properties` file of a HiPS: every keyword of IVOA HiPS 1.0 (section 4.4.1) that is known."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.coordinates import SkyCoord

from dsa110_contimg import __version__
from dsa110_contimg.constants import SPEED_OF_LIGHT_M_S
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.times import iso

if TYPE_CHECKING:
    from mocpy import MOC

_FORM = "%Y-%m-%dT%H:%MZ"
_CELL_KB = 1700
"""A cell as FITS with its noise and as PNG."""
_SKY_DEG2 = 4 * np.pi * (180 / np.pi) ** 2


@dataclass(frozen=True)
class Described:
    """What a HiPS shows.

    Attributes
    ----------
    name, title : str
    order, coarsest_order : int
    tile_width : int
        Pixels a side.
    n_cells : int
        Of the finest order.
    pixel_rad : float
        Side of a pixel of the finest order.
    cuts_jy : tuple of float
        Brightness of the first and the last colour of the pictures.
    frequency_hz : float
    rms_jy : float
    sha256 : str
    span_mjd : tuple of float or None
        First and last time of observation.
    """

    name: str
    title: str
    order: int
    coarsest_order: int
    tile_width: int
    n_cells: int
    pixel_rad: float
    cuts_jy: tuple[float, float]
    frequency_hz: float
    rms_jy: float
    sha256: str
    span_mjd: tuple[float, float] | None


def properties(shown: Described, moc: "MOC", before: Mapping[str, str]) -> dict[str, object]:
    """Keywords and values.

    Parameters
    ----------
    shown : Described
    moc : MOC
        What was observed.
    before : mapping of str to str
        Properties that these replace; the date of creation stays.
    """
    now = iso(time.time(), _FORM)
    centre = moc.barycenter() if not moc.empty() else SkyCoord(0, 0, unit="deg")
    field_deg = min(360.0, 1.2 * float(np.sqrt(moc.sky_fraction * _SKY_DEG2)))
    low, high = shown.cuts_jy
    lines: dict[str, object] = {
        "creator_did": f"ivo://dsa110-contimg/{shown.name}",
        "obs_collection": "DSA-110 continuum",
        "obs_title": shown.title,
        "obs_description": "Total intensity of the sky over the DSA-110, primary beam corrected",
        "obs_regime": "Radio",
        "client_category": "Image/Radio",
        "dataproduct_type": "image",
        "data_bunit": "Jy/beam",
        "hips_version": "1.4",
        "hips_builder": f"dsa110-contimg/{__version__}",
        "hips_creation_date": before.get("hips_creation_date", now),
        "hips_release_date": now,
        "hips_status": "private master clonableOnce",
        "hips_frame": "equatorial",
        "hips_order": shown.order,
        "hips_order_min": shown.coarsest_order,
        "hips_tile_width": shown.tile_width,
        "hips_tile_format": "png fits",
        "hips_pixel_cut": f"{low:.6g} {high:.6g}",
        "hips_pixel_bitpix": -32,
        "hips_pixel_scale": f"{np.rad2deg(shown.pixel_rad):.6g}",
        "hips_initial_ra": f"{centre.ra.deg:.5f}",
        "hips_initial_dec": f"{centre.dec.deg:.5f}",
        "hips_initial_fov": f"{max(field_deg, 0.1):.4g}",
        # Cells of all orders together are a third more than those of the finest.
        "hips_estsize": round(shown.n_cells * _CELL_KB * 4 / 3),
        "em_min": f"{SPEED_OF_LIGHT_M_S / DSA110.band_top_hz:.9g}",
        "em_max": f"{SPEED_OF_LIGHT_M_S / DSA110.band_bottom_hz:.9g}",
        "moc_sky_fraction": f"{moc.sky_fraction:.6g}",
        "dsa110_frequency_hz": repr(shown.frequency_hz),
        "dsa110_rms_jy": repr(shown.rms_jy),
        "dsa110_sha256": shown.sha256,
    }
    if shown.span_mjd is not None:
        lines["t_min"], lines["t_max"] = (f"{mjd:.6f}" for mjd in shown.span_mjd)
    return lines


def text_of(lines: Mapping[str, object]) -> str:
    """The file's text."""
    return "".join(f"{name:20} = {value}\n" for name, value in lines.items())


def read_properties(folder: Path) -> dict[str, str]:
    """Keywords and values of a finished HiPS; none if it is not finished."""
    try:
        lines = (folder / "properties").read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {
        name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)
    }

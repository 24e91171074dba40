"""Source catalogues: storage and search.

A catalogue is one FITS table under the root's `catalogues/`, sorted by declination with
the columns and units of `Catalogue`, so that any other program reads it too.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsa110_contimg import layout
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.durable import replacing
from dsa110_contimg.errors import UsageError
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.shapes import POINTS, Shapes

if TYPE_CHECKING:
    from astropy.table import Table

DEFAULT_SPECTRAL_INDEX = -0.7
"""Median of extragalactic sources at 1.4 GHz (Condon 1992, ARA&A 30, 575)."""
SHAPE_COLUMNS = ("major_arcsec", "minor_arcsec", "angle_deg")


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Sources with total flux densities at one frequency, sorted by declination.

    Attributes
    ----------
    name : str
    frequency_hz : float
    ra_deg, dec_deg : ndarray, shape (nsource,)
        ICRS.
    flux_jy : ndarray, shape (nsource,)
        Integrated flux density.
    shapes : Shapes
        Without the survey's beam; all are taken for points if it tells no sizes.
    """

    name: str
    frequency_hz: float
    ra_deg: np.ndarray
    dec_deg: np.ndarray
    flux_jy: np.ndarray
    shapes: Shapes = POINTS

    def cone(self, ra_deg: float, dec_deg: float, radius_deg: float) -> "Catalogue":
        """Sources within a radius; the declination strip is found by bisection."""
        first, last = np.searchsorted(self.dec_deg, [dec_deg - radius_deg, dec_deg + radius_deg])
        strip = slice(int(first), int(last))
        centre = astrometry.radec_to_vector(np.deg2rad(ra_deg), np.deg2rad(dec_deg))
        vectors = astrometry.radec_to_vector(
            np.deg2rad(self.ra_deg[strip]), np.deg2rad(self.dec_deg[strip])
        )
        near = first + np.flatnonzero(vectors @ centre >= np.cos(np.deg2rad(radius_deg)))
        return self.subset(near)

    def between(self, first_deg: float, last_deg: float) -> "Catalogue":
        """Sources of a declination strip."""
        first, last = np.searchsorted(self.dec_deg, [first_deg, last_deg])
        return self.subset(np.arange(first, last))

    def brighter_than(self, flux_jy: float) -> "Catalogue":
        """Sources of at least a flux density."""
        return self.subset(np.flatnonzero(self.flux_jy >= flux_jy))

    def subset(self, index: np.ndarray) -> "Catalogue":
        """Sources by their numbers, which must ascend."""
        return Catalogue(
            self.name,
            self.frequency_hz,
            self.ra_deg[index],
            self.dec_deg[index],
            self.flux_jy[index],
            self.shapes.select(index),
        )

    def __len__(self) -> int:
        return self.ra_deg.size


def shapes_of(major_arcsec: np.ndarray, minor_arcsec: np.ndarray, angle_deg: np.ndarray) -> Shapes:
    """Shapes of columns in which points have no size, or zero.

    A source with a major axis alone is a line.
    """
    major = np.where(major_arcsec > 0, major_arcsec, 0.0)
    minor = np.clip(np.where(minor_arcsec > 0, minor_arcsec, 0.0), 0.0, major)
    if not major.any():
        return POINTS
    angle = np.where(np.isfinite(angle_deg), angle_deg, 0.0)
    return Shapes(major * ARCSEC_RAD, minor * ARCSEC_RAD, np.deg2rad(angle % 180))


def catalogue_path(root: Path, name: str) -> Path:
    """Where a catalogue of a name lies."""
    return layout.catalogues(root) / f"{name}.fits"


def save(root: Path, catalogue: Catalogue) -> Path:
    """Store a catalogue under the root, replacing one of the same name at once."""
    path = catalogue_path(root, catalogue.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        table_of(catalogue).write(part, format="fits")
    return path


def table_of(catalogue: Catalogue) -> "Table":
    """The astropy table of a catalogue, with units."""
    from astropy.table import Table

    table = Table(
        [catalogue.ra_deg, catalogue.dec_deg, catalogue.flux_jy],
        names=("ra_deg", "dec_deg", "flux_jy"),
        units=("deg", "deg", "Jy"),
        meta={"NAME": catalogue.name, "FREQ": catalogue.frequency_hz},
    )
    shapes = catalogue.shapes
    if shapes.major_rad.size > 0:
        sizes = (
            shapes.major_rad / ARCSEC_RAD,
            shapes.minor_rad / ARCSEC_RAD,
            np.rad2deg(shapes.angle_rad),
        )
        for column, values, unit in zip(
            SHAPE_COLUMNS, sizes, ("arcsec", "arcsec", "deg"), strict=True
        ):
            table[column] = values
            table[column].unit = unit
    return table


def load(root: Path, name: str) -> Catalogue:
    """Load a stored catalogue.

    Raises
    ------
    UsageError
        If there is none of that name; says how to get one.
    """
    path = catalogue_path(root, name)
    if not path.exists():
        have = ", ".join(names(root)) or "none"
        raise UsageError(
            f"no catalogue {name!r} under {path.parent} (there: {have}); get it with "
            f"'dsa110-contimg catalog fetch {name}' or 'dsa110-contimg catalog import FILE "
            f"--name {name}'"
        )
    from astropy.io import fits

    with fits.open(path) as hdus:
        header, table = hdus[1].header, hdus[1].data
        ra, dec, flux = (np.array(table[c], float) for c in ("ra_deg", "dec_deg", "flux_jy"))
        shapes = POINTS
        if SHAPE_COLUMNS[0] in table.columns.names:
            shapes = shapes_of(*(np.array(table[c], float) for c in SHAPE_COLUMNS))
        return Catalogue(name, float(header["FREQ"]), ra, dec, flux, shapes)


def names(root: Path) -> list[str]:
    """Names of the stored catalogues."""
    return sorted(path.stem for path in layout.catalogues(root).glob("*.fits"))

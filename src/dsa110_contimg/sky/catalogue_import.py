"""Make a catalogue of a file of another program: units, frames, blanks, flags and duplicates."""

import contextlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsa110_contimg.constants import HIGHEST_HZ, LOWEST_HZ
from dsa110_contimg.errors import BadInputError, UsageError
from dsa110_contimg.sky import table_files
from dsa110_contimg.sky.catalogue_columns import (
    ColumnMap,
    as_stated,
    columns_in,
    flux_unit,
    given_columns,
    no_columns,
    numbers,
    unit_of,
)
from dsa110_contimg.sky.catalogue_positions import TWICE_ARCSEC, distinct, positions
from dsa110_contimg.sky.catalogues import Catalogue, shapes_of
from dsa110_contimg.sky.options import ImportOptions
from dsa110_contimg.sky.shapes import POINTS, Shapes
from dsa110_contimg.sky.table_files import TableFile

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
_DEFAULT_HZ = 1.4e9


@dataclass(frozen=True)
class ImportedCatalogue:
    """A catalogue made of a file.

    Attributes
    ----------
    catalogue : Catalogue
    notes : tuple of str
        What was assumed, and which rows were left out.
    """

    catalogue: Catalogue
    notes: tuple[str, ...]


def read_file(path: Path, name: str, options: ImportOptions | None = None) -> ImportedCatalogue:
    """Read a catalogue from FITS, VOTable, ECSV, Parquet or text.

    Parameters
    ----------
    path : Path
    name : str
        Name of the catalogue from now on.
    options : ImportOptions, optional
        Which columns to use, and what the file does not state or states wrongly. Without columns
        the file must be of a known format, or have columns ra_deg, dec_deg and flux_jy.

    Raises
    ------
    BadInputError, UsageError
    """
    if not _NAME.match(name):
        raise UsageError(f"catalogue name {name!r}: use letters, digits, '_', '.', '-' only")
    options = options or ImportOptions()
    given = given_columns(options)

    def serves(names: Collection[str]) -> bool:
        return columns_in(names, given) is not None

    file = table_files.read(path, serves)
    columns = columns_in(file.table.colnames, given)
    if columns is None:
        raise BadInputError(f"{path}: {no_columns(file.table.colnames, given)}")
    columns = as_stated(columns, options)
    notes: list[str] = []
    good = _not_flagged(file, notes)
    ra_deg, dec_deg, north_deg = positions(path, file, columns)
    flux_jy = _flux_jy(path, file, columns)
    frequency_hz = _frequency_hz(path, file, columns, notes)
    there = np.isfinite(ra_deg) & np.isfinite(dec_deg)
    _count(notes, good & ~there, "have no position")
    good &= there
    with np.errstate(invalid="ignore"):
        positive = np.isfinite(flux_jy) & (flux_jy > 0)
    _count(notes, good & ~positive, "have no positive flux density")
    good &= positive
    if not good.any():
        raise BadInputError(
            f"{path}: no row has a position and a positive flux density"
            + (f" ({'; '.join(notes)})" if notes else "")
        )
    index = np.flatnonzero(good)
    index = index[_first_of_each(ra_deg[index], dec_deg[index], notes)]
    order = index[np.argsort(dec_deg[index], kind="stable")]
    shapes = _shapes(path, file, columns, north_deg).select(order)
    catalogue = Catalogue(
        name, frequency_hz, ra_deg[order] % 360, dec_deg[order], flux_jy[order], shapes
    )
    return ImportedCatalogue(catalogue, tuple(notes))


def read_columns(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Columns of numbers of a table; rows where one of them is missing are left out.

    Raises
    ------
    BadInputError
        If it cannot be read, or a column is missing.
    """
    table = table_files.read(path, lambda there: set(names) <= set(there)).table
    missing = [name for name in names if name not in table.colnames]
    if missing:
        raise BadInputError(
            f"{path}: no column {', '.join(missing)}; it has {', '.join(table.colnames[:12])}"
        )
    columns = np.array([numbers(path, table, name) for name in names])
    return list(columns[:, np.isfinite(columns).all(axis=0)])


def flag_limit(column: str) -> int | None:
    """Highest value of a flag column of a good row; None if the column is none of flags."""
    return {"duplicateflag": 1, "dupflag": 1, "qualityflag": 0, "qualflag": 0}.get(
        column.lower().replace("_", "")
    )


def _flux_jy(path: Path, file: TableFile, columns: ColumnMap) -> np.ndarray:
    values = numbers(path, file.table, columns.flux)
    factor, peak = columns.flux_to_jy, columns.flux_per_beam
    if factor is None:
        unit = unit_of(path, file.table, columns.flux)
        if unit is None and columns.flux == "flux_jy":
            return values
        if unit is None:
            raise UsageError(
                f"{path}: does not state the unit of {columns.flux}; state it with --flux-unit"
            )
        try:
            factor, peak = flux_unit(unit)
        except ValueError as error:
            raise BadInputError(
                f"{path}: column {columns.flux}: {error}; give a column of integrated flux density"
            ) from error
    else:
        # The user states the scale; whether they are peaks the file may know.
        with contextlib.suppress(ValueError):
            unit = table_files.unit_of(file.table[columns.flux])
            peak = peak or (unit is not None and flux_unit(unit)[1])
    if peak and not columns.peak:
        raise UsageError(
            f"{path}: {columns.flux} is per beam, a peak; give a column of integrated flux "
            "density, or --peak to take it for compact sources"
        )
    return values * factor


def _frequency_hz(path: Path, file: TableFile, columns: ColumnMap, notes: list[str]) -> float:
    if columns.frequency_hz is not None:
        return columns.frequency_hz
    for key in ("FREQ", "REF_FREQ", "RESTFRQ"):
        if key in file.table.meta:
            try:
                found = float(file.table.meta[key])
            except (TypeError, ValueError):
                found = 0.0
            if LOWEST_HZ <= found <= HIGHEST_HZ:
                return found
            raise BadInputError(
                f"{path}: its {key} is {file.table.meta[key]!r}, no frequency in Hz; state one "
                "with --frequency"
            )
    notes.append(f"taken to be at {_DEFAULT_HZ / 1e6:g} MHz; --frequency states another")
    return _DEFAULT_HZ


def _not_flagged(file: TableFile, notes: list[str]) -> np.ndarray:
    """Rows that VLASS' own flags recommend (Gordon et al. 2021, ApJS 255, 30)."""
    good = np.ones(len(file.table), bool)
    for name in file.table.colnames:
        limit = flag_limit(name)
        if limit is not None and file.table[name].dtype.kind in "iuf":
            flagged = table_files.numbers(file.table[name]) > limit
            _count(notes, good & flagged, f"are flagged by {name}")
            good &= ~flagged
    return good


def _first_of_each(ra_deg: np.ndarray, dec_deg: np.ndarray, notes: list[str]) -> np.ndarray:
    kept = distinct(ra_deg, dec_deg)
    repeated = np.ones(ra_deg.size, bool)
    repeated[kept] = False
    _count(notes, repeated, f"repeat a source within {TWICE_ARCSEC:g} arcsec")
    return kept


def _count(notes: list[str], rows: np.ndarray, what: str) -> None:
    count = int(np.count_nonzero(rows))
    if count == 1:
        what = (
            what.replace("have ", "has ", 1)
            .replace("are ", "is ", 1)
            .replace("repeat", "repeats", 1)
        )
    if count:
        notes.append(f"{count} row{'s' * (count > 1)} left out that {what}")


def _shapes(path: Path, file: TableFile, columns: ColumnMap, north_deg: np.ndarray) -> Shapes:
    """Read the columns of sizes, in arcsec where they have no unit, and of angles from a north."""
    from astropy import units

    if not columns.shape:
        return POINTS
    found = []
    for name, default in zip(columns.shape, (units.arcsec, units.arcsec, units.deg), strict=True):
        values = numbers(path, file.table, name)
        unit = unit_of(path, file.table, name)
        if unit is not None:
            try:
                values = np.asarray((values * unit).to_value(default))
            except units.UnitConversionError as error:
                raise BadInputError(
                    f"{path}: column {name} is in {unit}, which is no angle"
                ) from error
        found.append(values)
    major_arcsec, minor_arcsec, angle_deg = found
    return shapes_of(major_arcsec, minor_arcsec, angle_deg + north_deg)

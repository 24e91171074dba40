"""Which columns of a table make a catalogue, and what they hold."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsa110_contimg.errors import BadInputError, UsageError
from dsa110_contimg.sky import table_files
from dsa110_contimg.sky.catalogues import SHAPE_COLUMNS
from dsa110_contimg.sky.options import ImportOptions

if TYPE_CHECKING:
    from astropy import units
    from astropy.table import Table


@dataclass(frozen=True)
class ColumnMap:
    """How a file's columns become a catalogue.

    Attributes
    ----------
    ra, dec, flux : str
        Names of the columns.
    flux_to_jy : float or None
        Factor from the column's number to integrated Jy; None for what the file states.
    frequency_hz : float or None
        None for what the file states.
    peak : bool
        Take a column of peaks for the flux densities of compact sources.
    flux_per_beam : bool
        The stated unit is one per beam.
    major, minor, angle : str or None
        Columns of the full widths at half maximum without the survey's beam, and of the position
        angle; None if there are none.
    position_unit : str or None
        Unit of the positions, hours for right ascensions in hours and declinations in degrees;
        None for what the file states, degrees where it states none.
    frame : str or None
        Frame of the positions; None for what the file states, ICRS where it states none.
    """

    ra: str
    dec: str
    flux: str
    flux_to_jy: float | None = None
    frequency_hz: float | None = None
    peak: bool = False
    flux_per_beam: bool = False
    major: str | None = None
    minor: str | None = None
    angle: str | None = None
    position_unit: str | None = None
    frame: str | None = None

    @property
    def shape(self) -> tuple[str, ...]:
        """Columns of the sizes; none, or all three."""
        columns = (self.major, self.minor, self.angle)
        return tuple(column for column in columns if column is not None)

    @property
    def all(self) -> tuple[str, ...]:
        """Every column that is read."""
        return (self.ra, self.dec, self.flux, *self.shape)


KNOWN_FORMATS: Mapping[str, ColumnMap] = {
    # The raw NVSS component list stores the fitted peak before the bias and CLEAN
    # corrections; the published flux density is lower by 1.028 (Condon et al. 1998).
    "NVSS component list": ColumnMap("RA(2000)", "DEC(2000)", "PEAK INT", 1 / 1.028, 1.4e9, True)
}


def given_columns(options: ImportOptions) -> ColumnMap | None:
    """Columns that the user named; None if the file is to say."""
    place = (options.ra, options.dec, options.flux)
    sizes = (options.major, options.minor, options.angle)
    if any(sizes) and not all((*sizes, *place)):
        raise UsageError("give --major, --minor and --angle together, with --ra, --dec and --flux")
    if options.ra and options.dec and options.flux:
        return ColumnMap(options.ra, options.dec, options.flux, None, None, False, False, *sizes)
    if any(place):
        raise UsageError("give all of --ra, --dec and --flux, or none")
    return None


def as_stated(columns: ColumnMap, options: ImportOptions) -> ColumnMap:
    """The columns with what the user states in place of what is known of them."""
    stated: dict[str, object] = {}
    if options.flux_unit is not None:
        stated["flux_to_jy"] = jansky_per(options.flux_unit)
        stated["flux_per_beam"] = "beam" in options.flux_unit.lower()
    if options.frequency is not None:
        stated["frequency_hz"] = options.frequency * 1e6
    if options.peak:
        stated["peak"] = True
    if options.position_unit is not None:
        stated["position_unit"] = options.position_unit
    if options.frame is not None:
        stated["frame"] = options.frame
    return replace(columns, **stated)  # type: ignore[arg-type]


def columns_in(names: Collection[str], given: ColumnMap | None) -> ColumnMap | None:
    """The columns to read of a table with these; None if it lacks some."""
    if given is not None:
        return given if set(given.all) <= set(names) else None
    sizes = SHAPE_COLUMNS if set(SHAPE_COLUMNS) <= set(names) else (None, None, None)
    own = ColumnMap("ra_deg", "dec_deg", "flux_jy", None, None, False, False, *sizes)
    for columns in (*KNOWN_FORMATS.values(), own):
        if {columns.ra, columns.dec, columns.flux} <= set(names):
            return columns
    return None


def no_columns(names: Sequence[str], given: ColumnMap | None) -> str:
    """Say why no catalogue can be made of a table with these columns."""
    there = ", ".join(names[:12]) + (" ..." if len(names) > 12 else "")
    if given is None:
        return (
            f"columns {there} are of no known catalogue; say which to use with --ra, --dec and "
            "--flux"
        )
    missing = [column for column in given.all if column not in names]
    return f"has no column {', '.join(missing)}; it has {there}"


def numbers(path: Path, table: "Table", name: str) -> np.ndarray:
    """Read a column as numbers, NaN where it is blank.

    Raises
    ------
    BadInputError
    """
    try:
        return table_files.numbers(table[name])
    except (TypeError, ValueError) as error:
        raise BadInputError(f"{path}: column {name} holds no numbers ({error})") from error


def unit_of(path: Path, table: "Table", name: str) -> "units.UnitBase | None":
    """Unit of a column; None if it states none.

    Raises
    ------
    BadInputError
    """
    try:
        return table_files.unit_of(table[name])
    except ValueError as error:
        raise BadInputError(
            f"{path}: column {name}: {error}; state it with an option of 'catalog import'"
        ) from error


def jansky_per(unit: str) -> float:
    """Jansky in a unit of flux density, per beam or not.

    Raises
    ------
    UsageError
    """
    try:
        return flux_unit(table_files.parse_unit(unit))[0]
    except ValueError as error:
        raise UsageError(f"unit {unit!r}: give Jy, mJy or uJy") from error


def flux_unit(unit: "units.UnitBase") -> tuple[float, bool]:
    """Jansky in a unit, and whether it is a unit per beam.

    Raises
    ------
    ValueError
    """
    from astropy import units

    per_beam = unit * units.beam
    for bare, peak in ((unit, False), (per_beam, True)):
        try:
            return float(bare.to(units.Jy)), peak
        except units.UnitConversionError:
            continue
    raise ValueError(f"unit {unit} is none of flux density")

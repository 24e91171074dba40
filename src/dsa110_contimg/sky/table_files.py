"""Read tables of other programs: FITS, VOTable, ECSV, Parquet and text, with units and frames."""

import csv
import io
import re
import warnings
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from xml.parsers.expat import ExpatError

import numpy as np

from dsa110_contimg.errors import BadInputError, UsageError, unreadable

if TYPE_CHECKING:
    from astropy.io.votable.tree import CooSys, Resource, VOTableFile
    from astropy.table import Column, Table
    from astropy.units import UnitBase

_BLANKS = ("", "-", "--", "---", "null", "NULL", "None", "N/A", "n/a", "nan", "NaN", "NAN")
"""Cells of text files that hold no value."""
_DAMAGED = (ValueError, LookupError, SyntaxError, EOFError, zlib.error, ExpatError)
"""What the readers of the formats raise for damaged files."""
_DELIMITERS = ",\t;|"
_RULE = re.compile(r"^[-\s,;|\t]*-[-\s,;|\t]*$")
"""The line of dashes below the header of VizieR's text tables."""


@dataclass(frozen=True, eq=False)
class TableFile:
    """A table, and what its file says about coordinates.

    Attributes
    ----------
    table : Table
    frame : str or None
        Celestial frame of the whole file, as the file writes it; None where it states none.
    equinox : str or None
        Such as B1950 or 2000.0.
    column_frames : mapping of str to (str, str or None)
        Frame and equinox of single columns (COOSYS elements of a VOTable).
    """

    table: "Table"
    frame: str | None = None
    equinox: str | None = None
    column_frames: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)

    def frame_of(self, column: str) -> tuple[str | None, str | None]:
        """Frame and equinox of a column."""
        return self.column_frames.get(column, (self.frame, self.equinox))


def read(path: Path, wanted: Callable[[Collection[str]], bool]) -> TableFile:
    """Read a table.

    Parameters
    ----------
    path : Path
        Its suffix names the format; `.gz` may follow.
    wanted : function
        True for the column names of the table to read, for files that hold several.

    Raises
    ------
    BadInputError
        If the file is absent or damaged, or several of its tables serve.
    UsageError
        If the suffix is none of a table.
    """
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    kind = _READERS.get(suffixes[-1] if suffixes else "")
    if kind is None:
        known = ", ".join(sorted(_READERS))
        raise UsageError(f"{path}: is no table by its name; give a file of {known} (.gz allowed)")
    if not path.is_file():
        raise BadInputError(f"{path}: there is no such file")
    with warnings.catch_warnings():
        # Units that are none by the standards, and dates, warn; `quantity` judges the units used.
        warnings.simplefilter("ignore")
        try:
            found = kind(path)
        except (BadInputError, UsageError):
            raise
        except OSError as error:
            raise unreadable(path, f"cannot be read as a table ({error})", error) from error
        except _DAMAGED as error:
            raise BadInputError(f"{path}: cannot be read as a table ({error})") from error
    if not found:
        raise BadInputError(f"{path}: holds no table")
    serving = [one for one in found if wanted(one.table.colnames)]
    if len(serving) > 1:
        raise BadInputError(
            f"{path}: holds {len(serving)} tables with these columns; write the one that you "
            "mean to a file of its own"
        )
    return serving[0] if serving else found[0]


def numbers(column: "Column") -> np.ndarray:
    """Values of a table column as floats; NaN where masked.

    Raises
    ------
    ValueError, TypeError
        If it holds something else.
    """
    values = column.astype(float)
    return np.asarray(values.filled(np.nan) if hasattr(values, "filled") else values)


def texts(column: "Column") -> np.ndarray:
    """Values of a table column as text without spaces around it; empty where masked."""
    values = column.astype(str)
    return np.char.strip(values.filled("") if hasattr(values, "filled") else np.asarray(values))


def unit_of(column: "Column") -> "UnitBase | None":
    """The astropy unit of a column, however it is written; None if it has none.

    Raises
    ------
    ValueError
        If it is the unit of no standard.
    """
    from astropy import units

    written = column.unit
    if written is None or str(written).strip() in ("", "-", "none"):
        return None
    try:
        # Readers make units of their own of what they do not know.
        units.Unit(str(written))
    except ValueError:
        return parse_unit(str(written))
    return written


def parse_unit(text: str) -> "UnitBase":
    """An astropy unit from text of any of the usual standards.

    Raises
    ------
    ValueError
        If it is the unit of none, or two units are meant by it.
    """
    from astropy import units

    text = text.strip().strip("[]")
    known = _UNIT_NAMES.get(text.lower())
    if known is not None:
        return units.Unit(known)
    if re.fullmatch(r"M(JY)( */ *BEAM| *BEAM-1)?", text):
        raise ValueError(f"unit {text!r} may be mJy or MJy")
    # AIPS writes units in capitals.
    text = re.sub(r"^JY\b", "Jy", text)
    text = re.sub(r"BEAM", "beam", text)
    # "beam-1 Jy" and "Jy beam-1" are one unit; astropy knows both.
    for form in (None, "fits", "vounit", "cds", "ogip"):
        try:
            return units.Unit(text, format=form)
        except (ValueError, TypeError):
            continue
    raise ValueError(f"unit {text!r} is not known")


_UNIT_NAMES = {
    "degree": "deg",
    "degrees": "deg",
    "degs": "deg",
    "radians": "rad",
    "radian": "rad",
    "hour": "hour",
    "hours": "hour",
    "hr": "hour",
    "hrs": "hour",
    "hourangle": "hourangle",
    "asec": "arcsec",
    "arcseconds": "arcsec",
    "arcsecond": "arcsec",
    "arcminutes": "arcmin",
    '"h:m:s"': "hourangle",
    "h:m:s": "hourangle",
    '"d:m:s"': "deg",
    "d:m:s": "deg",
    "hms": "hourangle",
    "dms": "deg",
    "jansky": "Jy",
    "janskys": "Jy",
    "millijansky": "mJy",
    "microjansky": "uJy",
}


def _fits(path: Path) -> list[TableFile]:
    from astropy.io import fits
    from astropy.table import Table

    with fits.open(path) as hdus:
        every = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
        # A compressed image is a table on the outside only.
        every = [hdu for hdu in every if "ZIMAGE" not in hdu.header]
        try:
            return [
                TableFile(
                    Table.read(hdu, character_as_bytes=False),
                    _text(hdu.header.get("RADESYS") or hdu.header.get("RADECSYS")),
                    _text(hdu.header.get("EQUINOX")),
                )
                for hdu in every
            ]
        except TypeError as error:
            raise BadInputError(f"{path}: is cut off ({error})") from error


def _text(value: object) -> str | None:
    return None if value in (None, "") else str(value).strip()


def _votable(path: Path) -> list[TableFile]:
    from astropy.io import votable

    document = votable.parse(str(path), verify="ignore")
    systems = {one.ID: one for one in _systems(document)}
    found = []
    for table in document.iter_tables():
        frames = {
            one.name: (str(systems[one.ref].system), _text(systems[one.ref].equinox))
            for one in table.fields
            if one.ref in systems
        }
        only = next(iter(systems.values())) if len(systems) == 1 else None
        found.append(
            TableFile(
                table.to_table(use_names_over_ids=True),
                None if only is None else str(only.system),
                None if only is None else _text(only.equinox),
                frames,
            )
        )
    return found


def _systems(element: "VOTableFile | Resource") -> "list[CooSys]":
    """All COOSYS elements, of the document and its resources."""
    systems = list(element.coordinate_systems)
    for resource in element.resources:
        systems += _systems(resource)
    return systems


def _ecsv(path: Path) -> list[TableFile]:
    from astropy.table import Table

    return [TableFile(Table.read(path, format="ascii.ecsv"))]


def _parquet(path: Path) -> list[TableFile]:
    import pyarrow.parquet as pq
    from astropy.table import MaskedColumn, Table

    rows = pq.read_table(path)
    table = Table()
    for name in rows.column_names:
        values = rows.column(name)
        mask = np.array(values.is_null().to_numpy())
        data = np.array(values.to_pylist() if mask.any() else values.to_numpy())
        if mask.any():
            blank = "" if any(isinstance(v, str) for v in data) else np.nan
            data = np.array([blank if v is None else v for v in data])
        unit = (rows.schema.field(name).metadata or {}).get(b"unit")
        table[name] = MaskedColumn(data, mask=mask, unit=unit.decode() if unit else None)
    return [TableFile(table)]


def _characters(path: Path) -> str:
    """Text of a file: UTF-8 with or without a mark of byte order, UTF-16 with one, else Latin-1."""
    import gzip

    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _delimited(path: Path) -> list[TableFile]:
    """A text table: comments, a header, in VizieR's form its units and a rule, and rows."""
    from astropy.io import ascii as text_tables

    content = _characters(path)
    if content.startswith("# %ECSV"):
        return _ecsv(path)
    lines = [line for line in content.splitlines() if line.strip()]
    comments = [line for line in lines if line.lstrip().startswith("#")]
    rows = [line for line in lines if not line.lstrip().startswith("#")]
    if not rows:
        raise BadInputError(f"{path}: holds no rows")
    if comments and _all_numbers(rows[0]):
        # The header is the last comment, as TOPCAT and NumPy write it.
        rows.insert(0, comments[-1].lstrip().lstrip("#").strip())
    delimiter = max(_DELIMITERS, key=rows[0].count)
    if rows[0].count(delimiter) == 0:
        delimiter = " "
    rows, units = _without_rule(rows, delimiter)
    header = _cells(rows[0], delimiter)
    if len(set(header)) < len(header):
        twice = sorted({name for name in header if header.count(name) > 1})
        raise BadInputError(f"{path}: has several columns {', '.join(twice)}")
    table = text_tables.read(
        [delimiter.join(header), *rows[1:]],
        # Of tabs, an empty first cell is one too.
        format={" ": "basic", "\t": "tab"}.get(delimiter, "csv"),
        delimiter=delimiter,
        guess=False,
        fast_reader=delimiter != " ",
        fill_values=[(blank, "0") for blank in _BLANKS],
    )
    for name, unit in zip(table.colnames, units, strict=False):
        if unit:
            table[name].unit = unit
    frame = next((m for line in comments if (m := _COOSYS.search(line))), None)
    return [TableFile(table, frame["frame"], frame["equinox"]) if frame else TableFile(table)]


_COOSYS = re.compile(
    r"COOSYS\b.*?(?P<frame>eq_FK4|eq_FK5|ICRS|galactic)\b(?:[^BJ]*(?P<equinox>[BJ]\d{4}))?"
)
"""How VizieR's text tables state their frame, in a comment."""


def _without_rule(rows: Sequence[str], delimiter: str) -> tuple[list[str], list[str]]:
    """Rows without units and rule below the header, and the units."""
    rule = next((i for i in (1, 2) if i < len(rows) and _RULE.match(rows[i])), None)
    if rule is None:
        return list(rows), []
    units = _cells(rows[1], delimiter) if rule == 2 else []
    return [rows[0], *rows[rule + 1 :]], units


def _cells(line: str, delimiter: str) -> list[str]:
    if delimiter == " ":
        return line.split()
    return [cell.strip() for cell in next(csv.reader(io.StringIO(line), delimiter=delimiter))]


def _all_numbers(line: str) -> bool:
    cells = [cell for cell in re.split(r"[,;|\s]+", line.strip()) if cell]
    try:
        return bool(cells) and all(np.isscalar(float(cell)) for cell in cells)
    except ValueError:
        return False


_READERS: Mapping[str, Callable[[Path], list[TableFile]]] = {
    ".fits": _fits,
    ".fit": _fits,
    ".vot": _votable,
    ".votable": _votable,
    ".xml": _votable,
    ".ecsv": _ecsv,
    ".parquet": _parquet,
    ".csv": _delimited,
    ".tsv": _delimited,
    ".txt": _delimited,
    ".dat": _delimited,
}

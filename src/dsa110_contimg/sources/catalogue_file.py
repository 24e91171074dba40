"""A mosaic's catalogue as FITS, VOTable and Parquet, with units and UCDs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dsa110_contimg.sources.finding import SourceList
from dsa110_contimg.sources.forced import ForcedFluxes

SOURCES, CATALOGUE = "SOURCES", "CATALOGUE"
KINDS = ("catalogue", "votable", "parquet")
"""Of products: the FITS file and what lies beside it."""

_COLUMNS: Mapping[str, tuple[str | None, str, str]] = {
    "ra_deg": ("deg", "pos.eq.ra;meta.main", "right ascension (ICRS)"),
    "dec_deg": ("deg", "pos.eq.dec;meta.main", "declination (ICRS)"),
    "ra_error_arcsec": ("arcsec", "stat.error;pos.eq.ra", "error of right ascension"),
    "dec_error_arcsec": ("arcsec", "stat.error;pos.eq.dec", "error of declination"),
    "peak_jy": ("Jy/beam", "phot.flux.density;em.radio;stat.max", "peak brightness"),
    "peak_error_jy": ("Jy/beam", "stat.error;phot.flux.density", "error of the peak"),
    "flux_jy": ("Jy", "phot.flux.density;em.radio", "integrated flux density"),
    "flux_error_jy": ("Jy", "stat.error;phot.flux.density", "error of the flux density"),
    "matched": (None, "meta.code", "a catalogue source lies within the radius"),
    "n_within": (None, "meta.number", "catalogue sources within the radius"),
    "catalogue_ra_deg": ("deg", "pos.eq.ra", "of the nearest catalogue source"),
    "catalogue_dec_deg": ("deg", "pos.eq.dec", "of the nearest catalogue source"),
    "catalogue_flux_jy": (
        "Jy",
        "phot.flux.density;em.radio",
        "catalogue flux density at the mosaic's frequency",
    ),
    "separation_arcsec": ("arcsec", "pos.angDistance", "from the nearest catalogue source"),
    "forced_flux_jy": ("Jy", "phot.flux.density;em.radio", "measured at the catalogue position"),
    "forced_error_jy": ("Jy", "stat.error;phot.flux.density", "error of it, from the noise"),
    "found": (None, "meta.code", "among the sources that were found"),
    "missing": (None, "meta.code", "bright enough to be found, and not"),
    "discrepant": (None, "meta.code", "of another flux density than the catalogue's"),
}


def sources_table(
    found: SourceList,
    matched: np.ndarray,
    n_within: np.ndarray,
    catalogue_ra_deg: np.ndarray,
    catalogue_dec_deg: np.ndarray,
    catalogue_flux_jy: np.ndarray,
    separation_arcsec: np.ndarray,
) -> object:
    """Table of found sources with their nearest catalogue source."""
    return _table(
        ra_deg=found.ra_deg,
        dec_deg=found.dec_deg,
        ra_error_arcsec=found.ra_error_arcsec,
        dec_error_arcsec=found.dec_error_arcsec,
        peak_jy=found.peak_jy,
        peak_error_jy=found.peak_error_jy,
        flux_jy=found.flux_jy,
        flux_error_jy=found.flux_error_jy,
        matched=matched,
        n_within=n_within,
        catalogue_ra_deg=catalogue_ra_deg,
        catalogue_dec_deg=catalogue_dec_deg,
        catalogue_flux_jy=catalogue_flux_jy,
        separation_arcsec=separation_arcsec,
    )


def catalogue_table(
    ra_deg: np.ndarray,
    dec_deg: np.ndarray,
    flux_jy: np.ndarray,
    forced: ForcedFluxes,
    found: np.ndarray,
    missing: np.ndarray,
    discrepant: np.ndarray,
) -> object:
    """Table of the catalogue sources on observed pixels."""
    return _table(
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        catalogue_flux_jy=flux_jy,
        forced_flux_jy=forced.flux_jy,
        forced_error_jy=forced.error_jy,
        found=found,
        missing=missing,
        discrepant=discrepant,
    )


def _table(**columns: np.ndarray) -> object:
    from astropy.table import Column, Table

    table = Table()
    for name, values in columns.items():
        unit, ucd, description = _COLUMNS[name]
        table[name] = Column(values, unit=unit, description=description, meta={"ucd": ucd})
    return table


_DESCRIPTIONS = {
    "sources": "Sources that were found in the image, with the catalogue source that each matches",
    "catalogue": "Catalogue sources on observed pixels, with their flux density in the image",
}


def write(path: Path, sources: Any, catalogue: Any, meta: Mapping[str, Any]) -> None:
    """Write both tables: one FITS file, and a VOTable and a Parquet file of each.

    Parameters
    ----------
    path : Path
        FITS file; `companions` lie beside it.
    sources, catalogue : astropy.table.Table
    meta : mapping
        Header cards.
    """
    from astropy.io import fits
    from astropy.io.votable import writeto
    from astropy.io.votable.tree import CooSys, VOTableFile

    path.parent.mkdir(parents=True, exist_ok=True)
    hdus = [fits.PrimaryHDU()]
    for name, table in ((SOURCES, sources), (CATALOGUE, catalogue)):
        hdu = fits.table_to_hdu(table)
        hdu.name = name
        hdu.header.update(meta)
        for number, column in enumerate(table.columns.values(), start=1):
            hdu.header[f"TUCD{number}"] = column.info.meta["ucd"]
            hdu.header[f"TCOMM{number}"] = column.info.description
        hdus.append(hdu)
    fits.HDUList(hdus).writeto(path)
    for table, kind in ((sources, "sources"), (catalogue, "catalogue")):
        votable, parquet = (_companion(path, kind, suffix) for suffix in (".vot", ".parquet"))
        made = VOTableFile.from_table(table)
        made.resources[0].coordinate_systems.append(CooSys(ID="icrs", system="ICRS"))
        made.get_first_table().name = kind
        made.get_first_table().description = _DESCRIPTIONS[kind]
        for field in made.get_first_table().fields:
            if (field.ucd or "").startswith("pos.eq"):
                field.ref = "icrs"
        writeto(made, str(votable))
        table.write(parquet, format="parquet.votable", metadata=_metadata(table))


def _metadata(table: Any) -> dict[str, dict[str, str]]:
    """What the Parquet file says of its columns."""
    return {
        name: {"unit": str(column.unit or ""), "ucd": column.info.meta["ucd"]}
        for name, column in table.columns.items()
    }


def companions(path: Path) -> list[tuple[str, Path]]:
    """Kind and path of the files beside a catalogue's FITS file."""
    return [
        (kind, _companion(path, table, suffix))
        for table in ("sources", "catalogue")
        for kind, suffix in (("votable", ".vot"), ("parquet", ".parquet"))
    ]


def files(path: Path) -> list[Path]:
    """A catalogue's FITS file, and those beside it."""
    return [path, *(beside for _, beside in companions(path))]


def _companion(path: Path, table: str, suffix: str) -> Path:
    stem = path.stem.removesuffix("_sources")
    return path.with_name(f"{stem}_{table}{suffix}")


def same(a: Path, b: Path) -> bool:
    """True if two catalogues, as FITS, hold the same values."""
    from astropy.io import fits

    return bool(fits.FITSDiff(str(a), str(b), ignore_keywords=["DATE"]).identical)

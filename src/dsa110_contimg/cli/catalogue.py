"""Reference catalogues."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from dsa110_contimg.cli.common import JsonOption, RootOption, load_settings, with_options
from dsa110_contimg.cli.tables import Column, present
from dsa110_contimg.options import parse_options
from dsa110_contimg.sky.cones import Cone, check_declination
from dsa110_contimg.sky.options import ImportOptions
from dsa110_contimg.wording import counted


class _Listed(BaseModel):
    name: str
    n_sources: int
    frequency_hz: float


class _Near(BaseModel):
    ra_deg: float
    dec_deg: float
    flux_jy: float
    distance_arcsec: float


_CATALOGUES: tuple[Column[_Listed], ...] = (
    Column("catalogue", lambda row: row.name),
    Column("sources", lambda row: str(row.n_sources), True),
    Column("frequency (MHz)", lambda row: f"{row.frequency_hz / 1e6:g}", True),
)
_SOURCES: tuple[Column[_Near], ...] = (
    Column("RA (deg)", lambda row: f"{row.ra_deg:.6f}", True),
    Column("Dec (deg)", lambda row: f"{row.dec_deg:+.6f}", True),
    Column("flux density (mJy)", lambda row: f"{1e3 * row.flux_jy:.2f}", True),
    Column("distance (arcsec)", lambda row: f"{row.distance_arcsec:.1f}", True),
)


@with_options(ImportOptions, "columns")
def catalog_import(
    file: Annotated[Path, typer.Argument(help="FITS, VOTable, ECSV, Parquet, CSV, TSV or text")],
    name: Annotated[str, typer.Option(help="Name of the catalogue from now on")],
    columns: dict[str, object],
    root: RootOption = None,
) -> None:
    """Import a reference catalogue."""
    from dsa110_contimg.sky import catalogue_import, catalogues

    given = parse_options(ImportOptions, columns, "catalog import")
    settings = load_settings(root=root)
    found = catalogue_import.read_file(file, name, given)
    path = catalogues.save(settings.root, found.catalogue)
    for note in found.notes:
        typer.echo(f"{file}: {note}", err=True)
    mhz = found.catalogue.frequency_hz / 1e6
    typer.echo(f"{path}: {counted(len(found.catalogue), 'source')} at {mhz:g} MHz")


def catalog_fetch(
    survey: Annotated[str, typer.Argument(help="nvss, first, racs, vlass or sumss")],
    name: Annotated[str | None, typer.Option(help="Name from now on (default: survey)")] = None,
    min_flux: Annotated[float, typer.Option(min=0.0, help="Faintest source, mJy")] = 5.0,
    dec_min: Annotated[float, typer.Option(help="Lowest declination, degrees")] = -90.0,
    dec_max: Annotated[float, typer.Option(help="Highest declination, degrees")] = 90.0,
    service: Annotated[str | None, typer.Option(help="Another TAP service of VizieR")] = None,
    root: RootOption = None,
) -> None:
    """Fetch a radio survey from VizieR; needs a network."""
    from dataclasses import replace

    from dsa110_contimg.sky import catalogues, vizier

    check_declination(dec_min)
    check_declination(dec_max)
    settings = load_settings(root=root)
    found = vizier.fetch(survey, 1e-3 * min_flux, dec_min, dec_max, service or vizier.SERVICE)
    path = catalogues.save(settings.root, replace(found, name=name or survey))
    typer.echo(f"{path}: {counted(len(found), 'source')}")


def catalog_list(root: RootOption = None, as_json: JsonOption = False) -> None:
    """List the imported catalogues."""
    from dsa110_contimg.sky import catalogues

    settings = load_settings(root=root)
    listed = []
    for name in catalogues.names(settings.root):
        found = catalogues.load(settings.root, name)
        listed.append(_Listed(name=name, n_sources=len(found), frequency_hz=found.frequency_hz))
    present(listed, _CATALOGUES, "no catalogues", as_json=as_json)


def catalog_cone(
    name: Annotated[str, typer.Argument(help="Catalogue")],
    ra: Annotated[str, typer.Argument(help="Degrees, or a form such as 13:31:08.3")],
    dec: Annotated[str, typer.Argument(help="Degrees, or a form such as +30:30:33")],
    radius: Annotated[str, typer.Option(help="Degrees")] = "0.1",
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the sources of a catalogue around a position, the nearest first."""
    import numpy as np

    from dsa110_contimg.sky import catalogues

    cone = Cone.parse(ra, dec, radius)
    found = catalogues.load(load_settings(root=root).root, name)
    near = found.cone(cone.ra_deg, cone.dec_deg, cone.radius_deg)
    distance_arcsec = cone.distance_arcsec(near.ra_deg, near.dec_deg)
    rows = [
        _Near(
            ra_deg=near.ra_deg[k],
            dec_deg=near.dec_deg[k],
            flux_jy=near.flux_jy[k],
            distance_arcsec=distance_arcsec[k],
        )
        for k in np.argsort(distance_arcsec)
    ]
    present(rows, _SOURCES, "no sources", as_json=as_json)

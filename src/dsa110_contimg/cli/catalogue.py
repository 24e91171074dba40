"""Reference catalogues."""

from pathlib import Path
from typing import Annotated

import typer

from dsa110_contimg.cli.common import RootOption, load_settings, with_options
from dsa110_contimg.options import parse_options
from dsa110_contimg.sky.options import ImportOptions


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
    typer.echo(f"{path}: {len(found.catalogue)} sources at {mhz:g} MHz")


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

    settings = load_settings(root=root)
    found = vizier.fetch(survey, 1e-3 * min_flux, dec_min, dec_max, service or vizier.SERVICE)
    path = catalogues.save(settings.root, replace(found, name=name or survey))
    typer.echo(f"{path}: {len(found)} sources")


def catalog_list(root: RootOption = None) -> None:
    """List the imported catalogues."""
    from dsa110_contimg.sky import catalogues

    settings = load_settings(root=root)
    for name in catalogues.names(settings.root):
        found = catalogues.load(settings.root, name)
        typer.echo(f"{name}: {len(found)} sources at {found.frequency_hz / 1e6:g} MHz")


def catalog_cone(
    name: Annotated[str, typer.Argument(help="Catalogue")],
    ra: Annotated[float, typer.Argument(help="Degrees")],
    dec: Annotated[float, typer.Argument(help="Degrees")],
    radius: Annotated[float, typer.Option(help="Degrees")] = 0.1,
    root: RootOption = None,
) -> None:
    """Print the sources of a catalogue around a position."""
    from dsa110_contimg.sky import catalogues

    near = catalogues.load(load_settings(root=root).root, name).cone(ra, dec, radius)
    for row in zip(near.ra_deg, near.dec_deg, near.flux_jy, strict=True):
        typer.echo("{:.6f} {:+.6f} {:.5f} Jy".format(*row))

"""Reference catalogues."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsa110_contimg.cli.common import RootOption, load_settings, with_options
from dsa110_contimg.errors import UsageError
from dsa110_contimg.options import parse_options
from dsa110_contimg.sky.options import ImportOptions

if TYPE_CHECKING:
    from dsa110_contimg.sky.catalogues import ColumnMap


@with_options(ImportOptions, "columns")
def catalog_import(
    file: Annotated[Path, typer.Argument(help="FITS, VOTable or CSV")],
    name: Annotated[str, typer.Option(help="Name of the catalogue from now on")],
    columns: dict[str, object],
    root: RootOption = None,
) -> None:
    """Import a reference catalogue."""
    from dsa110_contimg.sky import catalogues

    given = parse_options(ImportOptions, columns, "catalog import")
    settings = load_settings(root=root)
    found = catalogues.read_file(file, name, _column_map(given))
    path = catalogues.save(settings.root, found)
    typer.echo(f"{path}: {len(found)} sources")


def _column_map(given: ImportOptions) -> "ColumnMap | None":
    """Columns that the user named; None if the file is to say."""
    from dsa110_contimg.sky import catalogues

    sizes = (given.major, given.minor, given.angle)
    if any(sizes) and not all((*sizes, given.ra, given.dec, given.flux)):
        raise UsageError("give --major, --minor and --angle together, with --ra, --dec and --flux")
    if given.ra and given.dec and given.flux:
        return catalogues.ColumnMap(
            given.ra,
            given.dec,
            given.flux,
            catalogues.jansky_per(given.flux_unit) if given.flux_unit else None,
            given.frequency * 1e6,
            given.peak,
            *sizes,
        )
    if given.ra or given.dec or given.flux:
        raise UsageError("give all of --ra, --dec and --flux, or none")
    return None


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

"""Sources and their light curves."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsa110_contimg.cli.common import (
    JsonOption,
    RootOption,
    check_picture,
    load_settings,
    print_json,
)
from dsa110_contimg.cli.tables import ABSENT, Column, number, present, print_table
from dsa110_contimg.errors import UsageError
from dsa110_contimg.sky.cones import Cone
from dsa110_contimg.sources.behaviour import Behaviour
from dsa110_contimg.times import iso
from dsa110_contimg.wording import counted

if TYPE_CHECKING:
    from dsa110_contimg.registry.light_curves import EpochFlux
    from dsa110_contimg.registry.sources import SourceSummary

_SOURCES: "tuple[Column[SourceSummary], ...]" = (
    Column("name", lambda row: row.name),
    Column("RA (deg)", lambda row: f"{row.ra_deg:.5f}", True),
    Column("Dec (deg)", lambda row: f"{row.dec_deg:+.5f}", True),
    Column("mean (mJy)", lambda row: _millijansky(row.mean_jy), True),
    Column("V", lambda row: number(row.modulation, ".3f"), True),
    Column("eta", lambda row: number(row.eta, ".2f"), True),
    Column("epochs", lambda row: str(row.n_epochs), True),
    Column("behaviour", lambda row: row.behaviour + (", dips" if row.dip else "")),
)
_EPOCHS: "tuple[Column[EpochFlux], ...]" = (
    Column("observed (UTC)", lambda row: iso(row.observed)),
    Column("MJD", lambda row: f"{row.mjd:.6f}", True),
    Column("flux density (mJy)", lambda row: _millijansky(row.flux_jy), True),
    Column("error (mJy)", lambda row: _millijansky(row.error_jy), True),
    Column("upper limit (mJy)", lambda row: _millijansky(row.upper_limit_jy), True),
    Column("image", lambda row: row.image),
)


def sources(
    cone: Annotated[
        tuple[str, str, str] | None,
        typer.Option(
            metavar="RA DEC RADIUS",
            help="Position, in degrees or as 13:31:08.3 +30:30:33, and radius in degrees",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Part of the name")] = "",
    behaviour: Annotated[Behaviour | None, typer.Option(help="What they do")] = None,
    min_modulation: Annotated[
        float | None, typer.Option(help="Minimum of V: standard deviation over mean")
    ] = None,
    min_eta: Annotated[
        float | None,
        typer.Option(help="Minimum of eta: reduced chi-square of a constant flux density"),
    ] = None,
    dips: Annotated[
        bool, typer.Option("--dips", help="Only candidates for extreme scattering events")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of rows")] = 100,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """List sources, those that vary most first."""
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.registry.sources import SourceFilter, query_sources

    wanted = SourceFilter(
        None if cone is None else Cone.parse(*cone), name, behaviour, min_modulation, min_eta, dips
    )
    with Registry.of(load_settings(root=root), create=False).read() as session:
        found = query_sources(session, wanted, limit)
    present(found.sources, _SOURCES, "no sources", as_json=as_json)
    if found.n_total > len(found.sources):
        shown = f"{len(found.sources)} of {counted(found.n_total, 'source')}"
        typer.echo(f"{shown}; --limit shows more", err=True)


def lightcurve(
    source: Annotated[str, typer.Argument(help="Name or number")],
    tiles: Annotated[bool, typer.Option("--tiles", help="Epochs are tiles, not mosaics")] = False,
    plot: Annotated[Path | None, typer.Option(help="Picture to write: .png, .svg or .pdf")] = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print or draw the light curve of a source; below 3 sigma with an upper limit."""
    from dsa110_contimg.registry import light_curves
    from dsa110_contimg.registry.database import Registry

    check_picture(plot)
    kind = light_curves.TILE if tiles else light_curves.MOSAIC
    with Registry.of(load_settings(root=root), create=False).read() as session:
        found, curve = light_curves.source_light_curve(session, source, kind)
    about = found.source
    if curve is None:
        raise UsageError(f"{about.name}: was not measured on any {kind}")
    if plot is not None:
        from dsa110_contimg.quality import plots

        plot.write_bytes(
            plots.light_curve(
                curve.observed, curve.flux_jy, curve.error_jy, about.name, plots.form_of(plot)
            )
        )
    if as_json:
        print_json(found)
        return
    typer.echo(f"{about.name}: {about.behaviour}, {counted(len(found.epochs), 'epoch')}")
    print_table(found.epochs, _EPOCHS)
    if plot is not None:
        typer.echo(plot)


def _millijansky(jansky: float | None) -> str:
    return ABSENT if jansky is None else f"{1e3 * jansky:.2f}"

"""Sources and their light curves."""

from pathlib import Path
from typing import Annotated

import typer

from dsa110_contimg.cli.common import JsonOption, RootOption, load_settings, present, print_json
from dsa110_contimg.errors import UsageError
from dsa110_contimg.times import iso


def sources(
    cone: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="Right ascension, declination and radius, degrees"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Part of the name")] = None,
    behaviour: Annotated[
        str | None, typer.Option(help="constant, variable, transient, vanished or unknown")
    ] = None,
    min_modulation: Annotated[float | None, typer.Option(help="Least V")] = None,
    min_eta: Annotated[float | None, typer.Option(help="Least eta")] = None,
    dips: Annotated[bool, typer.Option("--dips", help="Scattering event candidates only")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Most rows")] = 100,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """List sources, those that vary most first."""
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.registry.sources import query_sources

    with Registry.of(load_settings(root=root)).read() as session:
        found = query_sources(
            session,
            cone=cone,
            name=name,
            behaviour=behaviour,
            min_modulation=min_modulation,
            min_eta=min_eta,
            dips=dips,
            limit=limit,
        )
    present(
        found,
        as_json,
        lambda row: (
            f"{row.name}  {row.ra_deg:10.5f} {row.dec_deg:+9.5f}  "
            + _millijansky(row.mean_jy)
            + f"  V {_number(row.modulation)}  eta {_number(row.eta)}  "
            f"{row.n_epochs} epochs  {row.behaviour}" + ("  dips" if row.dip else "")
        ),
    )


def lightcurve(
    source: Annotated[str, typer.Argument(help="Name or number")],
    tiles: Annotated[bool, typer.Option("--tiles", help="Epochs are tiles, not mosaics")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw it into this PNG")] = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print or draw the light curve of a source; below 3 sigma an upper limit."""
    from dsa110_contimg.registry import light_curves
    from dsa110_contimg.registry.database import Registry

    kind = light_curves.TILE if tiles else light_curves.MOSAIC
    with Registry.of(load_settings(root=root)).read() as session:
        found, curve = light_curves.source_light_curve(session, source, kind)
    about = found.source
    if curve is None:
        raise UsageError(f"{about.name}: was not measured on any {kind}")
    if plot is not None:
        from dsa110_contimg.quality import plots

        plot.write_bytes(
            plots.light_curve(curve.observed, curve.flux_jy, curve.error_jy, about.name)
        )
        typer.echo(plot)
    if as_json:
        print_json(found)
    elif plot is None:
        typer.echo(f"{about.name}: {about.behaviour}")
        for epoch in found.epochs:
            limit = epoch.upper_limit_jy
            shown = (
                f"< {1e3 * limit:.2f} mJy"
                if limit is not None
                else f"{1e3 * epoch.flux_jy:.2f} +- {1e3 * epoch.error_jy:.2f} mJy"
            )
            typer.echo(f"  {iso(epoch.observed)}  {shown}  {epoch.image}")


def _millijansky(jansky: float | None) -> str:
    return "   not seen" if jansky is None else f"{1e3 * jansky:7.2f} mJy"


def _number(value: float | None) -> str:
    return "   -" if value is None else f"{value:.2f}"

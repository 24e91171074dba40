"""Commands around the two themes: simulate, demo, status, retry, serve, catalogues, settings."""

from pathlib import Path
from typing import Annotated

import typer

from dsa110_contimg.cli.common import JsonOption, RootOption, iso, load_settings, print_json
from dsa110_contimg.errors import NothingToDo, UsageError


def simulate(
    output: Annotated[Path, typer.Argument(help="Directory to write sub-band files into")],
    groups: Annotated[int, typer.Option(min=1, help="Observations of 309 s")] = 10,
    antennas: Annotated[int, typer.Option(min=2, max=96, help="Antennas with data")] = 32,
    channels: Annotated[
        int, typer.Option(min=1, max=48, help="Channels a sub-band (the telescope has 48)")
    ] = 4,
    dec: Annotated[float, typer.Option(help="Apparent declination, degrees")] = 16.2,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal files")] = 1,
    catalog: Annotated[
        Path | None, typer.Option(help="Also write the sky's catalogue here (CSV)")
    ] = None,
) -> None:
    """Write a synthetic drift scan in the telescope's layout, and its truth."""
    from dsa110_contimg.simulation import hour

    output.mkdir(parents=True, exist_ok=True)
    options = hour.RunOptions(
        groups=groups, antennas=antennas, channels=channels, apparent_dec_deg=dec, seed=seed
    )
    run = hour.prepare(options)
    for group in range(groups):
        run.write(output, group)
        typer.echo(f"group {group + 1}/{groups}", err=True)
    typer.echo(run.write_truth(output))
    if catalog is not None:
        sky = run.sky.catalogue("simulated")
        rows = ["ra_deg,dec_deg,flux_jy"]
        rows += [
            f"{ra:.8f},{dec:.8f},{flux:.6f}"
            for ra, dec, flux in zip(sky.ra_deg, sky.dec_deg, sky.flux_jy, strict=True)
        ]
        catalog.write_text("\n".join(rows) + "\n")
        typer.echo(catalog)


def demo(
    directory: Annotated[Path, typer.Option(help="Directory to make")] = Path("demo"),
    picture: Annotated[Path | None, typer.Option(help="Copy the mosaic's picture here too")] = None,
) -> None:
    """Simulate an hour of observation, stream it, publish a mosaic and cross-match it."""
    from dsa110_contimg.cli.demo import run_demo

    run_demo(directory.absolute(), picture)


def status(root: RootOption = None, as_json: JsonOption = False) -> None:
    """Say what there is, in which state, and what failed and why."""
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.registry.queries import overview

    settings = load_settings(root=root)
    view = overview(Registry(settings.database))
    if as_json:
        print_json(view)
        return
    for title in ("files", "tiles", "groups", "mosaics", "jobs"):
        counts = ", ".join(f"{state} {n}" for state, n in view[title].items()) or "none"
        typer.echo(f"{title:8} {counts}")
    if view["latest_tile"] is not None:
        typer.echo(f"latest   tile observed {iso(view['latest_tile'])} UTC")
    for title in ("dead_antennas", "problems", "warnings"):
        rows = view[title]
        if rows:
            typer.echo(f"{title.replace('_', ' ')}:")
            for row in rows:
                typer.echo(f"  {row}")


def retry(
    identifier: Annotated[str, typer.Argument(help="Tile or mosaic group")],
    root: RootOption = None,
) -> None:
    """Make failed, held or quarantined work ready again."""
    from dsa110_contimg.registry import claims
    from dsa110_contimg.registry.database import Registry

    registry = Registry(load_settings(root=root).database)
    done = [claims.retry(registry, kind, identifier) for kind in (claims.TILES, claims.GROUPS)]
    if not any(done):
        raise NothingToDo(f"{identifier}: is no failed, held or quarantined tile or group")
    typer.echo(f"{identifier}: ready")


def housekeeping(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed")
    ] = False,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove intermediate files whose time is over (the keep_ settings), and leftovers."""
    from dsa110_contimg.registry import records
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.streaming import housekeeping as keeper

    settings = load_settings(root=root)
    registry = Registry(settings.database)
    found = keeper.find(registry, settings)
    if as_json:
        print_json([records.to_json(removal) for removal in found])
    else:
        for removal in found:
            typer.echo(
                f"{removal.size / 1e9:9.3f} GB  {removal.kind}  {removal.path}: {removal.reason}"
            )
    if not dry_run:
        total = keeper.remove(registry, found)
        typer.echo(f"removed {len(found)} items, {total / 1e9:.3f} GB", err=True)


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port")] = 8000,
    parallel_jobs: Annotated[int, typer.Option(min=1, help="Jobs at once")] = 1,
    root: RootOption = None,
) -> None:
    """Serve the REST interface and run its jobs."""
    import uvicorn

    from dsa110_contimg.api.app import create_app
    from dsa110_contimg.api.security import LOOPBACK

    if host not in LOOPBACK:
        raise UsageError(
            f"--host {host}: this version has no tokens, so it listens on "
            f"{' or '.join(LOOPBACK)} only; reach it through an SSH tunnel"
        )
    settings = load_settings(root=root)
    app = create_app(settings, parallel_jobs)
    uvicorn.run(app, host=host, port=port, log_level="info", server_header=False)


def config(root: RootOption = None) -> None:
    """Print the settings that hold."""
    print_json(load_settings(root=root).model_dump(mode="json", by_alias=True))


def catalog_import(
    file: Annotated[Path, typer.Argument(help="FITS, VOTable or CSV")],
    name: Annotated[str, typer.Option(help="Name of the catalogue from now on")],
    ra: Annotated[str | None, typer.Option(help="Column of right ascension, degrees")] = None,
    dec: Annotated[str | None, typer.Option(help="Column of declination, degrees")] = None,
    flux: Annotated[str | None, typer.Option(help="Column of integrated flux density")] = None,
    flux_unit: Annotated[str, typer.Option(help="Jy or mJy")] = "Jy",
    frequency: Annotated[float, typer.Option(help="MHz of the flux densities")] = 1400.0,
    root: RootOption = None,
) -> None:
    """Import a reference catalogue."""
    from dsa110_contimg.sky import catalogues

    columns = None
    if ra or dec or flux:
        if not (ra and dec and flux):
            raise UsageError("give all of --ra, --dec and --flux, or none")
        scale = {"jy": 1.0, "mjy": 1e-3}.get(flux_unit.lower())
        if scale is None:
            raise UsageError(f"--flux-unit {flux_unit}: give Jy or mJy")
        columns = catalogues.ColumnMap(ra, dec, flux, scale, frequency * 1e6)
    settings = load_settings(root=root)
    found = catalogues.read_file(file, name, columns)
    path = catalogues.save(settings.root, found)
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

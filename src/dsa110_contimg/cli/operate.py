"""Commands around the two themes: simulate, demo, status, retry, serve, catalogues, settings."""

import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import JsonValue

from dsa110_contimg.cli.common import (
    JsonOption,
    RootOption,
    load_settings,
    parse_time,
    person,
    print_json,
    setup_logging,
)
from dsa110_contimg.cli.streaming import ungrouped_text
from dsa110_contimg.cli.tables import ABSENT, Column, present
from dsa110_contimg.constants import DAY_S
from dsa110_contimg.durable import check_writable, check_writable_file
from dsa110_contimg.errors import NothingToDo, UsageError
from dsa110_contimg.registry.tokens import Scope
from dsa110_contimg.settings import pipeline_options
from dsa110_contimg.times import iso, span
from dsa110_contimg.wording import counted

if TYPE_CHECKING:
    from dsa110_contimg.registry.status import Trouble
    from dsa110_contimg.registry.tokens import TokenSummary
    from dsa110_contimg.streaming.housekeeping import Removal

_GRACE_S = 3
"""Open pages listen for ever: the server does not wait for them when it is to end."""
_KEEP_ALIVE_S = 75
"""Longer than clients and proxies keep idle connections, that none sends into a closed one."""
_SET_ASIDE: "tuple[Column[Trouble], ...]" = (
    Column("kind", lambda row: row.kind),
    Column("name", lambda row: row.id),
    Column("state", lambda row: row.state),
    Column("observed (UTC)", lambda row: ABSENT if row.start is None else iso(row.start)),
    Column("reason", lambda row: row.reason),
)
_REMOVALS: "tuple[Column[Removal], ...]" = (
    Column("size (GB)", lambda row: f"{row.size / 1e9:.3f}", True),
    Column("kind", lambda row: row.kind),
    Column("path", lambda row: str(row.path)),
    Column("reason", lambda row: row.reason),
)
_TOKENS: "tuple[Column[TokenSummary], ...]" = (
    Column("name", lambda row: row.name),
    Column("scope", lambda row: row.scope),
    Column("made (UTC)", lambda row: iso(row.created)),
    Column("state", lambda row: f"revoked {iso(row.revoked)}" if row.revoked else "in force"),
)


def simulate(
    output: Annotated[Path, typer.Argument(help="Directory to write sub-band files into")],
    groups: Annotated[int, typer.Option(min=1, help="Observations of 309 s")] = 10,
    antennas: Annotated[int, typer.Option(min=2, max=96, help="Antennas with data")] = 32,
    channels: Annotated[
        int, typer.Option(min=1, max=48, help="Channels a sub-band (the telescope has 48)")
    ] = 4,
    dec: Annotated[float, typer.Option(help="Apparent declination, degrees")] = 16.2,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal files")] = 1,
    start: Annotated[
        str | None, typer.Option(help="Middle of the first integration, UTC [default: 2026-01-25]")
    ] = None,
    nights: Annotated[
        int, typer.Option(min=1, help="Observe the same sky on so many nights, with other gains")
    ] = 1,
    catalog: Annotated[
        Path | None, typer.Option(help="Also write the sky's catalogue here (CSV)")
    ] = None,
    troubles: Annotated[
        Path | None, typer.Option(help="What is wrong with the instrument (TOML)")
    ] = None,
) -> None:
    """Write a synthetic drift scan in the telescope's layout, and its truth."""
    from datetime import UTC, datetime

    from dsa110_contimg.simulation import hour
    from dsa110_contimg.simulation.troubles import NO_TROUBLES, read_troubles
    from dsa110_contimg.sky import catalogues
    from dsa110_contimg.sky.cones import check_declination

    begin = parse_time(start)
    known = NO_TROUBLES if troubles is None else read_troubles(troubles)
    check_declination(dec)
    if catalog is not None:
        check_writable_file(catalog)
    output.mkdir(parents=True, exist_ok=True)
    options = hour.RunOptions(
        groups=groups,
        antennas=antennas,
        channels=channels,
        apparent_dec_deg=dec,
        seed=seed,
        start=hour.DEFAULT_START if begin is None else datetime.fromtimestamp(begin, UTC),
        troubles=known,
    )
    for night, run in enumerate(hour.nights(options, nights), start=1):
        for group in range(groups):
            run.write(output, group)
            of_nights = f"night {night}/{nights}, " if nights > 1 else ""
            typer.echo(f"{of_nights}group {group + 1}/{groups}", err=True)
    typer.echo(run.write_truth(output))
    if catalog is not None:
        sky = run.sky.catalogue("simulated")
        catalogues.table_of(sky).write(catalog, format="ascii.csv", overwrite=True)
        typer.echo(catalog)


def demo(
    directory: Annotated[Path, typer.Option(help="Directory to make")] = Path("demo"),
    picture: Annotated[Path | None, typer.Option(help="Copy the mosaic's picture here too")] = None,
) -> None:
    """Simulate an hour of observation, stream it, publish a mosaic and cross-match it."""
    from dsa110_contimg.cli.demo import run_demo

    check_writable(directory)
    if picture is not None:
        check_writable_file(picture)
    run_demo(directory.absolute(), picture)


def status(root: RootOption = None, as_json: JsonOption = False) -> None:
    """Say whether data flow and work keeps up, what there is, and what failed and why."""
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.streaming.health import health

    settings = load_settings(root=root)
    view = health(Registry.of(settings, create=False), settings)
    flow = view.pulse
    if as_json:
        print_json(view)
        return
    for title, states in view.counts().items():
        counts = ", ".join(f"{state} {n}" for state, n in states.items()) or "none"
        typer.echo(f"{title:8} {counts}")
    if view.latest_tile is not None and flow.data_age_s is not None:
        typer.echo(
            f"latest   tile observed {iso(view.latest_tile)} UTC, "
            f"{span(flow.data_age_s)} ago; {span(flow.lag_s)} of sky wait"
        )
    if flow.ungrouped:
        typer.echo(f"waiting  {ungrouped_text(flow.ungrouped, settings)}")
    for period, tiles, mosaics in (
        ("hour", flow.tiles_last_hour, flow.mosaics_last_hour),
        ("day", flow.tiles_last_day, flow.mosaics_last_day),
    ):
        done = f"{counted(tiles, 'tile')} and {counted(mosaics, 'mosaic')}"
        typer.echo(f"rate     {done} in the last {period}")
    typer.echo(f"disk     {flow.disk_free_gb:.0f} GB free")
    for title, rows in (
        ("alerts", view.alerts),
        ("dead antennas", view.dead_antennas),
        ("problems", view.problems),
        ("warnings", view.warnings),
    ):
        if rows:
            typer.echo(f"{title}:")
            for row in rows:
                typer.echo(f"  {row}")


def night(
    day: Annotated[str | None, typer.Argument(help="The same as --date")] = None,
    date: Annotated[
        str | None, typer.Option(help="Day, YYYY-MM-DD UTC (default: the last 24 hours)")
    ] = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what happened on a day: tiles, mosaics, warnings and errors."""
    import time

    from dsa110_contimg import records
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.registry.night import summary

    if day is not None and date is not None:
        raise UsageError("the day is given twice; give it once")
    begin = parse_time(day or date)
    since = time.time() - DAY_S if begin is None else begin
    registry = Registry.of(load_settings(root=root), create=False)
    found = summary(registry, since, since + DAY_S)
    if as_json:
        print_json(records.to_json(found))
    else:
        typer.echo(found.text())


def retry(
    identifier: Annotated[str, typer.Argument(help="Tile or mosaic group")],
    convert: Annotated[
        bool, typer.Option("--convert", help="Convert a tile again that is converted already")
    ] = False,
    root: RootOption = None,
) -> None:
    """Make failed, held or quarantined work ready again."""
    from dsa110_contimg.registry import claims
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.registry.file_check import convert_again

    registry = Registry.of(load_settings(root=root), create=False)
    if convert:
        convert_again(registry, identifier)
        typer.echo(f"{identifier}: will be converted again")
        return
    done = [claims.retry(registry, kind, identifier) for kind in (claims.TILES, claims.GROUPS)]
    if not any(done):
        raise NothingToDo(f"{identifier}: is no failed, held or quarantined tile or group")
    typer.echo(f"{identifier}: ready")


def publish(
    name: Annotated[str, typer.Argument(help="Mosaic that was held")],
    reason: Annotated[str, typer.Option(help="Why; kept with the decision")],
    root: RootOption = None,
) -> None:
    """Publish a mosaic that validation held."""
    from dsa110_contimg.operations.verdicts import publish_by_hand
    from dsa110_contimg.registry.database import Registry

    settings = load_settings(root=root)
    registry = Registry.of(settings, create=False)
    typer.echo(publish_by_hand(registry, settings.root, name, reason, person()).path)


def hold(
    name: Annotated[str, typer.Argument(help="Published mosaic")],
    reason: Annotated[str, typer.Option(help="Why; kept with the decision")],
    root: RootOption = None,
) -> None:
    """Take a published mosaic back; its files move out of the public directory."""
    from dsa110_contimg.operations.verdicts import hold_by_hand
    from dsa110_contimg.registry.database import Registry

    settings = load_settings(root=root)
    registry = Registry.of(settings, create=False)
    typer.echo(hold_by_hand(registry, settings.root, name, reason, person()).path)


def report(
    name: Annotated[str, typer.Argument(help="Tile that was imaged, or mosaic")],
    output: Annotated[
        Path | None, typer.Option(help="HTML file to write (default: NAME.html)")
    ] = None,
    root: RootOption = None,
) -> None:
    """Write the page of evidence for a tile, or copy a mosaic's."""
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.registry.mosaics import report_path
    from dsa110_contimg.reports.tile import history_of, tile_report

    target = output or Path(f"{name}.html")
    check_writable_file(target)
    settings = load_settings(root=root)
    registry = Registry.of(settings, create=False)
    page = report_path(registry, name)
    if page is not None:
        target.write_bytes(page.read_bytes())
    else:
        found = history_of(registry, name)
        target.write_text(tile_report(found, settings.root, pipeline_options(settings).validate))
    typer.echo(target)


def quarantine_list(root: RootOption = None, as_json: JsonOption = False) -> None:
    """List tiles and groups that are quarantined or held, with the reason."""
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.registry.status import set_aside

    rows = set_aside(Registry.of(load_settings(root=root), create=False))
    present(rows, _SET_ASIDE, "nothing is quarantined or held", as_json=as_json)


def housekeeping(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed")
    ] = False,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove intermediate files whose time is over (the keep_ settings), and leftovers."""
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.streaming import housekeeping as keeper

    settings = load_settings(root=root)
    registry = Registry.of(settings, create=False)
    found = keeper.find(registry, settings)
    present(found, _REMOVALS, "no items", as_json=as_json)
    if not dry_run:
        total = keeper.remove(registry, settings, found)
        typer.echo(f"removed {counted(len(found), 'item')}, {total / 1e9:.3f} GB", err=True)


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port")] = 8000,
    parallel_jobs: Annotated[int, typer.Option(min=1, help="Jobs at once")] = 1,
    require_token: Annotated[
        bool, typer.Option("--require-token", help="Answer nobody without a token")
    ] = False,
    root: RootOption = None,
) -> None:
    """Serve the dashboard and the REST interface, and run jobs."""
    import uvicorn

    from dsa110_contimg.api.app import create_app
    from dsa110_contimg.api.security import LOOPBACK
    from dsa110_contimg.web.app import add_dashboard

    settings = load_settings(root=root)
    _check_free(host, port)
    setup_logging(settings.log_format)
    # Whoever can reach more than this machine's own address shows a token.
    app = create_app(settings, parallel_jobs, require_token or host not in LOOPBACK)
    add_dashboard(app)
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_level="info",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )


def _check_free(host: str, port: int) -> None:
    """Refuse an address that another program listens on, or that is not of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        why = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
        raise UsageError(f"cannot listen on {host}, port {port}: {why}; give another") from error


def token_create(
    name: Annotated[str, typer.Argument(help="Who or what will use it")],
    scope: Annotated[Scope, typer.Option(help="write includes read")] = Scope.READ,
    root: RootOption = None,
) -> None:
    """Make a token for the REST interface; it is shown once."""
    from dsa110_contimg.registry import tokens
    from dsa110_contimg.registry.database import Registry

    typer.echo(tokens.create(Registry.of(load_settings(root=root)), name, scope))


def token_list(root: RootOption = None, as_json: JsonOption = False) -> None:
    """List tokens, without their secrets."""
    from dsa110_contimg.registry import tokens
    from dsa110_contimg.registry.database import Registry

    rows = tokens.list_tokens(Registry.of(load_settings(root=root), create=False))
    present(rows, _TOKENS, "no tokens", as_json=as_json)


def token_revoke(
    name: Annotated[str, typer.Argument(help="Token's name")], root: RootOption = None
) -> None:
    """Make a token worthless at once."""
    from dsa110_contimg.registry import tokens
    from dsa110_contimg.registry.database import Registry

    tokens.revoke(Registry.of(load_settings(root=root), create=False), name)
    typer.echo(f"{name}: revoked")


def config(root: RootOption = None, as_json: JsonOption = False) -> None:
    """Print the settings that hold, as TOML, and where each comes from."""
    from dsa110_contimg.settings import origins, values

    settings = load_settings(root=root)
    holds = values(settings)
    if as_json:
        print_json(holds)
        return
    for name, origin in origins(settings).items():
        if holds[name] is None:
            typer.echo(f"# {name}: nothing  # {origin}")
        else:
            typer.echo(f"{name} = {_toml(holds[name])}  # {origin}")


def _toml(value: JsonValue) -> str:
    """A value as TOML writes it on one line; tables have no entries that are nothing."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k} = {_toml(v)}' for k, v in value.items() if v is not None)}}}"
    if isinstance(value, list):
        return f"[{', '.join(_toml(one) for one in value)}]"
    return json.dumps(value)

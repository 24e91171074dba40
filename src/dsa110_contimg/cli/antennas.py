"""The command about antennas."""

from typing import Annotated

import typer

from dsa110_contimg.cli.common import (
    JsonOption,
    RootOption,
    load_settings,
    parse_time,
    present,
    print_json,
)
from dsa110_contimg.constants import DAY_S
from dsa110_contimg.errors import UsageError
from dsa110_contimg.times import iso


def list_antennas(
    antenna: Annotated[
        str | None, typer.Argument(help="Show every tile of this antenna (default: all events)")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="From when (default: a day before the newest tile)")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Until when (default: the newest tile)")] = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """List antennas that are not as they were in their reference tile: since when, by how much."""
    from dsa110_contimg.calibration.antenna_history import find_events, measurements_of
    from dsa110_contimg.registry.antennas import misplaced_antennas, recorded_antennas
    from dsa110_contimg.registry.database import Registry

    registry = Registry.of(load_settings(root=root))
    begin, end = parse_time(since), parse_time(until)
    if begin is None:
        newest = recorded_antennas(registry, None, end, 1)
        begin = newest[0].start - DAY_S if newest else None
    tiles = recorded_antennas(registry, begin, end)
    if not tiles:
        raise UsageError("no calibrated tile is known in this time; see --since and --until")
    if antenna is not None:
        present(
            measurements_of(tiles, antenna),
            as_json,
            lambda row: (
                f"{row.tile}  {'XY'[row.polarization]}  {row.state:8}  "
                f"gain x {row.amplitude:.3f} +- {row.amplitude_error:.3f}  "
                f"delay {row.delay_ns:+.2f} +- {row.delay_error_ns:.2f} ns  "
                f"phase {row.phase_deg:+.1f} deg  noise variance x {row.noise:.2f}"
            ),
        )
        return
    events = find_events(tiles)
    if as_json:
        print_json(events)
        return
    typer.echo(
        f"{len(tiles)} tiles from {iso(tiles[0].start)} to "
        f"{iso(tiles[-1].start + tiles[-1].duration_s)}: {len(events)} events"
    )
    for event in events:
        typer.echo(str(event))
    for one in misplaced_antennas(registry, tiles):
        typer.echo(str(one))

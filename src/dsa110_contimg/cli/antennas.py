"""The command about antennas."""

from typing import TYPE_CHECKING, Annotated

import typer

from dsa110_contimg.cli.common import JsonOption, RootOption, load_settings, parse_time, print_json
from dsa110_contimg.cli.tables import ABSENT, Column, present, print_table
from dsa110_contimg.constants import DAY_S
from dsa110_contimg.errors import UsageError
from dsa110_contimg.times import iso
from dsa110_contimg.wording import counted

if TYPE_CHECKING:
    from dsa110_contimg.calibration.antenna_history import AntennaEvent, AntennaMeasurement

_MEASUREMENTS: "tuple[Column[AntennaMeasurement], ...]" = (
    Column("tile", lambda row: row.tile),
    Column("polarization", lambda row: "XY"[row.polarization]),
    Column("state", lambda row: row.state),
    Column("gain ratio", lambda row: f"{row.amplitude:.3f}", True),
    Column("error", lambda row: f"{row.amplitude_error:.3f}", True),
    Column("delay (ns)", lambda row: f"{row.delay_ns:+.2f}", True),
    Column("error (ns)", lambda row: f"{row.delay_error_ns:.2f}", True),
    Column("phase (deg)", lambda row: f"{row.phase_deg:+.1f}", True),
    Column("noise variance ratio", lambda row: f"{row.noise:.2f}", True),
)
_EVENTS: "tuple[Column[AntennaEvent], ...]" = (
    Column("antenna", lambda row: row.antenna),
    Column("polarizations", lambda row: row.polarizations),
    Column("since (UTC)", lambda row: iso(row.since)),
    Column("until (UTC)", lambda row: iso(row.until)),
    Column("tiles", lambda row: str(row.n_tiles), True),
    Column("jumped at", lambda row: ABSENT if row.jumped_at is None else iso(row.jumped_at)),
    Column("what", lambda row: row.what),
)


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

    registry = Registry.of(load_settings(root=root), create=False)
    begin, end = parse_time(since), parse_time(until)
    if begin is None:
        newest = recorded_antennas(registry, None, end, 1)
        begin = newest[0].start - DAY_S if newest else None
    tiles = recorded_antennas(registry, begin, end)
    if not tiles:
        raise UsageError("no calibrated tile is known in this time; see --since and --until")
    if antenna is not None:
        rows = measurements_of(tiles, antenna)
        present(rows, _MEASUREMENTS, "no measurements", as_json=as_json)
        return
    events = find_events(tiles)
    if as_json:
        print_json(events)
        return
    typer.echo(
        f"{counted(len(tiles), 'tile')} from {iso(tiles[0].start)} to "
        f"{iso(tiles[-1].start + tiles[-1].duration_s)}: {counted(len(events), 'event')}"
    )
    if events:
        print_table(events, _EVENTS)
    for one in misplaced_antennas(registry, tiles):
        typer.echo(str(one))

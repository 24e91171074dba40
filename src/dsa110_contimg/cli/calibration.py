"""Commands for those who look after the calibration: sets, transits, flags by hand."""

import time
from pathlib import Path
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
from dsa110_contimg.errors import UsageError
from dsa110_contimg.times import iso

SetArgument = Annotated[str, typer.Argument(help="Set by its id, or a table's path")]
ReasonOption = Annotated[str, typer.Option(help="Why; kept with the set")]


def caltables_list(root: RootOption = None, as_json: JsonOption = False) -> None:
    """List the calibration sets with validity, declination strip, quality and standing."""
    from dsa110_contimg.registry.calibration_sets import list_calibration_sets
    from dsa110_contimg.registry.database import Registry

    present(
        list_calibration_sets(Registry.of(load_settings(root=root))),
        as_json,
        lambda row: (
            f"{row.id}  observed {iso(row.observed)}  Dec {row.apparent_dec_deg:.2f}  "
            f"bandpass until {iso(row.observed + row.bandpass_valid_s)}  "
            f"gains until {iso(row.observed + row.gains_valid_s)}  "
            f"flagged {100 * row.flagged_fraction:.1f} %  SNR {row.median_snr:.0f}  "
            f"{row.standing}{': ' + row.remark if row.remark else ''}"
        ),
    )


def caltables_show(name: SetArgument, root: RootOption = None, as_json: JsonOption = False) -> None:
    """Say what the tables of a set hold, antenna by antenna."""
    from dsa110_contimg.calibration import tables

    for path in _tables(name, root):
        content = tables.summary(path)
        if as_json:
            print_json(content)
            continue
        typer.echo(
            f"{path}: {content.kind}, {content.n_antennas} antennas, "
            f"{content.n_channels} channels, reference antenna {content.reference_antenna}; "
            f"flagged {100 * content.flagged:.2f} % of the table, "
            f"{100 * content.flagged_alive:.2f} % of the {content.n_alive} antennas not "
            "wholly flagged"
        )
        for antenna in content.antennas:
            typer.echo(
                f"  {antenna.name:8} flagged {100 * antenna.flagged:5.1f} %  "
                f"amplitude {antenna.amplitude:.4g}  phase {antenna.phase_deg:+.1f} deg  "
                f"SNR {antenna.snr:.0f}"
            )


def caltables_plot(
    name: SetArgument,
    output: Annotated[Path, typer.Option(help="Picture to write (PNG); one a table")],
    root: RootOption = None,
) -> None:
    """Draw amplitude and phase against frequency, one panel an antenna."""
    from dsa110_contimg.calibration import tables
    from dsa110_contimg.quality import plots

    found = _tables(name, root)
    for path in found:
        table = tables.read(path)
        target = output
        if len(found) > 1:
            target = output.with_name(f"{output.stem}_{path.stem}{output.suffix or '.png'}")
        target.write_bytes(
            plots.antenna_gains(
                table.frequencies_hz,
                table.gains.values[0],
                table.gains.flags[0],
                table.antenna_names,
            )
        )
        typer.echo(target)


def caltables_reject(name: SetArgument, reason: ReasonOption, root: RootOption = None) -> None:
    """Never use a set again."""
    _stand(name, "rejected", reason, root)


def caltables_prefer(name: SetArgument, reason: ReasonOption, root: RootOption = None) -> None:
    """Use a set before all others wherever it is valid."""
    _stand(name, "preferred", reason, root)


def caltables_accept(name: SetArgument, root: RootOption = None) -> None:
    """Take back a rejection or preference."""
    _stand(name, "normal", "", root)


def transits(
    dec: Annotated[
        float | None, typer.Option(help="Apparent declination, degrees (default: newest tile's)")
    ] = None,
    since: Annotated[str | None, typer.Option(help="From when (default: now)")] = None,
    hours: Annotated[float, typer.Option(min=0.0, help="How long from then")] = 24.0,
    min_jy: Annotated[float, typer.Option(help="Least apparent flux density, Jy")] = 1.0,
    sky_catalog: Annotated[str | None, typer.Option(help="Catalogue")] = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """The next passages of bright sources through the beam."""
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.registry.tiles import newest_declination_deg
    from dsa110_contimg.sky import catalogues
    from dsa110_contimg.sky.transits import transits as find
    from dsa110_contimg.telescope import DSA110

    settings = load_settings(root=root, sky_catalog=sky_catalog)
    if dec is None:
        dec = newest_declination_deg(Registry.of(settings))
        if dec is None:
            raise UsageError("no tile is known yet: give --dec")
    start = parse_time(since)
    found = find(
        catalogues.load(settings.root, settings.sky_catalog),
        dec,
        time.time() if start is None else start,
        hours,
        DSA110,
        min_jy,
    )
    present(
        found,
        as_json,
        lambda one: (
            f"{iso(one.time_s)} UTC  LST {one.sidereal_deg / 15:6.3f} h  {one.name:20} "
            f"{one.flux_jy:7.2f} Jy x {one.response:.2f}  {one.offset_deg:.2f} deg from the centre"
        ),
    )


def flags_add(
    reason: Annotated[str, typer.Option(help="Why; kept in the provenance")],
    antenna: Annotated[str, typer.Option(help="Names, comma-separated (default: all)")] = "",
    since: Annotated[str | None, typer.Option("--from", help="First time flagged")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Last time flagged")] = None,
    channels: Annotated[
        str, typer.Option(help="Ranges like 10-20,300, from 0 in order of frequency (default: all)")
    ] = "",
    root: RootOption = None,
) -> None:
    """Flag data by hand, in everything that is processed from now on."""
    from dsa110_contimg.registry.antennas import known_antennas
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.registry.manual_flags import add
    from dsa110_contimg.telescope import DSA110
    from dsa110_contimg.visibilities.manual_flags import ManualFlag, check, parse_channels

    flag = ManualFlag(
        tuple(filter(None, antenna.replace(" ", "").split(","))),
        parse_time(since),
        parse_time(until),
        parse_channels(channels),
        reason,
    )
    if flag == ManualFlag(reason=reason):
        raise UsageError("this would flag everything: give --antenna, --from, --to or --channels")
    registry = Registry.of(load_settings(root=root))
    check(
        flag,
        {*DSA110.stations, *known_antennas(registry)},
        DSA110.n_subbands * DSA110.channels_per_file,
    )
    number = add(registry, flag)
    typer.echo(f"{number}: {flag}")


def flags_list(root: RootOption = None) -> None:
    """List the flags given by hand."""
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.registry.manual_flags import known

    for number, flag in known(Registry.of(load_settings(root=root))).items():
        typer.echo(f"{number}: {flag}")


def flags_remove(
    number: Annotated[int, typer.Argument(help="As `flags list` says")], root: RootOption = None
) -> None:
    """Take a flag back; what was processed with it stays as it is."""
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.registry.manual_flags import remove

    remove(Registry.of(load_settings(root=root)), number)
    typer.echo(f"{number}: removed")


def _tables(name: str, root: Path | None) -> list[Path]:
    """Tables of a set by its id or directory, or one table."""
    from dsa110_contimg.artifacts.calibration import BANDPASS_NAME, GAINS_NAME, RECORD_NAME
    from dsa110_contimg.registry.calibration_sets import get_calibration_set
    from dsa110_contimg.registry.database import Registry

    path = Path(name)
    if not path.exists():
        registry = Registry.of(load_settings(root=root))
        path = get_calibration_set(registry, name).path
    if (path / RECORD_NAME).exists():
        return [path / BANDPASS_NAME, path / GAINS_NAME]
    return [path]


def _stand(name: str, standing: str, reason: str, root: Path | None) -> None:
    from dsa110_contimg.registry.calibration_sets import set_standing
    from dsa110_contimg.registry.database import Registry

    set_standing(Registry.of(load_settings(root=root)), name, standing, reason)
    typer.echo(f"{name}: {standing}")

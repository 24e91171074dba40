"""Commands for those who look after the calibration: sets, transits, flags by hand."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsa110_contimg.cli.common import (
    JsonOption,
    RootOption,
    check_picture,
    load_settings,
    parse_time,
    print_json,
)
from dsa110_contimg.cli.tables import ABSENT, Column, present, print_table
from dsa110_contimg.errors import UsageError
from dsa110_contimg.times import MINUTE, iso
from dsa110_contimg.wording import counted

if TYPE_CHECKING:
    from dsa110_contimg.calibration.tables import AntennaSummary
    from dsa110_contimg.registry.calibration_sets import CalibrationSetSummary
    from dsa110_contimg.registry.manual_flags import KnownFlag
    from dsa110_contimg.sky.transits import Transit

SetArgument = Annotated[str, typer.Argument(help="Set by its id, or a table's path")]
ReasonOption = Annotated[str, typer.Option(help="Why; kept with the set")]
_SETS: "tuple[Column[CalibrationSetSummary], ...]" = (
    Column("set", lambda row: row.id),
    Column("observed (UTC)", lambda row: iso(row.observed)),
    Column("Dec (deg)", lambda row: f"{row.apparent_dec_deg:.2f}", True),
    Column("bandpass until", lambda row: iso(row.observed + row.bandpass_valid_s, MINUTE)),
    Column("gains until", lambda row: iso(row.observed + row.gains_valid_s, MINUTE)),
    Column("flagged (%)", lambda row: f"{100 * row.flagged_fraction:.1f}", True),
    Column("S/N", lambda row: f"{row.median_snr:.0f}", True),
    Column("standing", lambda row: row.standing),
    Column("remark", lambda row: row.remark),
)
_ANTENNAS: "tuple[Column[AntennaSummary], ...]" = (
    Column("antenna", lambda row: row.name),
    Column("flagged (%)", lambda row: f"{100 * row.flagged:.1f}", True),
    Column("amplitude", lambda row: f"{row.amplitude:.4g}", True),
    Column("phase (deg)", lambda row: f"{row.phase_deg:+.1f}", True),
    Column("S/N", lambda row: f"{row.snr:.0f}", True),
)
_TRANSITS: "tuple[Column[Transit], ...]" = (
    Column("transit (UTC)", lambda row: iso(row.time_s)),
    Column("LST (h)", lambda row: f"{row.sidereal_deg / 15:.3f}", True),
    Column("source", lambda row: row.name),
    Column("flux density (Jy)", lambda row: f"{row.flux_jy:.2f}", True),
    Column("beam response", lambda row: f"{row.response:.2f}", True),
    Column("from the centre (deg)", lambda row: f"{row.offset_deg:.2f}", True),
)
_FLAGS: "tuple[Column[KnownFlag], ...]" = (
    Column("number", lambda row: str(row.number), True),
    Column("antennas", lambda row: ",".join(row.flag.antennas) or "all"),
    Column("from (UTC)", lambda row: ABSENT if row.flag.start is None else iso(row.flag.start)),
    Column("to (UTC)", lambda row: ABSENT if row.flag.end is None else iso(row.flag.end)),
    Column("channels", lambda row: row.flag.channel_text() or "all"),
    Column("reason", lambda row: row.flag.reason),
)


def caltables_list(root: RootOption = None, as_json: JsonOption = False) -> None:
    """List the calibration sets with validity, declination strip, quality and standing."""
    from dsa110_contimg.registry.calibration_sets import list_calibration_sets
    from dsa110_contimg.registry.database import Registry

    registry = Registry.of(load_settings(root=root), create=False)
    present(list_calibration_sets(registry), _SETS, "no calibration sets", as_json=as_json)


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
            f"{counted(content.n_channels, 'channel')}, reference antenna "
            f"{content.reference_antenna}; "
            f"flagged {100 * content.flagged:.2f} % of the table, "
            f"{100 * content.flagged_alive:.2f} % of the {content.n_alive} antennas not "
            "wholly flagged"
        )
        print_table(content.antennas, _ANTENNAS)


def caltables_plot(
    name: SetArgument,
    output: Annotated[
        Path,
        typer.Option(
            help="Picture to write: .png, .svg or .pdf; of a set one each, such as NAME_gains.png"
        ),
    ],
    root: RootOption = None,
) -> None:
    """Draw amplitude and phase against frequency, one panel an antenna, or against the antenna."""
    from dsa110_contimg.calibration import tables
    from dsa110_contimg.quality import plots

    check_picture(output)
    found = _tables(name, root)
    for path in found:
        table = tables.read(path)
        target = output
        if len(found) > 1:
            target = output.with_name(f"{output.stem}_{path.stem}{output.suffix}")
        target.write_bytes(
            plots.antenna_gains(
                table.frequencies_hz,
                table.gains.values[0],
                table.gains.flags[0],
                table.antenna_names,
                f"{path.parent.name}: {path.name}",
                plots.form_of(output),
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
    min_jy: Annotated[float, typer.Option(help="Minimum apparent flux density, Jy")] = 1.0,
    sky_catalog: Annotated[str | None, typer.Option(help="Catalogue")] = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """The next passages of bright sources through the beam."""
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.registry.tiles import newest_declination_deg
    from dsa110_contimg.sky import catalogues
    from dsa110_contimg.sky.cones import check_declination
    from dsa110_contimg.sky.transits import transits as find
    from dsa110_contimg.telescope import DSA110

    if dec is not None:
        check_declination(dec)
    settings = load_settings(root=root, sky_catalog=sky_catalog)
    if dec is None:
        dec = newest_declination_deg(Registry.of(settings, create=False))
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
    present(found, _TRANSITS, "no transits", as_json=as_json)


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


def flags_list(root: RootOption = None, as_json: JsonOption = False) -> None:
    """List the flags given by hand."""
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.registry.manual_flags import known

    flags = known(Registry.of(load_settings(root=root), create=False))
    present(flags, _FLAGS, "no flags", as_json=as_json)


def flags_remove(
    number: Annotated[int, typer.Argument(help="As `flags list` says")], root: RootOption = None
) -> None:
    """Take a flag back; what was processed with it stays as it is."""
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.registry.manual_flags import remove

    remove(Registry.of(load_settings(root=root), create=False), number)
    typer.echo(f"{number}: removed")


def _tables(name: str, root: Path | None) -> list[Path]:
    """Tables of a set by its id or directory, or one table."""
    from dsa110_contimg.artifacts.calibration import BANDPASS_NAME, GAINS_NAME, RECORD_NAME
    from dsa110_contimg.registry.calibration_sets import get_calibration_set
    from dsa110_contimg.registry.database import Registry

    path = Path(name)
    if not path.exists():
        registry = Registry.of(load_settings(root=root), create=False)
        path = get_calibration_set(registry, name).path
    if (path / RECORD_NAME).exists():
        return [path / BANDPASS_NAME, path / GAINS_NAME]
    return [path]


def _stand(name: str, standing: str, reason: str, root: Path | None) -> None:
    from dsa110_contimg.registry.calibration_sets import set_standing
    from dsa110_contimg.registry.database import Registry

    set_standing(Registry.of(load_settings(root=root), create=False), name, standing, reason)
    typer.echo(f"{name}: {standing}")

"""Commands about the primary beam."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
import typer
from pydantic import BaseModel

from dsa110_contimg.cli.common import (
    JsonOption,
    RootOption,
    check_picture,
    load_settings,
    parse_time,
    print_json,
)
from dsa110_contimg.cli.tables import ABSENT, Column, print_table
from dsa110_contimg.errors import BadInputError, UsageError
from dsa110_contimg.sky.cones import check_declination
from dsa110_contimg.times import iso
from dsa110_contimg.wording import counted

if TYPE_CHECKING:
    from dsa110_contimg.calibration.beam_measurement import BeamMeasurement
    from dsa110_contimg.registry.calibration_sets import CalibrationSetSummary
    from dsa110_contimg.settings import Settings

_COLUMNS = ("ra_deg", "dec_deg", "catalog_flux_jy", "measured_flux_jy", "flux_err_jy")
_FREQUENCIES = 8


class _Beam(BaseModel):
    """Width relative to that of a dish, and pointing, with standard errors."""

    width: float
    width_error: float
    east_arcmin: float
    east_error_arcmin: float
    north_arcmin: float
    north_error_arcmin: float

    def pointing(self) -> str:
        """The pointing in words."""
        return (
            f"{self.east_arcmin:+.2f} +- {self.east_error_arcmin:.2f} arcmin east, "
            f"{self.north_arcmin:+.2f} +- {self.north_error_arcmin:.2f} arcmin north"
        )


class _BeamOfSources(_Beam):
    """A beam and those of its polarizations."""

    n_sources: int
    hands: dict[str, _Beam] = {}

    @classmethod
    def of(cls, beam: "BeamMeasurement", **more: object) -> Self:
        """Make one of a measurement."""
        hands = {hand: one.in_arcmin() for hand, one in zip("xy", beam.hands, strict=False)}
        values = {**beam.in_arcmin(), "n_sources": beam.n_sources, "hands": hands, **more}
        return cls.model_validate(values)

    def words(self) -> str:
        """All of it in words."""
        from dsa110_contimg.telescope import DSA110

        said = (
            f"width {self.width:.4f} +- {self.width_error:.4f} times that of a dish of "
            f"{DSA110.dish_diameter_m:g} m, {self.pointing()}"
        )
        for hand, one in self.hands.items():
            said += f"; {hand.upper()} alone {one.width:.4f} +- {one.width_error:.4f}"
            said += f", {one.pointing()}"
        return said


class _MeasuredBeam(_BeamOfSources):
    """The beam that a calibration set measured."""

    kind: Literal["measured"] = "measured"
    id: str
    observed: float
    apparent_dec_deg: float


class _StoredBeam(_BeamOfSources):
    """A beam that serves later tiles."""

    kind: Literal["stored"] = "stored"
    name: str
    valid_from: float
    dec_min_deg: float
    dec_max_deg: float
    sets: list[str]


def _shape_columns() -> "tuple[Column[_BeamOfSources], ...]":
    def hand_width(row: _BeamOfSources, hand: str) -> str:
        one = row.hands.get(hand)
        return ABSENT if one is None else f"{one.width:.4f} +- {one.width_error:.4f}"

    return (
        Column("width", lambda row: f"{row.width:.4f} +- {row.width_error:.4f}", True),
        Column(
            "east (arcmin)",
            lambda row: f"{row.east_arcmin:+.2f} +- {row.east_error_arcmin:.2f}",
            True,
        ),
        Column(
            "north (arcmin)",
            lambda row: f"{row.north_arcmin:+.2f} +- {row.north_error_arcmin:.2f}",
            True,
        ),
        Column("X width", lambda row: hand_width(row, "x"), True),
        Column("Y width", lambda row: hand_width(row, "y"), True),
        Column("sources", lambda row: str(row.n_sources), True),
    )


_MEASURED: tuple[Column[_MeasuredBeam], ...] = (
    Column("set", lambda row: row.id),
    Column("observed (UTC)", lambda row: iso(row.observed)),
    Column("Dec (deg)", lambda row: f"{row.apparent_dec_deg:.2f}", True),
    *_shape_columns(),
)
_STORED: tuple[Column[_StoredBeam], ...] = (
    Column("stored beam", lambda row: row.name),
    Column("serves from (UTC)", lambda row: iso(row.valid_from)),
    Column("Dec (deg)", lambda row: f"{row.dec_min_deg:g} to {row.dec_max_deg:g}"),
    *_shape_columns(),
    Column("sets", lambda row: str(len(row.sets)), True),
)


def beam_list(root: RootOption = None, as_json: JsonOption = False) -> None:
    """List the primary beams that calibration sets measured, and those stored for later ones."""
    from dsa110_contimg.calibration import stored_beams

    settings = load_settings(root=root)
    measured = [
        _MeasuredBeam.of(
            beam, id=row.id, observed=row.observed, apparent_dec_deg=row.apparent_dec_deg
        )
        for row, beam in _measured_beams(settings)
    ]
    stored = [
        _StoredBeam.of(
            one.beam,
            name=one.name,
            valid_from=one.valid_from,
            dec_min_deg=one.dec_min_deg,
            dec_max_deg=one.dec_max_deg,
            sets=one.set_ids,
        )
        for one in stored_beams.load_all(settings.root)
    ]
    if as_json:
        print_json([*measured, *stored])
        return
    if not measured and not stored:
        typer.echo("no primary beam has been measured", err=True)
    if measured:
        print_table(measured, _MEASURED)
    if stored:
        print_table(stored, _STORED)


def beam_combine(
    name: Annotated[str, typer.Argument(help="Name of the beam that is stored")],
    since: Annotated[str | None, typer.Option(help="Take sets observed from then on")] = None,
    until: Annotated[str | None, typer.Option(help="Take sets observed before")] = None,
    valid_from: Annotated[
        str | None,
        typer.Option(help="Serve tiles observed from then on. Default: the last set taken"),
    ] = None,
    dec_min: Annotated[float, typer.Option(min=-90, max=90, help="Apparent, degrees")] = -90,
    dec_max: Annotated[float, typer.Option(min=-90, max=90, help="Apparent, degrees")] = 90,
    plot: Annotated[Path | None, typer.Option(help="Picture to write: .png, .svg or .pdf")] = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Combine the primary beams of calibration sets, and store the result for later tiles."""
    from dsa110_contimg.calibration import stored_beams
    from dsa110_contimg.calibration.beam import combine
    from dsa110_contimg.calibration.choice import Standing
    from dsa110_contimg.durable import check_new
    from dsa110_contimg.quality import plots

    settings = load_settings(root=root)
    check_picture(plot)
    if plot is not None:
        check_new([plot])
    begin, end = parse_time(since), parse_time(until)
    taken = [
        (row, beam)
        for row, beam in _measured_beams(settings)
        if (begin is None or row.observed >= begin)
        and (end is None or row.observed < end)
        and dec_min <= row.apparent_dec_deg <= dec_max
        and row.standing is not Standing.REJECTED
    ]
    if not taken:
        raise UsageError(
            "no calibration set within these limits has measured its beam; "
            "'dsa110-contimg beam list' shows those that have"
        )
    rows, beams = zip(*taken, strict=True)
    observed = [row.observed for row in rows]
    stored = stored_beams.StoredBeam(
        name,
        parse_time(valid_from) if valid_from is not None else max(observed),
        dec_min,
        dec_max,
        tuple(row.id for row in rows),
        combine(beams),
    )
    path = stored_beams.save(settings.root, stored)
    if plot is not None:
        unit = np.array([1.0, *2 * [60 * np.rad2deg(1.0)]])
        plot.write_bytes(
            plots.beam_history(
                observed,
                np.array([one.values for one in beams]) * unit,
                np.array([one.errors for one in beams]) * unit,
                stored.beam.values * unit,
                stored.beam.errors * unit,
                plots.form_of(plot),
            )
        )
    shown = _BeamOfSources.of(stored.beam)
    if as_json:
        print_json(
            {
                "name": name,
                "path": str(path),
                "valid_from": stored.valid_from,
                "sets": list(stored.set_ids),
            }
            | shown.model_dump()
        )
        return
    typer.echo(f"{path}: {shown.words()}, from {counted(len(rows), 'set')}")
    typer.echo(f"serves tiles observed from {iso(stored.valid_from)} on")


def _measured_beams(
    settings: "Settings",
) -> list[tuple["CalibrationSetSummary", "BeamMeasurement"]]:
    """Calibration sets, and what each measured of its beam without the help of others."""
    from dsa110_contimg.registry.calibration_sets import list_calibration_sets
    from dsa110_contimg.registry.database import Registry

    measured = []
    for row in list_calibration_sets(Registry.of(settings, create=False)):
        beam = row.beam
        if beam is not None:
            alone = replace(beam.alone, hands=beam.hands) if beam.alone is not None else beam
            if alone.n_sources:
                measured.append((row, alone))
    return measured


def beam_fit(
    photometry: Annotated[
        Path, typer.Argument(help=f"Table (.csv, .vot, .fits) with columns {', '.join(_COLUMNS)}")
    ],
    start: Annotated[str, typer.Option(help="When the first tile of the mosaic began")],
    dec: Annotated[float, typer.Option(help="Apparent declination of the strip, degrees")],
    tiles: Annotated[int, typer.Option(min=1, help="Consecutive tiles of the mosaic")] = 10,
    plot: Annotated[Path | None, typer.Option(help="Picture to write: .png, .svg or .pdf")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the primary beam on flux densities of a mosaic that assumed the nominal beam."""
    from dsa110_contimg.calibration import beam_photometry
    from dsa110_contimg.quality import plots
    from dsa110_contimg.sky.catalogue_import import read_columns
    from dsa110_contimg.telescope import DSA110

    check_picture(plot)
    check_declination(dec)
    begin = parse_time(start)
    measured = beam_photometry.MosaicPhotometry(*read_columns(photometry, _COLUMNS))
    found, factor = beam_photometry.measure_beam_on_mosaic(
        measured,
        beam_photometry.drift_scan_pointings(begin, tiles, dec, DSA110),
        np.linspace(DSA110.band_bottom_hz, DSA110.band_top_hz, _FREQUENCIES),
        DSA110,
    )
    if not found.n_sources:
        raise BadInputError(
            f"{photometry}: fewer than six sources of ten times their error lie in the mosaic; "
            "check --start, --tiles and --dec"
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = measured.measured_jy / measured.catalogue_jy
        error = measured.error_jy / measured.catalogue_jy
        before = beam_photometry.declination_trend(measured.dec_deg, ratio, error)
        after = beam_photometry.declination_trend(measured.dec_deg, ratio / factor, error / factor)
    beam = _BeamOfSources.of(found)
    if plot is not None:
        plot.write_bytes(
            plots.ratios_over_declination(
                measured.dec_deg, ratio, ratio / factor, plots.form_of(plot)
            )
        )
    if as_json:
        trends = {
            "trend_per_deg": before[0],
            "trend_error_per_deg": before[1],
            "corrected_trend_per_deg": after[0],
            "corrected_trend_error_per_deg": after[1],
        }
        print_json(beam.model_dump() | trends)
        return
    typer.echo(f"{beam.words()}, from {counted(found.n_sources, 'source')}")
    typer.echo(
        f"ln(measured / catalogue) over declination: {before[0]:+.3f} +- {before[1]:.3f} "
        f"per degree, with this beam {after[0]:+.3f} +- {after[1]:.3f}"
    )
    if plot is not None:
        typer.echo(plot)

"""Commands about the primary beam."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from dsa110_contimg.cli.common import JsonOption, RootOption, load_settings, parse_time, print_json
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.times import iso

_COLUMNS = ("ra_deg", "dec_deg", "catalog_flux_jy", "measured_flux_jy", "flux_err_jy")
_FREQUENCIES = 8


def beam_list(root: RootOption = None, as_json: JsonOption = False) -> None:
    """List the primary beams that were measured, with their errors."""
    from dsa110_contimg.calibration.beam import BeamMeasurement
    from dsa110_contimg.registry import records
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.registry.queries import calibration_sets

    rows = []
    for row in calibration_sets(Registry.of(load_settings(root=root))):
        if row["beam"]:
            beam = records.from_json(BeamMeasurement, row["beam"])
            said = {key: row[key] for key in ("id", "observed", "apparent_dec_deg")}
            rows.append(said | beam.in_arcmin() | {"n_sources": beam.n_sources})
    if as_json:
        print_json(rows)
        return
    for row in rows:
        typer.echo(
            f"{row['id']}  observed {iso(row['observed'])}  Dec {row['apparent_dec_deg']:.2f}  "
            + _words(row)
        )


def beam_fit(
    photometry: Annotated[
        Path, typer.Argument(help=f"Table (.csv, .vot, .fits) with columns {', '.join(_COLUMNS)}")
    ],
    start: Annotated[str, typer.Option(help="When the first tile of the mosaic began")],
    dec: Annotated[float, typer.Option(help="Apparent declination of the strip, degrees")],
    tiles: Annotated[int, typer.Option(min=1, help="Consecutive tiles of the mosaic")] = 10,
    plot: Annotated[Path | None, typer.Option(help="Picture to write (PNG)")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the primary beam on flux densities of a mosaic that assumed the nominal beam."""
    from dsa110_contimg.calibration import beam_photometry
    from dsa110_contimg.quality import plots
    from dsa110_contimg.sky.catalogues import read_columns
    from dsa110_contimg.telescope import DSA110

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
    result: dict[str, float] = found.in_arcmin() | {
        "n_sources": found.n_sources,
        "trend_per_deg": before[0], "trend_error_per_deg": before[1],
        "corrected_trend_per_deg": after[0], "corrected_trend_error_per_deg": after[1],
    }  # fmt: skip
    if plot is not None:
        plot.write_bytes(plots.ratios_over_declination(measured.dec_deg, ratio, ratio / factor))
    if as_json:
        print_json(result)
        return
    typer.echo(f"{_words(result)}, from {found.n_sources} sources")
    typer.echo(
        f"ln(measured / catalogue) over declination: {before[0]:+.3f} +- {before[1]:.3f} "
        f"per degree, with this beam {after[0]:+.3f} +- {after[1]:.3f}"
    )
    if plot is not None:
        typer.echo(plot)


def _words(beam: dict[str, float]) -> str:
    from dsa110_contimg.telescope import DSA110

    return (
        f"width {beam['width']:.4f} +- {beam['width_error']:.4f} times that of a dish of "
        f"{DSA110.dish_diameter_m:g} m, "
        f"{beam['east_arcmin']:+.2f} +- {beam['east_error_arcmin']:.2f} arcmin east, "
        f"{beam['north_arcmin']:+.2f} +- {beam['north_error_arcmin']:.2f} arcmin north"
    )

"""An antenna that stands elsewhere than the files say is found and named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from conftest import SmallRun, make_root, small_options
from dsa110_contimg.artifacts.tiles import SubbandFiles
from dsa110_contimg.calibration import predict
from dsa110_contimg.calibration.options import SolveOptions
from dsa110_contimg.calibration.reference import ReferenceSolution, solve_reference
from dsa110_contimg.cli.main import app
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.pipeline.orchestrator import PipelineOrchestrator
from dsa110_contimg.simulation import hour
from dsa110_contimg.simulation.troubles import Troubles
from dsa110_contimg.stages import graphs
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.visibilities import conversion

pytestmark = pytest.mark.slow

LIMITS = SolveOptions(uv_min_lambda=0.0)
OPTIONS = hour.RunOptions(groups=1, antennas=32, channels=2, integrations=12, rfi=0.0)


def _solve(folder: Path, **wrong: object) -> ReferenceSolution:
    run = hour.prepare(replace(OPTIONS, troubles=Troubles(**wrong)))  # type: ignore[arg-type]
    vis = conversion.read_observation(tuple(run.write(folder, 0)), DSA110).vis
    model = run.sky.model()
    strongest = np.argsort(-predict.mean_apparent_jy(vis, model))[:80]
    return solve_reference(vis, model.select(strongest), LIMITS, overwrite=True)


def test_misplaced_antennas_are_found_with_their_distance(tmp_path: Path) -> None:
    places = {"26": (0.8, -0.5, 0.0), "70": (0.0, 0.0, 2.0), "88": (-4.0, 0.0, 0.0)}
    found = _solve(tmp_path, misplaced_m=places, pointing_scatter_arcmin=4.0).misplaced
    assert [one.antenna for one in found] == list(places)
    # Of the sky at declination 16.2 deg on the meridian, seen from latitude 37.2 deg.
    zenith = np.deg2rad(DSA110.latitude_deg - OPTIONS.apparent_dec_deg)
    for one, (east, north, up) in zip(found, places.values(), strict=True):
        # The gains of the bandpass took a part of it.
        assert one.east_m == pytest.approx(east, rel=0.15, abs=0.15)
        there = north * np.cos(zenith) + up * np.sin(zenith)
        assert one.north_m == pytest.approx(there, rel=0.15, abs=0.15)
        assert 0 < one.error_m < 0.1


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"pointing_scatter_arcmin": 6.0, "beam_width_scatter": 0.03},
        {"refraction_arcsec": 4.0, "position_error_m": 0.01},
    ],
)
def test_antennas_at_their_places_are_left_in_peace(
    tmp_path: Path, wrong: dict[str, float]
) -> None:
    assert _solve(tmp_path, **wrong).misplaced == ()


def test_the_report_and_the_command_name_the_antenna(tmp_path: Path) -> None:
    options = replace(OPTIONS, antennas=24, integrations=8)
    moved = Troubles(misplaced_m={"48": (3.0, 0.0, 0.0)})
    run = hour.prepare(replace(options, troubles=moved))
    incoming = tmp_path / "in"
    incoming.mkdir()
    files = run.write(incoming, 0)
    root = make_root(tmp_path / "root", SmallRun(incoming, run, (tuple(files),)))
    graph = graphs.from_subbands(small_options(root))
    context = PipelineContext(root, [SubbandFiles(files)])
    PipelineOrchestrator(graph).run(context).raise_on_failure()
    (page,) = root.glob("products/mosaics/*.html")
    assert "Antenna 48 stands" in page.read_text()
    done = CliRunner().invoke(app, ["antennas", "--root", str(root)])
    assert done.exit_code == 0, done.output
    assert "antenna 48 stands" in done.output
    assert "m east" in done.output

"""Beams of earlier observations are combined, stored, and help later ones."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from conftest import Processed, SmallRun, make_root, small_options
from dsa110_contimg.artifacts.calibration import SolvedSet
from dsa110_contimg.artifacts.tiles import SubbandFiles
from dsa110_contimg.calibration import stored_beams
from dsa110_contimg.calibration.beam import combine, with_known
from dsa110_contimg.calibration.beam_measurement import BeamMeasurement
from dsa110_contimg.calibration.stored_beams import StoredBeam
from dsa110_contimg.cli.main import app
from dsa110_contimg.errors import BadInputError, UsageError
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.pipeline.orchestrator import PipelineOrchestrator
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.reports.calibration import calibration_section
from dsa110_contimg.settings import load
from dsa110_contimg.sky.beam_shape import AntennaBeams, BeamShape
from dsa110_contimg.stages import graphs

ARCMIN = np.deg2rad(1 / 60)


def _measured(
    width: float, error: float = 0.01, north_arcmin: float = 0.0, n: int = 20
) -> BeamMeasurement:
    return BeamMeasurement(
        BeamShape(width, 0.0, north_arcmin * ARCMIN), error, ARCMIN, ARCMIN, n_sources=n
    )


def _stored(name: str, valid_from: float, **given: object) -> StoredBeam:
    usual = StoredBeam(name, valid_from, -90.0, 90.0, ("a", "b"), _measured(1.05, 0.002))
    return replace(usual, **given)  # type: ignore[arg-type]


def test_measurements_combine_by_their_errors() -> None:
    both = combine([_measured(1.00, 0.01), _measured(1.03, 0.02)])
    assert both.shape.width == pytest.approx((1.00 * 4 + 1.03) / 5)
    # 1.8 = chi-square of one degree of freedom: the errors grow by its root.
    assert both.width_error == pytest.approx(0.01 * np.sqrt(0.8) * np.sqrt(1.8))
    assert both.north_error_rad == pytest.approx(ARCMIN / np.sqrt(2))
    assert both.n_sources == 40


def test_the_error_of_a_combination_is_its_scatter(rng: np.random.Generator) -> None:
    pulls = []
    for _ in range(300):
        some = combine([_measured(1 + 0.01 * rng.normal(), 0.005) for _ in range(20)])
        pulls.append((some.shape.width - 1) / some.width_error)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.15)


def test_beams_of_polarizations_combine_each_by_itself() -> None:
    first, second = (
        replace(_measured(width), hands=(_measured(width - 0.1), _measured(width + 0.1)))
        for width in (1.0, 1.01)
    )
    x, y = combine([first, second]).hands
    assert (x.shape.width, y.shape.width) == pytest.approx((0.905, 1.105))


def test_a_tile_adds_to_what_is_known_unless_its_beam_has_changed() -> None:
    known = _measured(1.05, 0.002)
    antennas = AntennaBeams(("1",), (0.1,), (0.0,), (0.0,))
    near = _measured(1.06, 0.01)
    near = replace(near, shape=replace(near.shape, antennas=antennas))
    both = with_known(near, known)
    assert 1.05 < both.shape.width < 1.0505
    assert both.alone == near
    changed = _measured(1.0, 0.005)
    assert with_known(changed, known).shape == changed.shape
    few = _measured(1.0, n=0)
    assert with_known(few, known).shape == known.shape
    assert with_known(near, None) is near


def test_the_latest_beam_of_the_declination_serves(tmp_path: Path) -> None:
    stored_beams.save(tmp_path, _stored("later", 200.0, dec_min_deg=10.0))
    stored_beams.save(tmp_path, _stored("first", 100.0))
    served = [
        stored_beams.serving(tmp_path, time, dec)
        for time, dec in ((99.0, 20.0), (150.0, 20.0), (250.0, 20.0), (250.0, 5.0))
    ]
    assert [one and one.name for one in served] == [None, "first", "later", "first"]
    assert served[1] == _stored("first", 100.0)


def test_a_beam_that_is_ambiguous_or_exists_is_refused(tmp_path: Path) -> None:
    path = stored_beams.save(tmp_path, _stored("first", 100.0))
    with pytest.raises(UsageError, match="'first' begins at the same time"):
        stored_beams.save(tmp_path, _stored("second", 100.0))
    with pytest.raises(UsageError, match="exists"):
        stored_beams.save(tmp_path, _stored("first", 300.0))
    with pytest.raises(UsageError, match="letters"):
        stored_beams.save(tmp_path, _stored("../first", 300.0))
    path.write_text("{}")
    with pytest.raises(BadInputError, match=r"first\.json.*beam combine"):
        stored_beams.serving(tmp_path, 150.0, 0.0)


def test_a_stored_beam_serves_the_next_night(
    processed: Processed, small_run: SmallRun, tmp_path: Path
) -> None:
    root, runner = make_root(tmp_path / "root", small_run), CliRunner()
    usual = processed.result[SolvedSet]
    wide = replace(_measured(1.0, 1e-5), east_error_rad=1e-6, north_error_rad=1e-6)
    known = replace(wide, shape=BeamShape(1.0, *usual.beam.values[1:].tolist()))
    stored_beams.save(root, _stored("known", usual.observed - 86400, beam=known))
    files = [path for group in small_run.files for path in group]
    stages = graphs.from_subbands(small_options(root))[:2]
    context = PipelineContext(root, [SubbandFiles(files)])
    solved = PipelineOrchestrator(stages).run(context).raise_on_failure()[SolvedSet]
    assert solved.known_beam == "known"
    assert solved.beam.shape.width == pytest.approx(1.0, abs=2e-5)
    assert solved.beam.alone.shape.width == pytest.approx(
        usual.beam.shape.width, abs=usual.beam.width_error
    )
    assert "from the stored beam known and" in calibration_section(solved, None).text
    Registry.of(load(root=root))
    said = runner.invoke(app, ["beam", "list", "--root", str(root)])
    header, row = said.stdout.splitlines()
    assert header.startswith("stored beam")
    assert row.split()[0] == "known"


def test_the_command_combines_what_sets_have_measured(processed: Processed, tmp_path: Path) -> None:
    root, runner = tmp_path / "root", CliRunner()
    shutil.copytree(processed.root / "state", root / "state")
    shutil.copy(processed.root / "contimg.toml", root)
    picture = tmp_path / "beam.png"
    arguments = ["beam", "combine", "first", "--root", str(root), "--json"]
    result = runner.invoke(app, [*arguments, "--plot", str(picture)])
    assert result.exit_code == 0, result.output
    said, solved = json.loads(result.stdout), processed.result[SolvedSet]
    assert said["sets"] == [solved.id]
    assert said["width"] == solved.beam.shape.width
    assert said["valid_from"] == solved.observed
    assert set(said["hands"]) == {"x", "y"}
    for hand in said["hands"].values():
        assert hand["width"] == pytest.approx(1.0, abs=5 * hand["width_error"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    stored = stored_beams.serving(root, solved.observed + 1, 16.0)
    assert stored is not None
    assert stored.name == "first"
    nothing = runner.invoke(app, [*arguments, "--until", "2020-01-01"])
    assert "no calibration set within these limits" in str(nothing.exception)

"""Which calibration set serves, and what happens if none does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import Processed, SmallRun, make_root, small_options
from dsa110_contimg import settings as settings_module
from dsa110_contimg.artifacts.calibration import (
    BANDPASS_NAME,
    GAINS_NAME,
    KnownSet,
    KnownSets,
    SolvedSet,
)
from dsa110_contimg.artifacts.tiles import ConvertedTiles
from dsa110_contimg.calibration import tables
from dsa110_contimg.calibration.choice import Candidate, Choice, Standing, choose
from dsa110_contimg.errors import CalibrationError, NotYetError
from dsa110_contimg.pipeline.context import StageContext
from dsa110_contimg.registry.calibration_sets import add_calibration_set, known_sets
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import CalibrationSet
from dsa110_contimg.sky import catalogues
from dsa110_contimg.stages.calibration_solve import CalibrationSolveStage
from dsa110_contimg.tasks import calibration_sets

HOUR = 3600.0
NOON = 1_771_000_000.0


def _set(name: str, hours: float, **values: object) -> Candidate:
    return replace(Candidate(name, NOON + hours * HOUR, 16.2, 24 * HOUR, HOUR), **values)


def test_a_set_of_the_observation_itself_comes_first() -> None:
    chosen = choose([_set("near", -0.1)], NOON, 16.2, own=_set("own", 0.2))
    assert (chosen.bandpass_id, chosen.gains_id) == ("own", "own")
    assert "another comes first" in chosen.reasons["near"]


def test_bandpass_and_gains_may_come_from_different_sets() -> None:
    sets = [_set("morning", -5), _set("recent", -0.5, bandpass_valid_s=0.0)]
    chosen = choose(sets, NOON, 16.2)
    assert (chosen.bandpass_id, chosen.gains_id) == ("morning", "recent")
    assert choose(sets[::-1], NOON, 16.2) == chosen


def test_strips_are_never_crossed_and_later_sets_are_not_used() -> None:
    sets = [_set("strip", -0.2, apparent_dec_deg=54.6), _set("later", 0.3), _set("old", -30)]
    with pytest.raises(CalibrationError) as refused:
        choose(sets, NOON, 16.2)
    for told in (
        "no acceptable bandpass and no gains",
        "another declination strip (54.60 deg)",
        "observed later",
        "no longer valid",
    ):
        assert told in str(refused.value)


def test_operators_decide() -> None:
    near, far = _set("near", -0.2), _set("far", -0.8)
    assert choose([near, far], NOON, 16.2).gains_id == "near"
    far = replace(far, standing=Standing.PREFERRED)
    assert choose([near, far], NOON, 16.2).gains_id == "far"
    rejected = replace(near, standing=Standing.REJECTED, remark="rain")
    with pytest.raises(CalibrationError, match="near: rejected: rain"):
        choose([rejected], NOON, 16.2)


def _dark_root(directory: Path, small: SmallRun) -> Path:
    """A root whose sky catalogue has no source in the beam."""
    root = make_root(directory, small)
    known = small.run.sky.catalogue("known")
    catalogues.save(root, replace(known, dec_deg=known.dec_deg - 60))
    return root


def _solve(processed: Processed, root: Path, known: KnownSets) -> tuple[SolvedSet, Choice]:
    stage = CalibrationSolveStage(small_options(root).calibrate)
    return stage.run(StageContext(root), processed.result[ConvertedTiles], known)


def test_an_earlier_set_serves_where_nothing_can_be_solved(
    processed: Processed, small_run: SmallRun, tmp_path: Path
) -> None:
    root = _dark_root(tmp_path / "root", small_run)
    solved = processed.result[SolvedSet]
    earlier = replace(solved, id="earlier", observed=solved.observed - 1000)
    other = replace(solved, id="gains", observed=solved.observed - 500, bandpass_valid_s=0.0)
    found, _ = _solve(processed, root, KnownSets((KnownSet(earlier),)))
    assert found == earlier
    both, _ = _solve(processed, root, KnownSets((KnownSet(earlier), KnownSet(other))))
    assert both.id == "earlier+gains"
    for name in (BANDPASS_NAME, GAINS_NAME):
        np.testing.assert_array_equal(
            tables.read(both.path / name).gains.values, tables.read(solved.path / name).gains.values
        )
    assert calibration_sets.load_set(both.path) == both
    registry = Registry.of(settings_module.load(root=root))
    with registry.write() as session:
        for one in (earlier, both):
            add_calibration_set(session, one)
        session.flush()

        def known(at: float) -> list[str]:
            return [k.solved.id for k in known_sets(session, at)]

        assert known(earlier.observed + 3600) == ["earlier"], "no combination of two"
        assert known(earlier.observed + 3 * earlier.bandpass_valid_s) == [], "long out of date"
        session.get_one(CalibrationSet, "earlier").standing = "preferred"
        assert known(earlier.observed + 3 * earlier.bandpass_valid_s) == ["earlier"]


def test_nothing_is_decided_while_earlier_observations_are_open(
    processed: Processed, small_run: SmallRun, tmp_path: Path
) -> None:
    root = _dark_root(tmp_path / "root", small_run)
    with pytest.raises(NotYetError, match="no source in the beam"):
        _solve(processed, root, KnownSets(complete=False))


def test_a_rejected_reference_gives_way_to_its_neighbour(
    processed: Processed, tmp_path: Path
) -> None:
    solved = processed.result[SolvedSet]
    bad = KnownSet(solved, Standing.REJECTED, "dew")
    found, choice = _solve(processed, processed.root, KnownSets((bad,)))
    assert found.tile_id != solved.tile_id
    assert choice.reasons[solved.id] == "rejected: dew"

"""Where the dishes really point, and how wide their beam is, comes out of the sky itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsa110_contimg.calibration import predict
from dsa110_contimg.calibration.beam import DriftingSources, measure_beam
from dsa110_contimg.calibration.options import SolveOptions
from dsa110_contimg.calibration.reference import solve_reference
from dsa110_contimg.simulation import hour
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.beam_shape import NOMINAL_BEAM, BeamShape
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.sky.primary_beam import beam_axis
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.visibilities import conversion, phasing

ARCMIN = np.deg2rad(1 / 60)
CENTRE = (0.7, 0.3)
FREQUENCIES = np.linspace(1.32e9, 1.49e9, 8)


def _drift(n: int = 24) -> np.ndarray:
    """Dish axes of a tile: the sky drifts by 1.29 degrees."""
    offsets = np.deg2rad(1.29) * (np.arange(n) / n - 0.5) / np.cos(CENTRE[1])
    return astrometry.radec_to_vector(CENTRE[0] + offsets, np.full(n, CENTRE[1]))


def _measured(
    true: BeamShape, seed: int, n: int = 24, assumed: BeamShape = NOMINAL_BEAM
) -> DriftingSources:
    rng = np.random.default_rng(seed)
    reach = np.deg2rad(1.6)
    directions = astrometry.radec_to_vector(
        CENTRE[0] + rng.uniform(-reach, reach, n) / np.cos(CENTRE[1]),
        CENTRE[1] + rng.uniform(-reach, reach, n),
    )
    listed = 0.1 * rng.uniform(size=n) ** (-1 / 1.5)
    flux = listed * np.exp(0.05 * rng.normal(size=n))
    flux[:2] *= 2
    part = np.arange(24) // 6

    def seen(shape: BeamShape, jansky: np.ndarray) -> np.ndarray:
        model = SkyModel(directions, jansky, np.full(n, -0.7), 1.4e9)
        apparent = model.apparent_jy(
            beam_axis(_drift(), shape), FREQUENCIES, DSA110.dish_diameter_m / shape.width
        )
        return np.asarray(apparent.mean(axis=2).reshape(4, 6, n).mean(axis=1))

    predicted = seen(assumed, listed)
    noise = 0.002
    measured = 1.3 * seen(true, flux) + noise * rng.normal(size=predicted.shape)
    return DriftingSources(
        SkyModel(directions, listed, np.full(n, -0.7), 1.4e9),
        np.full(n, 0.05),
        part,
        measured / predicted,
        noise / predicted,
        assumed,
    )


@pytest.mark.parametrize(
    "true",
    [
        NOMINAL_BEAM,
        BeamShape(1.08),
        BeamShape(0.95, 3 * ARCMIN, 15 * ARCMIN),
        BeamShape(1.0, -5 * ARCMIN, -12 * ARCMIN),
    ],
)
def test_width_and_pointing_come_back_within_their_errors(true: BeamShape) -> None:
    pulls = []
    for seed in range(12):
        found = measure_beam(_measured(true, seed), _drift(), FREQUENCIES, DSA110.dish_diameter_m)
        pulls.append(
            [
                (found.shape.width - true.width) / found.width_error,
                (found.shape.east_rad - true.east_rad) / found.east_error_rad,
                (found.shape.north_rad - true.north_rad) / found.north_error_rad,
            ]
        )
        assert found.width_error < 0.04
        assert found.north_error_rad < 3 * ARCMIN
    assert np.abs(np.mean(pulls, axis=0)).max() < 1.2
    assert np.std(pulls) < 1.6


def test_the_answer_does_not_depend_on_the_beam_that_was_assumed() -> None:
    true = BeamShape(1.05, 2 * ARCMIN, 9 * ARCMIN)
    first, second = (
        measure_beam(
            _measured(true, 3, assumed=assumed), _drift(), FREQUENCIES, DSA110.dish_diameter_m
        )
        for assumed in (NOMINAL_BEAM, BeamShape(1.04, ARCMIN, 8 * ARCMIN))
    )
    assert first.shape.width == pytest.approx(second.shape.width, abs=0.3 * first.width_error)
    assert first.shape.north_rad == pytest.approx(
        second.shape.north_rad, abs=0.3 * first.north_error_rad
    )


def test_too_few_sources_leave_the_beam_as_it_was() -> None:
    few = _measured(BeamShape(1.2), 1, n=4)
    found = measure_beam(few, _drift(), FREQUENCIES, DSA110.dish_diameter_m)
    assert found.shape == NOMINAL_BEAM
    assert found.n_sources == 0


def test_the_beam_of_a_simulated_tile_is_found_while_it_is_calibrated(tmp_path: Path) -> None:
    options = hour.RunOptions(groups=1, antennas=32, channels=1, seed=5, rfi=0.0)
    run = hour.prepare(options)
    vis = conversion.read_observation(run.write(tmp_path, 0), DSA110).vis
    limits = SolveOptions(uv_min_lambda=0.0)
    # The files' dishes point where they should: a model that is told otherwise finds them.
    wrong = replace(vis, beam=BeamShape(1.05, 0.0, 10 * ARCMIN))
    found = solve_reference(wrong, run.sky.model(), limits).beam
    assert found.shape.width == pytest.approx(1.0, abs=max(0.01, 4 * found.width_error))
    assert found.shape.north_rad == pytest.approx(0.0, abs=max(ARCMIN, 4 * found.north_error_rad))
    assert found.n_sources > 10


def test_a_moved_phase_centre_leaves_the_sky_where_it_is(tmp_path: Path) -> None:
    run = hour.prepare(hour.RunOptions(groups=1, antennas=12, channels=1, seed=5, noise=False))
    vis = conversion.read_observation(run.write(tmp_path, 0), DSA110).vis
    model = run.sky.model()
    vis = replace(vis, data=np.repeat(predict.predict(vis, model)[:, :, None], 2, axis=2))
    ra, dec = vis.phase_centre_rad
    moved = phasing.move_centre(vis, (ra + 0.002, dec + 0.004))
    expected = predict.predict(moved, model)
    assert np.abs(moved.data[:, :, 0] - expected).max() < 1e-3 * np.abs(expected).max()
    assert np.abs(moved.uvw_m - vis.uvw_m).max() > 1.0

"""Crosstalk is constant in the Earth's frame; the sky that drifts stays."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsa110_contimg.calibration import crosstalk, predict
from dsa110_contimg.calibration.crosstalk import Crosstalk
from dsa110_contimg.calibration.options import SolveOptions
from dsa110_contimg.calibration.reference import solve_reference
from dsa110_contimg.calibration.tile import calibrate_tile
from dsa110_contimg.simulation import hour
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.visibilities import conversion
from dsa110_contimg.visibilities.data import Visibilities

_LIMITS = SolveOptions(uv_min_lambda=0.0)
_NOISE_JY = 0.5


@pytest.fixture(scope="module")
def tile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Visibilities, SkyModel, np.ndarray]:
    """A tile in Jy with noise, its model, and which of its pairs are neighbours."""
    run = hour.prepare(hour.RunOptions(groups=1, antennas=40, channels=1, seed=5, rfi=0.0))
    files = run.write(tmp_path_factory.mktemp("tile"), 0)
    vis, model = conversion.read_observation(files, DSA110).vis, run.sky.model()
    noise = np.random.default_rng(1).normal(0, _NOISE_JY, (*vis.data.shape, 2))
    sky = predict.predict(vis, model)
    data = sky[:, :, None] + noise.astype(np.float32).view(np.complex64)[..., 0]
    weights = np.full(data.shape, _NOISE_JY**-2, np.float32)
    return replace(vis, data=data, flags=np.zeros(data.shape, bool), weights=weights), model, sky


def _heard(vis: Visibilities) -> Crosstalk:
    """Some Jy between the twelve nearest pairs, with delays of nanoseconds."""
    rng = np.random.default_rng(2)
    positions = vis.array.positions_itrf_m
    rows = np.flatnonzero(vis.time_index == 0)
    apart = np.linalg.norm(positions[vis.antenna1[rows]] - positions[vis.antenna2[rows]], axis=1)
    nearest = rows[np.argsort(apart)[:12]]
    names = vis.array.names
    pairs = tuple((names[vis.antenna1[r]], names[vis.antenna2[r]]) for r in nearest)
    offset = vis.frequencies_hz - vis.frequencies_hz.mean()
    delay = rng.normal(0, 10e-9, (12, 1, 2))
    phase = rng.uniform(0, 1, (12, 1, 2)) + delay * offset[None, :, None]
    values = rng.uniform(3, 20, (12, 1, 2)) * np.exp(2j * np.pi * phase)
    return Crosstalk(pairs, values.astype(np.complex64), vis.frequencies_hz, np.zeros(12))


def _with(vis: Visibilities, heard: Crosstalk) -> Visibilities:
    vis = replace(vis, data=vis.data.copy())
    crosstalk.subtract_crosstalk(vis, replace(heard, values_jy=-heard.values_jy), None)
    return vis


def test_crosstalk_comes_back(tile: tuple[Visibilities, SkyModel, np.ndarray]) -> None:
    vis, _, sky = tile
    true = _heard(vis)
    seen = _with(vis, true)
    rows = crosstalk.short_rows(seen)
    nothing = np.zeros(sky[rows].shape, bool)
    found = crosstalk.measure_crosstalk(seen.rows(rows), sky[rows], nothing, 0.0)
    assert set(found.pairs) == set(true.pairs)
    order = [found.pairs.index(pair) for pair in true.pairs]
    error = np.abs(found.values_jy[order] - true.values_jy)
    assert np.sqrt(np.mean(error**2)) < 2 * np.sqrt(2) * _NOISE_JY / np.sqrt(vis.times_jd.size)


def test_there_is_none_where_nothing_is_heard(
    tile: tuple[Visibilities, SkyModel, np.ndarray],
) -> None:
    vis, _, sky = tile
    rows = crosstalk.short_rows(vis)
    nothing = np.zeros(sky[rows].shape, bool)
    assert not crosstalk.measure_crosstalk(vis.rows(rows), sky[rows], nothing, 0.0).pairs


def test_sources_without_a_model_are_no_crosstalk(
    tile: tuple[Visibilities, SkyModel, np.ndarray],
) -> None:
    vis, model, sky = tile
    rng = np.random.default_rng(6)
    ra, dec = vis.phase_centre_rad
    faint = SkyModel(
        astrometry.radec_to_vector(ra + rng.normal(0, 0.01, 300), dec + rng.normal(0, 0.01, 300)),
        rng.uniform(0.01, 0.05, 300),
        np.full(300, -0.7),
        model.reference_hz,
    )
    seen = replace(vis, data=vis.data + predict.predict(vis, faint)[:, :, None])
    apparent = predict.mean_apparent_jy(vis, faint)

    def unmodelled(rows: np.ndarray) -> float:
        nothing = np.zeros(sky[rows].shape, bool)
        return crosstalk.unmodelled_power(seen.rows(rows), sky[rows], nothing)

    far = crosstalk.some_long_rows(seen)
    assert unmodelled(far) == pytest.approx(np.sum(apparent**2), rel=0.15)
    true = _heard(vis)
    for heard in (crosstalk.none(vis.frequencies_hz), true):
        rows = crosstalk.short_rows(seen)
        found = crosstalk.measure_crosstalk(
            _with(seen, heard).rows(rows),
            sky[rows],
            np.zeros(sky[rows].shape, bool),
            unmodelled(far),
        )
        assert set(found.pairs) == set(heard.pairs)
        assert found.sky_loss(vis.antennas_present().size) < 0.02
    known = crosstalk.measure_crosstalk(
        seen.rows(rows), sky[rows], np.zeros(sky[rows].shape, bool), 0.0
    )
    assert known.pairs, "they would be, if nobody asked how strong they are"


def test_a_source_without_a_model_keeps_its_flux_density_in_another_tile(
    tile: tuple[Visibilities, SkyModel, np.ndarray],
) -> None:
    vis, model, sky = tile
    # The same sky as another tile sees it, with a source of 0.4 Jy that no catalogue has.
    brightest = int(np.argmax(predict.mean_apparent_jy(vis, model)))
    moved = model.directions[brightest] + np.array([0.0, 0.0, 0.01])
    unknown = SkyModel(
        (moved / np.linalg.norm(moved))[None], np.array([0.4]), np.array([0.0]), model.reference_hz
    )
    source = predict.predict(vis, unknown)
    measured, scales = [], []
    for heard in (crosstalk.none(vis.frequencies_hz), _heard(vis)):
        solution = solve_reference(_with(vis, heard), model, _LIMITS)
        assert set(heard.pairs) <= set(solution.crosstalk.pairs)
        scales.append(np.median(np.abs(solution.gains.values[~solution.gains.flags])))
        assert solution.rfi_fraction < 0.005
        other = _with(replace(vis, data=vis.data + source[:, :, None]), heard)
        result = calibrate_tile(
            replace(other, flags=other.flags.copy(), beam=solution.beam.shape),
            solution.bandpass,
            solution.gains,
            model,
            _LIMITS,
            solution.crosstalk,
        )
        assert result.rfi_fraction < 0.005
        kept = ~result.vis.flags
        left = kept * (result.vis.data - sky[:, :, None])
        power = np.sum(kept * np.abs(source[:, :, None]) ** 2)
        measured.append(np.sum(left * source.conj()[:, :, None]).real / power)
    assert scales[1] == pytest.approx(scales[0], rel=0.002)
    assert measured[1] == pytest.approx(measured[0], abs=0.01)
    assert measured[0] == pytest.approx(1, abs=0.15)


def test_crosstalk_is_kept_in_a_file(tmp_path: Path) -> None:
    frequencies = np.linspace(1.3e9, 1.5e9, 4)
    values = np.arange(8, dtype=np.complex64).reshape(1, 4, 2)
    crosstalk.write(
        tmp_path / "a.npz", Crosstalk((("5", "6"),), values, frequencies, np.array([0.25]))
    )
    found = crosstalk.read(tmp_path / "a.npz", frequencies)
    assert found.pairs == (("5", "6"),)
    assert np.array_equal(found.values_jy, values)
    assert found.sky_loss(2) == 0.25
    assert not crosstalk.read(tmp_path / "a.npz", frequencies[:2]).pairs
    assert not crosstalk.read(tmp_path / "b.npz", frequencies).pairs

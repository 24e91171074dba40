"""One antenna that goes wrong costs one antenna: it is named, put right or left out."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import SmallRun
from dsa110_contimg.calibration.antenna_health import antenna_noise
from dsa110_contimg.calibration.antenna_state import AntennaHealth, AntennaState
from dsa110_contimg.calibration.options import SolveOptions
from dsa110_contimg.calibration.reference import ReferenceSolution, solve_reference
from dsa110_contimg.calibration.tile import CalibratedTile, calibrate_tile
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.visibilities import averaging, conversion
from dsa110_contimg.visibilities.data import Visibilities

LIMITS = SolveOptions(uv_min_lambda=0.0)


class Bench:
    """A tile, the solution of another one, and ways to spoil antennas of the first."""

    def __init__(self, run: SmallRun):
        self.model = run.run.sky.model()
        self._files = run.files[2]
        reference = conversion.read_observation(run.files[1], DSA110).vis
        self.solution: ReferenceSolution = solve_reference(reference, self.model, LIMITS)
        self.healthy = self.calibrated(self.tile())
        steady = [one for one in self.healthy.antennas if one.state is AntennaState.STEADY]
        names = sorted({one.antenna for one in steady})
        self.antenna = next(n for n in names if n != self.solution.reference_antenna)

    def tile(self) -> Visibilities:
        return conversion.read_observation(self._files, DSA110).vis

    def calibrated(self, vis: Visibilities, model: SkyModel | None = None) -> CalibratedTile:
        return calibrate_tile(
            vis, self.solution.bandpass, self.solution.gains, model or self.model, LIMITS
        )

    def with_gain(self, antenna: str, gain: np.ndarray) -> Visibilities:
        """The raw tile, an antenna's signal multiplied by gains of shape (nchan,) or scalar."""
        vis = self.tile()
        index = vis.array.names.index(antenna)
        gain = np.broadcast_to(gain, vis.frequencies_hz.shape)[None, :, None]
        vis.data[vis.antenna1 == index] *= gain
        vis.data[vis.antenna2 == index] *= np.conj(gain)
        return vis

    def rows_of(self, vis: Visibilities, antenna: str) -> np.ndarray:
        index = vis.array.names.index(antenna)
        return np.asarray((vis.antenna1 == index) | (vis.antenna2 == index))


@pytest.fixture(scope="module")
def bench(small_run: SmallRun) -> Bench:
    return Bench(small_run)


def _departed(tile: CalibratedTile) -> list[AntennaHealth]:
    return [one for one in tile.antennas if one.state in ("changed", "failed", "noisy")]


def _unlike(bench: Bench, tile: CalibratedTile) -> float:
    """Largest mean difference of a baseline from the healthy tile, in units of its noise."""
    used = ~(tile.vis.flags | bench.healthy.vis.flags)
    difference = np.where(used, tile.vis.data - bench.healthy.vis.data, 0).sum(axis=(1, 2))
    noise = bench.healthy.noise_jy * np.sqrt(np.maximum(used.sum(axis=(1, 2)), 1))
    return float(np.median(np.abs(difference) / noise))


def test_a_healthy_tile_has_no_departures(bench: Bench) -> None:
    assert _departed(bench.healthy) == []
    amplitudes = [one.amplitude for one in bench.healthy.antennas if one.amplitude_error]
    assert np.std(amplitudes) < 0.05


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_a_jump_of_an_antennas_gain_is_named_and_taken_out(bench: Bench, factor: float) -> None:
    tile = bench.calibrated(bench.with_gain(bench.antenna, np.array(factor)))
    departed = _departed(tile)
    assert {(one.antenna, one.state) for one in departed} == {(bench.antenna, "changed")}
    assert [one.amplitude for one in departed] == pytest.approx([factor] * 2, rel=0.05)
    assert _unlike(bench, tile) < 0.3
    assert tile.flagged_fraction < bench.healthy.flagged_fraction + 0.01


@pytest.mark.parametrize("delay_ns", [8.0, -25.0])
def test_a_slip_of_an_antennas_delay_is_named_and_taken_out(bench: Bench, delay_ns: float) -> None:
    for antenna in (bench.antenna, bench.solution.reference_antenna):
        frequencies = bench.healthy.vis.frequencies_hz
        slope = np.exp(2j * np.pi * 1e-9 * delay_ns * (frequencies - frequencies.mean()))
        tile = bench.calibrated(bench.with_gain(antenna, slope))
        departed = _departed(tile)
        assert {(one.antenna, one.state) for one in departed} == {(antenna, "changed")}
        # The Measurement Set has the conjugate of the file's phases.
        assert [abs(one.delay_ns) for one in departed] == pytest.approx(
            [abs(delay_ns)] * 2, abs=0.2
        )
        assert _unlike(bench, tile) < 0.5
        assert tile.flagged_fraction < bench.healthy.flagged_fraction + 0.01


def test_of_an_antenna_with_one_dead_hand_the_other_is_used(
    bench: Bench, rng: np.random.Generator
) -> None:
    vis = bench.tile()
    rows = bench.rows_of(vis, bench.antenna)
    shape = vis.data[rows, :, 0].shape
    scale = np.abs(vis.data[rows, :, 0]).std()
    vis.data[rows, :, 0] = scale * (rng.normal(size=shape) + 1j * rng.normal(size=shape))
    tile = bench.calibrated(vis)
    (failed,) = _departed(tile)
    assert (failed.antenna, failed.polarization, failed.state) == (bench.antenna, 0, "failed")
    assert tile.vis.flags[rows, :, 0].all()
    left = ~tile.vis.flags[rows, :, 1]
    assert left.mean() > 0.9 * (~bench.healthy.vis.flags[rows, :, 1]).mean()
    samples = averaging.stokes_i_samples(tile.vis, tile.vis.flags, 0.02, 0.0)
    both = averaging.stokes_i_samples(bench.healthy.vis, bench.healthy.vis.flags, 0.02, 0.0)
    assert samples.values.size > 0.99 * both.values.size
    share = rows.mean()
    assert samples.weights.sum() / both.weights.sum() == pytest.approx(1 - share / 2, abs=0.03)


def test_a_noisy_antenna_keeps_its_data_with_less_weight(
    bench: Bench, rng: np.random.Generator
) -> None:
    vis = bench.tile()
    rows = bench.rows_of(vis, bench.antenna)
    noise = bench.healthy.noise_jy * 0.06**2
    extra = rng.normal(size=vis.data[rows].shape) + 1j * rng.normal(size=vis.data[rows].shape)
    vis.data[rows] += 3 * noise * extra
    tile = bench.calibrated(vis)
    departed = _departed(tile)
    assert {(one.antenna, one.state) for one in departed} == {(bench.antenna, "noisy")}
    assert all(5 < one.noise < 20 for one in departed)
    before = np.mean([one.noise for one in bench.healthy.antennas if one.antenna == bench.antenna])
    ratio = tile.vis.weights[rows].sum() / bench.healthy.vis.weights[rows].sum()
    assert ratio == pytest.approx(before / np.mean([one.noise for one in departed]), rel=0.3)


def test_what_the_model_lacks_of_the_sky_is_no_noise(
    bench: Bench, rng: np.random.Generator
) -> None:
    vis = bench.tile()
    noise = np.zeros(len(vis.array.names))
    noise[vis.antennas_present()] = rng.uniform(0.5, 2.0, vis.antennas_present().size)
    sigma = np.sqrt(noise[vis.antenna1] * noise[vis.antenna2])[:, None, None]
    components = rng.normal(size=(2, *vis.data.shape))
    length_m = np.hypot(*vis.uvw_m[:, :2].T)
    lacking = 20.0 * length_m / length_m.max() * np.exp(2j * np.pi * rng.random(len(length_m)))
    data = sigma * (components[0] + 1j * components[1])
    vis = replace(vis, weights=np.ones(data.shape, np.float32), flags=np.zeros(data.shape, bool))
    nothing = np.zeros(data.shape[:2])
    alone = antenna_noise(replace(vis, data=data), nothing)
    seen = antenna_noise(replace(vis, data=data + lacking[:, None, None]), nothing)
    present = vis.antennas_present()
    assert seen[present] == pytest.approx(alone[present], rel=0.25)


def test_a_source_that_doubles_makes_no_antenna_depart(bench: Bench) -> None:
    apparent = bench.model.apparent_jy(
        bench.healthy.vis.pointings, np.array([1.4e9]), DSA110.dish_diameter_m
    )
    brightest = int(apparent.mean(axis=(0, 2)).argmax())
    flux = bench.model.flux_jy.copy()
    flux[brightest] /= 2
    tile = bench.calibrated(bench.tile(), replace(bench.model, flux_jy=flux))
    assert [one for one in _departed(tile) if one.state != "noisy"] == []
    gained = np.abs(tile.phases.values[~tile.phases.flags])
    assert np.allclose(gained, 1), "amplitudes that all antennas have in common stay"

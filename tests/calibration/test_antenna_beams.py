"""Antennas that point elsewhere or have other beams; the array's beam and flux scale stay."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from dsa110_contimg.calibration import predict
from dsa110_contimg.calibration.antenna_beams import measure_antenna_beams
from dsa110_contimg.calibration.directional import peel
from dsa110_contimg.constants import SPEED_OF_LIGHT_M_S
from dsa110_contimg.simulation import hour
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.beam_shape import AntennaBeams, BeamShape
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.sky.primary_beam import voltage_slopes
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.visibilities import conversion, measurement_set
from dsa110_contimg.visibilities.data import Visibilities

_NOISE_JY = 0.5
_ARCMIN = np.deg2rad(1 / 60)


@pytest.fixture(scope="module")
def tile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Visibilities, SkyModel]:
    run = hour.prepare(hour.RunOptions(groups=1, antennas=40, channels=1, seed=5, rfi=0.0))
    files = run.write(tmp_path_factory.mktemp("tile"), 0)
    vis = conversion.read_observation(files, DSA110).vis
    bright = run.sky.model()
    apparent = predict.mean_apparent_jy(vis, bright)
    return vis, bright.select(np.argsort(-apparent)[:40])


def _voltages(
    vis: Visibilities, model: SkyModel, width: np.ndarray, east: np.ndarray, north: np.ndarray
) -> np.ndarray:
    """Airy voltages of each antenna in mid-band over those of the array, straight from places."""
    ra, dec = astrometry.vector_to_radec(vis.beam_axis)
    there_ra, there_dec = astrometry.vector_to_radec(model.directions)

    def voltage(d_east: np.ndarray, d_north: np.ndarray, scale: np.ndarray) -> np.ndarray:
        # The beam's centre moves along great circles that the sky's axes touch.
        l = np.cos(there_dec) * np.sin(there_ra - ra[:, None])
        m = np.sin(there_dec) * np.cos(dec[:, None]) - np.cos(there_dec) * np.sin(
            dec[:, None]
        ) * np.cos(there_ra - ra[:, None])
        r = np.hypot(l[..., None] - d_east, m[..., None] - d_north)
        x = np.pi * vis.dish_m * vis.frequencies_hz.mean() / SPEED_OF_LIGHT_M_S * r / scale
        return np.asarray(2 * special.j1(x) / x)

    zero = np.zeros(1)
    return voltage(east, north, width) / voltage(zero, zero, np.ones(1))


def _observed(vis: Visibilities, model: SkyModel, gains: np.ndarray | None) -> Visibilities:
    apparent = model.apparent_jy(vis.beam_axis, vis.frequencies_hz, vis.dish_m)
    sky = predict.predict_apparent(vis, model.directions, apparent, gains)
    noise = np.random.default_rng(1).normal(0, _NOISE_JY, (*vis.data.shape, 2))
    data = sky[:, :, None] + noise.astype(np.float32).view(np.complex64)[..., 0]
    weights = np.full(data.shape, _NOISE_JY**-2, np.float32)
    return replace(vis, data=data, flags=np.zeros(data.shape, bool), weights=weights)


def _measure(vis: Visibilities, model: SkyModel, strongest: SkyModel) -> AntennaBeams | None:
    sky = predict.predict(vis, model)
    return measure_antenna_beams(vis, sky, strongest)


def test_pointing_and_width_of_each_antenna_come_back(tile: tuple[Visibilities, SkyModel]) -> None:
    vis, model = tile
    rng = np.random.default_rng(3)
    n = len(vis.array.names)
    width = 1 + rng.normal(0, 0.03, n)
    east, north = rng.normal(0, 6 * _ARCMIN, (2, n))
    bright = replace(model, flux_jy=5 * model.flux_jy)
    seen = _observed(vis, bright, _voltages(vis, bright, width, east, north))
    found = _measure(seen, bright, bright)
    assert found is not None
    here = vis.antennas_present()
    values = found.of(vis.array.names)[here]
    for true, measured, error in (
        (np.log(width), values[:, 0], 0.01),
        (east, values[:, 1], 1.0 * _ARCMIN),
        (north, values[:, 2], 1.0 * _ARCMIN),
    ):
        left = measured - (true[here] - np.median(true[here]))
        assert np.std(left) < error
        assert np.corrcoef(measured, true[here])[0, 1] > 0.9


def test_equal_antennas_have_no_beams_of_their_own(tile: tuple[Visibilities, SkyModel]) -> None:
    vis, model = tile
    assert _measure(_observed(vis, model, None), model, model) is None


def test_sources_beside_the_strongest_are_not_taken_for_beams(
    tile: tuple[Visibilities, SkyModel],
) -> None:
    vis, model = tile
    bright = replace(model, flux_jy=np.full(len(model), 5.0))
    seen = _observed(vis, bright, None)
    assert _measure(seen, bright, bright.select(np.arange(10))) is None
    few = bright.select(np.arange(10))
    assert _measure(seen, few, few) is None, "nor where the model does not hold them"


def test_what_only_long_baselines_show_is_no_beam(tile: tuple[Visibilities, SkyModel]) -> None:
    """As sources that these resolve do."""
    vis, model = tile
    rng = np.random.default_rng(3)
    n = len(vis.array.names)
    east, north = rng.normal(0, 6 * _ARCMIN, (2, n))
    bright = replace(model, flux_jy=5 * model.flux_jy)
    equal = _observed(vis, bright, None)
    beams = _observed(vis, bright, _voltages(vis, bright, np.ones(n), east, north))
    length = np.hypot(*vis.uvw_m[:, :2].T)
    longer = (length > np.median(length))[:, None, None]
    assert _measure(beams, bright, bright) is not None
    seen = replace(equal, data=np.where(longer, beams.data, equal.data))
    assert _measure(seen, bright, bright) is None


def test_slopes_are_those_of_the_voltage(tile: tuple[Visibilities, SkyModel]) -> None:
    vis, model = tile
    slopes = voltage_slopes(
        vis.beam_axis, model.directions, float(vis.frequencies_hz.mean()), vis.dish_m
    )
    small, zero, one = np.array([1e-4]), np.zeros(1), np.ones(1)
    steps = [
        (
            _voltages(vis, model, 1 + sign * small, zero, zero),
            _voltages(vis, model, one, sign * small, zero),
            _voltages(vis, model, one, zero, sign * small),
        )
        for sign in (1, -1)
    ]
    inside = np.any(slopes != 0, axis=2)
    assert inside.mean() > 0.5
    for k, (above, below) in enumerate(zip(*steps, strict=True)):
        expected = np.log((above / below)[..., 0][inside]) / (2 * small)
        assert slopes[..., k][inside] == pytest.approx(expected, rel=0.005, abs=0.005)


def test_a_measurement_set_keeps_the_beams(
    tile: tuple[Visibilities, SkyModel], tmp_path: Path
) -> None:
    vis, _ = tile
    shape = BeamShape(
        1.01, 0.001, -0.002, AntennaBeams(("5", "7"), (0.1, 0.2), (0.0, 1e-3), (2e-3, 0.0))
    )
    measurement_set.write(tmp_path / "a.ms", replace(vis, beam=shape))
    assert measurement_set.read(tmp_path / "a.ms").beam == shape


def test_a_strong_source_takes_gains_of_its_own(tile: tuple[Visibilities, SkyModel]) -> None:
    """500 Jy with gains that differ by a per cent and change with time, half a Jy of noise."""
    vis, model = tile
    rng = np.random.default_rng(4)
    apparent = predict.mean_apparent_jy(vis, model)
    strongest = np.array([int(np.argmax(apparent))])
    flux = model.flux_jy.copy()
    flux[strongest] *= 500 / apparent[strongest]
    true = replace(model, flux_jy=flux)
    gains = np.ones((vis.times_jd.size, len(true), len(vis.array.names)), complex)
    time = np.linspace(-1, 1, vis.times_jd.size)[:, None, None]
    own = rng.normal(0, 0.01, (2, 1, 1, gains.shape[2])) + 1j * rng.normal(
        0, 0.01, (2, 1, 1, gains.shape[2])
    )
    gains[:, strongest] *= 1.05 * np.exp(own[0] + own[1] * time)
    seen = _observed(vis, true, gains)
    predicted = predict.predict(seen, true)
    few = true.select(strongest)
    ratio = peel(
        seen,
        seen.flags,
        few,
        few.apparent_jy(vis.beam_axis, vis.frequencies_hz, vis.dish_m),
        predicted,
    )
    left = seen.data - predicted[:, :, None]
    assert np.sqrt(np.mean(np.abs(left) ** 2) / 2) == pytest.approx(_NOISE_JY, rel=0.02)
    assert ratio[0] == pytest.approx(1.05**2, rel=0.005)

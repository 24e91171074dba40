"""What sidelobes hear from far outside the beam is found by its fringes and taken off."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from dsa110_contimg.calibration import predict
from dsa110_contimg.calibration.far_sources import subtract_far_sources
from dsa110_contimg.calibration.options import SolveOptions
from dsa110_contimg.calibration.reference import solve_reference
from dsa110_contimg.calibration.tile import calibrate_tile
from dsa110_contimg.simulation import hour
from dsa110_contimg.simulation.troubles import Troubles
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.visibilities import conversion
from dsa110_contimg.visibilities.data import Visibilities

pytestmark = pytest.mark.slow

MORNING = datetime.fromisoformat("2026-06-21T15:30:00+00:00")
NIGHT = datetime.fromisoformat("2026-06-21T08:30:00+00:00")


def _residual(
    folder: Path, start: datetime, **wrong: float | dict[str, float]
) -> tuple[Visibilities, np.ndarray, hour.Run]:
    """A tile, calibrated with the truth, and the model of its sky."""
    options = hour.RunOptions(
        groups=1,
        antennas=48,
        channels=2,
        seed=5,
        rfi=0.0,
        start=start,
        troubles=Troubles(**wrong),  # type: ignore[arg-type]
    )
    run = hour.prepare(options)
    folder.mkdir(exist_ok=True)
    vis = conversion.read_observation(tuple(run.write(folder, 0)), DSA110).vis
    gains = run.observatory.gains
    names = list(vis.array.names)
    full = np.ones((len(names), vis.frequencies_hz.size, 2), complex)
    stations = run.observatory.antennas
    middle = start.timestamp() + 155.0
    full[stations] = gains.at(middle, vis.frequencies_hz)
    product = full[vis.antenna1] * full[vis.antenna2].conj()
    vis = replace(
        vis,
        data=(vis.data / product).astype(np.complex64),
        weights=(vis.weights * np.abs(product) ** 2).astype(np.float32),
    )
    return vis, predict.predict(vis, run.sky.model()), run


def _short_rms_jy(vis: Visibilities, sky: np.ndarray) -> float:
    """Rms of data minus model on baselines below 60 m, summed over a quarter of the band."""
    lengths = np.linalg.norm(vis.uvw_m, axis=1)
    used = (lengths > 0) & (lengths < 60) & ~vis.flags.any(axis=(1, 2))
    left = (vis.data - sky[:, :, None])[used]
    return float(np.sqrt(np.mean(np.abs(left.reshape(len(left), 4, -1, 2).mean(axis=2)) ** 2)))


@pytest.mark.parametrize(
    ("start", "far"),
    [
        (MORNING, {"Sun": 60.0}),
        (MORNING, {"Sun": 1.0}),
        (NIGHT, {"Cas A": 3.0}),
        (MORNING, {"Tau A": 3.0}),
    ],
)
def test_a_source_in_the_sidelobes_is_named_and_taken_off(
    tmp_path: Path, start: datetime, far: dict[str, float]
) -> None:
    clean, sky, _ = _residual(tmp_path / "clean", start)
    spoilt, _, _ = _residual(tmp_path / "spoilt", start, far_jy=far)
    before, usual = _short_rms_jy(spoilt, sky), _short_rms_jy(clean, sky)
    found = subtract_far_sources(spoilt, sky, np.zeros(sky.shape, bool))
    after = _short_rms_jy(spoilt, sky)
    assert [one.name for one in found] == list(far)
    assert before > 1.2 * usual
    assert after < 1.02 * usual


def test_what_is_beyond_the_fitted_samples_is_flagged_not_guessed(tmp_path: Path) -> None:
    clean, sky, _ = _residual(tmp_path / "clean", MORNING)
    spoilt, _, _ = _residual(tmp_path / "spoilt", MORNING, far_jy={"Sun": 60.0})
    left_out = np.zeros(sky.shape, bool)
    left_out[:, :5] = left_out[:, 20] = True
    subtract_far_sources(spoilt, sky, left_out)
    lengths = np.linalg.norm(spoilt.uvw_m, axis=1)
    short = (lengths > 0) & (lengths < 60) & ~clean.flags.all(axis=(1, 2))
    heard = spoilt.flags[short][:, :4].all(axis=1)
    assert heard.mean() > 0.9
    assert np.array_equal(spoilt.flags[:, 6:], clean.flags[:, 6:]), "gaps are bridged"
    far_apart = lengths > 260
    assert np.array_equal(spoilt.flags[far_apart], clean.flags[far_apart])


@pytest.mark.parametrize("wrong", [{"refraction_arcsec": 2.0}, {"crosstalk_jy": 30.0}])
def test_nothing_is_taken_off_where_there_is_nothing(
    tmp_path: Path, wrong: dict[str, float]
) -> None:
    for start in (MORNING, NIGHT):
        vis, sky, run = _residual(tmp_path / start.strftime("%H"), start, **wrong)
        known = run.sky.model()
        # Two of the strongest sources that the model does not hold.
        apparent = predict.mean_apparent_jy(vis, known)
        sky -= predict.predict(vis, known.select(np.argsort(-apparent)[3:5]))
        before = vis.data.copy()
        assert subtract_far_sources(vis, sky, np.zeros(sky.shape, bool)) == ()
        assert np.array_equal(vis.data, before)


def test_gains_are_those_of_a_night_and_the_tile_says_what_was_taken_off(tmp_path: Path) -> None:
    limits = SolveOptions(uv_min_lambda=0.0)
    solved = {}
    for name, far in (("clean", {}), ("sunny", {"Sun": 60.0})):
        options = hour.RunOptions(
            groups=1,
            antennas=32,
            channels=1,
            seed=5,
            rfi=0.0,
            start=MORNING,
            troubles=Troubles(far_jy=far),
        )
        run = hour.prepare(options)
        (tmp_path / name).mkdir()
        files = tuple(run.write(tmp_path / name, 0))
        raw = conversion.read_observation(files, DSA110).vis
        solution = solve_reference(raw, run.sky.model(), limits)
        tile = calibrate_tile(
            conversion.read_observation(files, DSA110).vis,
            solution.bandpass,
            solution.gains,
            run.sky.model(),
            limits,
        )
        solved[name] = solution, tile
    (clean, dark), (sunny, light) = solved["clean"], solved["sunny"]
    assert dark.far_sources == ()
    assert [one.name for one in light.far_sources] == ["Sun"]
    used = ~(clean.gains.flags | sunny.gains.flags)
    ratio = np.abs(sunny.gains.values / clean.gains.values)[used]
    assert used.sum() == (~clean.gains.flags).sum()
    assert np.std(ratio) < 0.02
    # What is left of the Sun counts as noise: 6.4 % more was measured.
    assert light.noise_jy == pytest.approx(dark.noise_jy, rel=0.08)
    assert light.flagged_fraction < dark.flagged_fraction + 0.05

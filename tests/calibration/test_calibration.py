"""Known gains come back, through noise and interference; tables keep them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import Processed, SmallRun
from dsa110_contimg.artifacts.calibration import SolvedSet
from dsa110_contimg.artifacts.tiles import CalibratedTiles, ConvertedTiles
from dsa110_contimg.calibration import predict, source_fluxes, tables
from dsa110_contimg.calibration.apply import apply_gains
from dsa110_contimg.calibration.bandpass import solve_channels
from dsa110_contimg.calibration.gains import Gains, refer_phases
from dsa110_contimg.calibration.intervals import interpolated_in_frequency
from dsa110_contimg.calibration.options import SolutionOptions, SolveOptions
from dsa110_contimg.calibration.reference import solve_reference
from dsa110_contimg.calibration.solve import Baselines, solve_gains
from dsa110_contimg.calibration.source_scale import FluxScale
from dsa110_contimg.calibration.tile import calibrate_tile
from dsa110_contimg.errors import BadInputError, CalibrationError
from dsa110_contimg.sky import flux_scale
from dsa110_contimg.sky.flux_scale import Calibrator
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.stage_options import CalibrationApplyOptions
from dsa110_contimg.tasks.calibration_apply import apply
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.visibilities import conversion, measurement_set


def _array(nant: int, ntime: int) -> tuple[np.ndarray, np.ndarray]:
    i, j = np.triu_indices(nant, 1)
    return np.tile(i, ntime), np.tile(j, ntime)


def _truth(nant: int, nchan: int, rng: np.random.Generator) -> np.ndarray:
    shape = (nant, nchan, 2)
    return rng.uniform(0.7, 1.3, shape) * np.exp(1j * rng.uniform(-np.pi, np.pi, shape))


def _corrupt(
    gains: np.ndarray,
    model: np.ndarray,
    a1: np.ndarray,
    a2: np.ndarray,
    sigma: float,
    rng: np.random.Generator,
) -> np.ndarray:
    data = gains[a1] * np.conj(gains[a2]) * model[:, :, None]
    return data + sigma * (rng.normal(size=data.shape) + 1j * rng.normal(size=data.shape))


def _solve(
    data: np.ndarray,
    model: np.ndarray,
    weights: np.ndarray,
    a1: np.ndarray,
    a2: np.ndarray,
    nant: int,
) -> Gains:
    return solve_gains(
        data,
        model,
        weights,
        Baselines(a1, a2, nant),
        np.zeros(a1.size, int),
        np.arange(data.shape[1]),
        SolutionOptions(),
    )


@pytest.mark.parametrize(
    ("jansky", "rfi", "dead"), [(3.0, 0.0, 0), (0.8, 0.0, 0), (3.0, 0.05, 3), (0.8, 0.05, 3)]
)
def test_known_gains_come_back_near_the_theoretical_error(
    jansky: float, rfi: float, dead: int, rng: np.random.Generator
) -> None:
    nant, ntime, nchan, sigma = 30, 24, 4, 0.5
    a1, a2 = _array(nant, ntime)
    gains = _truth(nant, nchan, rng)
    gains[:dead] = 0
    phase = rng.uniform(-np.pi, np.pi, (a1.size, nchan))
    model = jansky * (1 + 0.3 * np.exp(1j * phase))
    data = _corrupt(gains, model, a1, a2, sigma, rng)
    hit = rng.uniform(size=data.shape) < rfi
    data[hit] += 50 * sigma * np.exp(2j * np.pi * rng.uniform(size=int(hit.sum())))
    weights = np.full(data.shape, sigma**-2, np.float32)
    found = _solve(data, model, weights, a1, a2, nant)
    assert found.flags[0, :dead].all()
    assert not found.flags[0, dead:].any()
    turn = np.exp(1j * np.angle(np.sum(found.values[0] * np.conj(gains), axis=0, keepdims=True)))
    error = np.abs(found.values[0] * np.conj(turn) - gains)[dead:]
    # Cramer-Rao for one antenna when the others are known, per complex gain.
    power = np.zeros((nant, nchan))
    for a in range(nant):
        rows = (a1 == a) | (a2 == a)
        partner = np.where(a1 == a, a2, a1)[rows]
        power[a] = np.sum(
            np.abs(model[rows]) ** 2 * (np.abs(gains[partner]) ** 2).mean(axis=2), axis=0
        )
    bound = np.sqrt(2 * sigma**2 / power[dead:])[:, :, None]
    limit = 1.3 if rfi == 0 else 1.5
    assert np.sqrt(np.mean((error / bound) ** 2)) < limit


def test_a_burst_in_a_quarter_of_the_time_hardly_changes_what_is_thought_of_the_noise(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Few samples, as of a full-size tile: at equal distances (14) they were half of the burst.
    monkeypatch.setattr("dsa110_contimg.calibration.solve._NOISE_SAMPLES", 55680 // 14)
    nant, ntime, nchan = 30, 24, 16
    a1, a2 = _array(nant, ntime)
    model = np.ones((a1.size, nchan), complex)
    quiet = _corrupt(_truth(nant, nchan, rng), model, a1, a2, 0.5, rng)
    burst = quiet.copy()
    late = np.arange(a1.size) // (a1.size // ntime) // 6 == 2
    burst[late] += 10 * np.exp(2j * np.pi * rng.uniform(size=(int(late.sum()), nchan, 2)))
    weights = np.ones(quiet.shape, np.float32)
    calm, hit = (_solve(data, model, weights, a1, a2, nant) for data in (quiet, burst))
    assert np.median(hit.snr) == pytest.approx(np.median(calm.snr), rel=0.3)


def test_an_antenna_without_enough_baselines_is_flagged_and_nothing_else(
    rng: np.random.Generator,
) -> None:
    nant = 12
    a1, a2 = _array(nant, 4)
    model = np.ones((a1.size, 2), complex)
    data = _corrupt(_truth(nant, 2, rng), model, a1, a2, 0.01, rng)
    weights = np.ones(data.shape, np.float32)
    weights[((a1 == 5) | (a2 == 5)) & (a1 + a2 > 7)] = 0
    found = _solve(data, model, weights, a1, a2, nant)
    assert found.flags[0, 5].all()
    assert not np.delete(found.flags[0], 5, axis=0).any()


def test_a_hand_without_signal_is_flagged_whatever_the_minimum_signal(
    rng: np.random.Generator,
) -> None:
    """Its gain is zero, by which nothing can be divided."""
    nant = 12
    a1, a2 = _array(nant, 4)
    model = np.ones((a1.size, 2), complex)
    gains = _truth(nant, 2, rng)
    gains[3, :, 1] = 0
    found = solve_gains(
        _corrupt(gains, model, a1, a2, 0.0, rng),
        model,
        np.ones((a1.size, 2, 2), np.float32),
        Baselines(a1, a2, nant),
        np.zeros(a1.size, int),
        np.arange(2),
        SolutionOptions(min_snr=0.0),
    )
    assert found.flags[0, 3, :, 1].all()
    assert found.flags.sum() == 2


def test_data_without_any_weight_are_an_error_not_a_solution(rng: np.random.Generator) -> None:
    a1, a2 = _array(10, 2)
    nothing = np.zeros((a1.size, 1, 2), np.float32)
    with pytest.raises(CalibrationError, match="no antenna has enough"):
        _solve(nothing.astype(complex), np.ones((a1.size, 1)), nothing, a1, a2, 10)


def test_the_reference_antenna_is_chosen_by_name_and_falls_back() -> None:
    values = np.exp(1j * np.arange(3.0))[None, :, None, None] * np.ones((1, 3, 1, 2))
    flags = np.zeros(values.shape, bool)
    flags[0, 1] = True
    gains = Gains(values, flags, np.ones(values.shape, np.float32))
    turned, name = refer_phases(gains, ("102", "103", "104"), ("103", "104"))
    assert name == "104"
    assert np.allclose(np.angle(turned.values[0, 2]), 0)
    assert np.allclose(np.angle(turned.values[0, 0]), -2)


def test_bandpass_and_gains_calibrate_a_simulated_tile_to_its_true_sky(small_run: SmallRun) -> None:
    observation = conversion.read_observation(small_run.files[1], DSA110)
    model = small_run.run.sky.model()
    limits = SolveOptions(uv_min_lambda=0.0)
    vis = observation.vis
    solution = solve_reference(vis, model, limits)
    amplitude = np.abs(solution.bandpass.values[0]) ** 2
    used = ~solution.bandpass.flags[0]
    alive = used.any(axis=1)
    power = np.sum(np.where(used, amplitude, 0), axis=1)[alive] / used.sum(axis=1)[alive]
    assert np.allclose(power, 1)
    calibrated = calibrate_tile(vis, solution.bandpass, solution.gains, model, limits)
    apparent = model.apparent_jy(vis.pointings, vis.frequencies_hz, DSA110.dish_diameter_m)
    good = ~calibrated.vis.flags[:, :, 0]
    # The mean visibility towards the brightest source is its apparent flux density.
    brightest = int(apparent.mean(axis=(0, 2)).argmax())
    from dsa110_contimg.calibration.predict import predict_apparent

    only = np.zeros_like(apparent[:, [brightest]]) + 1
    phase = predict_apparent(vis, model.directions[[brightest]], only)
    others = apparent.copy()
    others[:, brightest] = 0
    rest = predict_apparent(vis, model.directions, others)
    seen = np.mean(((calibrated.vis.data[:, :, 0] - rest) * np.conj(phase))[good].real)
    assert seen == pytest.approx(apparent[:, brightest].mean(), rel=0.02)


def test_the_strongest_source_alone_does_not_set_the_flux_scale(small_run: SmallRun) -> None:
    vis = conversion.read_observation(small_run.files[1], DSA110).vis
    truth = small_run.run.sky.model()
    limits = SolveOptions(uv_min_lambda=0.0)
    apparent = truth.apparent_jy(vis.pointings, vis.frequencies_hz, DSA110.dish_diameter_m)
    brightest = int(apparent.mean(axis=(0, 2)).argmax())
    listed = truth.flux_jy.copy()
    listed[brightest] /= 0.6
    outdated = replace(truth, flux_jy=listed)
    no_rfi = np.zeros(vis.data.shape[:2], bool)
    fooled = solve_channels(vis, predict.predict(vis, outdated), no_rfi, limits)
    expected = solve_reference(vis, truth, limits)
    found = solve_reference(vis, outdated, limits)
    assert _power(fooled) / _power(expected.gains) < 0.65
    assert _power(found.gains) / _power(expected.gains) == pytest.approx(1.0, abs=0.03)
    assert found.flux_scale.error < 0.03
    ((ra, dec, factor),) = [one for one in found.flux_scale.unlike if one[2] < 0.8]
    assert factor == pytest.approx(0.6, abs=0.03)
    assert (ra, dec) == pytest.approx(
        (small_run.run.sky.ra_deg[brightest], small_run.run.sky.dec_deg[brightest])
    )


def _power(gains: Gains) -> float:
    """Median power gain; with frequency, its mean over the band."""
    used = ~gains.flags
    power = np.where(used, np.abs(gains.values) ** 2, 0).sum(axis=2) / used.sum(axis=2).clip(1)
    return float(np.median(power[used.any(axis=2)]))


def test_sources_that_tell_nothing_have_no_say_in_the_flux_scale(small_run: SmallRun) -> None:
    vis = conversion.read_observation(small_run.files[1], DSA110).vis
    truth = small_run.run.sky.model()
    limits = SolveOptions(uv_min_lambda=0.0)
    no_rfi = np.zeros(vis.data.shape[:2], bool)
    brightest = int(truth.flux_jy.argmax())
    places = np.array([brightest] * 21 + [brightest + 1])
    flux = truth.flux_jy[places] * np.append(np.zeros(20), [1, 1])
    twin = replace(truth.select(places), flux_jy=flux)
    measured, scale, _ = source_fluxes.measure(vis, twin, no_rfi, limits)
    assert np.isfinite(measured.flux_jy).all()
    assert measured.flux_jy[20] == pytest.approx(truth.flux_jy[brightest], rel=0.1)
    silent = replace(vis, flags=np.ones_like(vis.flags))
    same, scale, _ = source_fluxes.measure(silent, truth, no_rfi, limits)
    assert same is truth
    assert scale.n_sources == 0
    with pytest.raises(CalibrationError):
        solve_reference(silent, truth, limits)


def test_another_tile_s_model_takes_over_what_is_unlike_the_catalogue(small_run: SmallRun) -> None:
    sky = small_run.run.sky
    model = sky.model()
    told = FluxScale(5, 0.01, ((float(sky.ra_deg[3]), float(sky.dec_deg[3]), 0.5),))
    changed = source_fluxes.as_measured(model, told)
    expected = model.flux_jy.copy()
    expected[3] *= 0.5
    assert changed.flux_jy == pytest.approx(expected)
    assert source_fluxes.as_measured(model, None) is model


def test_a_primary_calibrator_keeps_its_flux_density(small_run: SmallRun) -> None:
    vis = conversion.read_observation(small_run.files[1], DSA110).vis
    truth = small_run.run.sky.model()
    limits = SolveOptions(uv_min_lambda=0.0)
    # All others are listed 8 % too bright: the majority, but not by Perley and Butler.
    apparent = truth.apparent_jy(vis.pointings, vis.frequencies_hz, DSA110.dish_diameter_m)
    brightest = int(apparent.mean(axis=(0, 2)).argmax())
    listed = truth.flux_jy * 1.08
    listed[brightest] = truth.flux_jy[brightest]
    no_rfi = np.zeros(vis.data.shape[:2], bool)
    with pytest.MonkeyPatch.context() as patch:
        here = Calibrator("3C1", 0.0, 0.0, ())
        known = truth.directions[brightest]
        patch.setattr(
            flux_scale, "at_position", lambda place: here if np.allclose(place, known) else None
        )
        measured, scale, _ = source_fluxes.measure(
            vis, replace(truth, flux_jy=listed), no_rfi, limits
        )
    assert measured.flux_jy[brightest] / truth.flux_jy[brightest] == pytest.approx(1.0, abs=0.03)
    assert scale.error < 0.015


def test_an_empty_sky_model_is_an_error(small_run: SmallRun) -> None:
    vis = conversion.read_observation(small_run.files[0], DSA110).vis
    nothing = SkyModel(np.zeros((0, 3)), np.zeros(0), np.zeros(0), 1.4e9)
    limits = SolveOptions(uv_min_lambda=0.0, reference_antennas=("103",))
    with pytest.raises(CalibrationError, match="no source in the beam"):
        solve_reference(vis, nothing, limits)


def test_applying_gains_divides_data_multiplies_weights_and_spreads_flags(
    small_run: SmallRun, rng: np.random.Generator
) -> None:
    vis = conversion.read_observation(small_run.files[0], DSA110).vis
    values = np.ones((1, 117, 1, 2), complex) * 2j
    flags = np.zeros(values.shape, bool)
    flags[0, vis.antenna1[0], 0, 1] = True
    done = apply_gains(vis, Gains(values, flags, np.ones(values.shape, np.float32)))
    assert np.allclose(done.data, vis.data / 4)
    assert np.allclose(done.weights, np.where(done.flags, 0, vis.weights * 16))
    touched = (vis.antenna1 == vis.antenna1[0]) | (vis.antenna2 == vis.antenna1[0])
    assert done.flags[touched, :, 1].all()
    assert np.array_equal(done.flags[:, :, 0], vis.flags[:, :, 0])


def test_errors_of_gains_do_not_lower_flux_densities(
    small_run: SmallRun, rng: np.random.Generator
) -> None:
    vis = conversion.read_observation(small_run.files[0], DSA110).vis
    nrow, nchan, npol = 2000, 192, 2
    vis = replace(
        vis.rows(slice(0, nrow)),
        frequencies_hz=1.311e9 + 0.98e6 * np.arange(nchan),
        data=np.ones((nrow, nchan, npol), np.complex64),
        flags=np.zeros((nrow, nchan, npol), bool),
        weights=np.ones((nrow, nchan, npol), np.float32),
    )
    shape, snr = (1, 117, nchan, npol), 10.0
    noise = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / snr
    gains = Gains(1 + noise, np.zeros(shape, bool), np.full(shape, snr, np.float32))
    done = apply_gains(vis, gains)
    mean = np.sum(done.weights * done.data.real) / np.sum(done.weights)
    # With each gain's own power for a weight it is 0.96.
    assert mean == pytest.approx(1.0, abs=0.01)


def test_tables_keep_gains_flags_and_names(processed: Processed, tmp_path: Path) -> None:
    solved = processed.result[SolvedSet]
    tile = processed.result[ConvertedTiles].tiles[0]
    table = tables.read(solved.path / "bandpass.b")
    assert table.kind == "B Jones"
    assert table.reference_antenna == solved.reference_antenna
    tables.write(tmp_path / "again.b", table, tile.ms_path)
    again = tables.read(tmp_path / "again.b")
    assert np.array_equal(again.gains.values, table.gains.values)
    assert np.array_equal(again.gains.flags, table.gains.flags)
    assert again.antenna_names == table.antenna_names
    with pytest.raises(BadInputError, match="never overwritten"):
        tables.write(tmp_path / "again.b", table, tile.ms_path)


def test_a_converted_measurement_set_stays_as_it_was(processed: Processed) -> None:
    raw = processed.result[ConvertedTiles].tiles[0]
    calibrated = processed.result[CalibratedTiles].tiles[0]
    assert calibrated.ms_path != raw.ms_path
    names = {p.name for p in raw.ms_path.iterdir()}
    assert "table.f0" in names
    vis = measurement_set.read(raw.ms_path)
    assert np.median(np.abs(vis.data)) < 0.1, "raw units, not Jy"
    weights = measurement_set.read(calibrated.ms_path).weights
    assert calibrated.noise_jy == pytest.approx(1 / np.sqrt(np.median(weights[weights > 0])))


def test_a_bandpass_of_other_channels_is_refused(processed: Processed, tmp_path: Path) -> None:
    solved = processed.result[SolvedSet]
    tile = processed.result[ConvertedTiles].tiles[0]
    vis = measurement_set.read(tile.ms_path)
    shifted = replace(vis, frequencies_hz=vis.frequencies_hz + 1e6)
    measurement_set.write(tmp_path / "other.ms", shifted)
    other = replace(tile, ms_path=tmp_path / "other.ms")
    options = CalibrationApplyOptions(sky_catalog="known")
    with pytest.raises(BadInputError, match="channels are not those of the data"):
        apply(other, solved, tmp_path / "out.ms", processed.root, options)


@pytest.mark.real
def test_the_real_tables_read_with_the_flagged_fractions_that_are_known(
    real_data: Path, tmp_path: Path
) -> None:
    import tarfile

    with tarfile.open(real_data / "dsa110_caltables_2025-10-13.tgz") as archive:
        archive.extractall(tmp_path, filter="data")
    absent = {10, 21, 22, 23, *range(52, 68), 117}
    present = np.array([n - 1 for n in range(1, 118) if n not in absent])
    for name, shares in (("bpcal", (29.42, 13.99, 10.25)), ("gpcal", (29.41, 13.96, 2.83))):
        (path,) = tmp_path.glob(f"*{name}")
        flags = tables.read(path).gains.flags[0]
        here = flags[present]
        alive = here[~here.all(axis=(1, 2))]
        found = tuple(100 * float(f.mean()) for f in (flags, here, alive))
        assert found == pytest.approx(shares, abs=0.01)


def test_cross_hands_take_one_gain_of_each_hand(
    small_run: SmallRun, rng: np.random.Generator
) -> None:
    vis = conversion.read_observation(small_run.files[0], DSA110).vis
    full = replace(
        vis,
        data=np.repeat(vis.data, 2, axis=2),
        flags=np.repeat(vis.flags, 2, axis=2),
        weights=np.repeat(vis.weights, 2, axis=2),
        polarizations=(-5, -7, -8, -6),
    )
    shape = (1, len(vis.array.names), 1, 2)
    values = rng.uniform(1, 2, shape) * np.exp(1j * rng.uniform(-3, 3, shape))
    gains = Gains(values, np.zeros(shape, bool), np.ones(shape, np.float32))
    done = apply_gains(full, gains)
    g = values[0, :, 0]
    for pol, (q, r) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        factor = (g[vis.antenna1, q] * np.conj(g[vis.antenna2, r]))[:, None]
        np.testing.assert_allclose(done.data[:, :, pol], full.data[:, :, pol] / factor, rtol=1e-4)
    solved = _solve(
        full.data,
        np.ones(full.data.shape[:2]),
        full.weights,
        *(np.unique(a, return_inverse=True)[1] for a in (vis.antenna1, vis.antenna2)),
        np.unique([vis.antenna1, vis.antenna2]).size,
    )
    assert solved.values.shape[3] == 2


def test_a_weak_bandpass_is_solved_in_wider_bins_and_interpolated(rng: np.random.Generator) -> None:
    nant, nchan = 24, 64
    a1, a2 = _array(nant, 12)
    ramp = np.linspace(-1, 1, nchan)
    slopes = rng.uniform(-0.5, 0.5, (nant, 1, 2))
    gains = rng.uniform(0.8, 1.2, (nant, 1, 2)) * np.exp(1j * slopes * ramp[None, :, None])
    model = 0.4 * np.exp(1j * rng.uniform(-np.pi, np.pi, (a1.size, nchan)))
    data = _corrupt(gains, model, a1, a2, 1.2, rng)
    weights = np.full(data.shape, 1.0, np.float32)
    single = _solve(data, model, weights, a1, a2, nant)
    bins = np.arange(nchan) // 8
    coarse = solve_gains(
        data,
        model,
        weights,
        Baselines(a1, a2, nant),
        np.zeros(a1.size, int),
        bins,
        SolutionOptions(),
    )
    wide = interpolated_in_frequency(coarse, bins, 1e9 + 1e6 * np.arange(nchan))
    assert wide.values.shape == single.values.shape

    def error(found: Gains) -> float:
        turn = np.exp(1j * np.angle(np.sum(found.values[0] * np.conj(gains), axis=0)))
        return float(np.sqrt(np.mean(np.abs(found.values[0] * np.conj(turn) - gains) ** 2)))

    assert error(wide) < 0.6 * error(single)
    assert wide.flags.mean() < single.flags.mean()


def test_the_width_of_a_bandpass_solution_follows_the_strength_of_the_sky(
    small_run: SmallRun,
) -> None:
    model = small_run.run.sky.model()
    limits = SolveOptions(uv_min_lambda=0.0)
    vis = conversion.read_observation(small_run.files[1], DSA110).vis
    strong = solve_reference(vis, model, limits)
    assert strong.channels_per_solution == 1
    noise = np.random.default_rng(2).normal(0, 1, (*vis.data.shape, 2)).astype(np.float32)
    loud = 10 * np.median(np.abs(vis.data)) * noise.view(np.complex64)[..., 0]
    weak = solve_reference(replace(vis, data=vis.data + loud), model, limits)
    assert weak.channels_per_solution > 1
    assert weak.bandpass.values.shape == strong.bandpass.values.shape


@pytest.mark.parametrize("scatter", [0.0, 0.01, 0.03, 0.2])
def test_sources_tell_how_well_the_catalogue_knows_them(
    scatter: float, rng: np.random.Generator
) -> None:
    found = []
    for _ in range(50):
        noise = 10 ** rng.uniform(-4, -1.5, 24)
        off = rng.normal(0, np.hypot(scatter, noise))
        off[0] = 1.0  # one source has doubled
        found.append(source_fluxes.catalogue_scatter(off, noise))
    expected = float(np.clip(scatter, 0.003, 0.05))
    assert np.median(found) == pytest.approx(expected, rel=0.25)
    assert source_fluxes.catalogue_scatter(off[:9], noise[:9]) == 0.05


def test_a_catalogue_that_agrees_sets_the_scale_by_the_strong_sources(small_run: SmallRun) -> None:
    vis = conversion.read_observation(small_run.files[1], DSA110).vis
    truth = small_run.run.sky.model()
    limits = SolveOptions(uv_min_lambda=0.0)
    no_rfi = np.zeros(vis.data.shape[:2], bool)
    _, exact, _ = source_fluxes.measure(vis, truth, no_rfi, limits)
    spread = np.random.default_rng(3).normal(1.0, 0.1, len(truth))
    listed = replace(truth, flux_jy=truth.flux_jy * spread)
    _, rough, _ = source_fluxes.measure(vis, listed, no_rfi, limits)
    assert exact.error < 0.5 * rough.error

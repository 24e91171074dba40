"""Images hold the flux density and position that went in."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits

from conftest import Processed
from dsa110_contimg.artifacts.tiles import CalibratedTiles
from dsa110_contimg.calibration import predict
from dsa110_contimg.constants import ARCSEC_RAD, SPEED_OF_LIGHT_M_S
from dsa110_contimg.errors import ImagingError, UsageError
from dsa110_contimg.imaging import clean, fits_image, gridding, restore, weighting
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.imaging.options import CleanOptions, TileImageOptions
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.imaging.tile import image_tile
from dsa110_contimg.sky import astrometry, primary_beam
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.stage_options import ImagingOptions
from dsa110_contimg.tasks.imaging import image
from dsa110_contimg.visibilities import averaging, measurement_set
from dsa110_contimg.visibilities.averaging import Samples

CELL = 8 * ARCSEC_RAD
NPIX = 256


def _samples(rng: np.random.Generator, sources: list[tuple[float, float, float]]) -> Samples:
    """Sources as (column offset, row offset, Jy) from the centre, in pixels."""
    uvw = rng.normal(size=(4000, 3)) * np.array([900, 700, 200.0])
    values = np.zeros(4000, complex)
    for column, row, jansky in sources:
        l, m = -column * CELL, row * CELL
        n = np.sqrt(1 - l**2 - m**2)
        values += jansky * np.exp(2j * np.pi * (uvw @ np.array([l, m, n - 1])))
    weights = rng.uniform(0.5, 1.5, 4000).astype(np.float32)
    return Samples(
        uvw,
        values.astype(np.complex64),
        weights,
        np.zeros(4000, np.float32),
        np.full(4000, 1.4e9, np.float32),
        np.zeros(4000, np.int32),
        np.zeros((1, 3)),
        np.ones(1, int),
    )


def test_the_dirty_image_is_the_direct_fourier_sum(rng: np.random.Generator) -> None:
    samples = _samples(rng, [(30, -50, 1.0)])
    dirty = gridding.dirty_image(samples, samples.values, samples.weights, NPIX, CELL)
    assert dirty[128 - 50, 128 + 30] == pytest.approx(1.0, abs=1e-3)
    for row, column in ((10, 20), (200, 130), (78, 158)):
        l, m = -(column - 128) * CELL, (row - 128) * CELL
        n = np.sqrt(1 - l**2 - m**2)
        kernel = np.exp(-2j * np.pi * (samples.uvw_lambda @ np.array([l, m, n - 1])))
        direct = np.sum((samples.weights * samples.values * kernel).real) / samples.weights.sum()
        assert dirty[row, column] == pytest.approx(direct, abs=1e-3)


def test_prediction_is_the_inverse_of_the_sky(rng: np.random.Generator) -> None:
    samples = _samples(rng, [(30, -50, 1.0), (-20, 11, 0.5)])
    sky = np.zeros((NPIX, NPIX), np.float32)
    sky[128 - 50, 128 + 30], sky[128 + 11, 128 - 20] = 1.0, 0.5
    assert np.abs(gridding.model_values(samples, sky, CELL) - samples.values).max() < 1e-3


def test_one_thread_gives_the_same_bytes_twice(rng: np.random.Generator) -> None:
    samples = _samples(rng, [(3.3, -5.1, 1.0)])
    one, two = (
        gridding.dirty_image(samples, samples.values, samples.weights, NPIX, CELL) for _ in "ab"
    )
    assert one.tobytes() == two.tobytes()


def test_briggs_weights_follow_the_formula(rng: np.random.Generator) -> None:
    samples = _samples(rng, [])
    natural = weighting.imaging_weights(samples.uvw_lambda, samples.weights, NPIX, CELL, "natural")
    assert np.array_equal(natural, samples.weights)
    upper = samples.uvw_lambda[:, :2].copy()
    upper[upper[:, 1] < 0] *= -1
    padded = 2 * int(np.ceil(0.6 * NPIX))
    cells = np.floor(upper * padded * CELL).astype(int)
    gridded: dict[tuple[int, int], float] = {}
    for cell, w in zip(map(tuple, cells.tolist()), samples.weights.tolist(), strict=True):
        gridded[cell] = gridded.get(cell, 0.0) + w
    density = np.array([gridded[c] for c in map(tuple, cells.tolist())])
    squares = sum(w**2 for w in gridded.values())
    for robust in (-1.0, 0.5, 2.0):
        f2 = (5 * 10**-robust) ** 2 / (squares / samples.weights.sum())
        found = weighting.imaging_weights(
            samples.uvw_lambda, samples.weights, NPIX, CELL, "briggs", robust
        )
        assert np.allclose(found, samples.weights / (1 + density * f2), rtol=1e-4)


def test_the_fitted_beam_is_the_core_and_not_the_sidelobes_that_touch_it() -> None:
    core = RestoringBeam(7 * CELL, 4 * CELL, np.deg2rad(90))
    psf = core.image(NPIX, CELL)
    for row, column in ((8, 0), (-8, 0), (3, 15), (-3, -15)):
        psf += 0.38 * np.roll(core.image(NPIX, CELL), (row, column), (0, 1))
    found = restore.fit_beam(psf / psf.max(), CELL)
    assert found.major_rad == pytest.approx(core.major_rad, rel=0.1)
    assert found.minor_rad == pytest.approx(core.minor_rad, rel=0.1)


@pytest.mark.parametrize("angle_deg", [0.0, 30.0, 90.0, 150.0])
def test_the_fitted_beam_is_the_beam_that_was_drawn(angle_deg: float) -> None:
    beam = RestoringBeam(6.5 * CELL, 4.2 * CELL, np.deg2rad(angle_deg))
    found = restore.fit_beam(beam.image(NPIX, CELL), CELL)
    assert found.major_rad == pytest.approx(beam.major_rad, rel=1e-4)
    assert found.minor_rad == pytest.approx(beam.minor_rad, rel=1e-4)
    difference = np.rad2deg(found.position_angle_rad) - angle_deg
    assert abs((difference + 90) % 180 - 90) < 0.1


def test_a_beam_pointing_north_east_is_drawn_towards_smaller_columns() -> None:
    drawn = RestoringBeam(8 * CELL, 4 * CELL, np.deg2rad(45)).image(65, CELL)
    assert drawn[36, 28] > drawn[36, 36]


def test_restoring_puts_each_component_back_with_its_flux() -> None:
    model = np.zeros((NPIX, NPIX), np.float32)
    model[40, 200], model[2, 3] = 2.0, 1.0
    beam = RestoringBeam(6 * CELL, 4 * CELL, 0.3)
    restored = restore.restore(model, np.zeros_like(model), beam, CELL)
    assert restored[40, 200] == pytest.approx(2.0, rel=1e-5)
    assert restored[2, 3] == pytest.approx(1.0, rel=1e-5)
    assert restored[-20:, -20:].max() < 1e-6, "nothing wraps around"


def test_clean_finds_sources_between_pixels(rng: np.random.Generator) -> None:
    sources = [(20.3, -30.4, 1.0), (-60.0, 44.5, 0.2)]
    samples = _samples(rng, sources)
    noise = 0.02 * (rng.normal(size=4000) + 1j * rng.normal(size=4000))
    noisy = Samples(
        samples.uvw_lambda,
        (samples.values + noise).astype(np.complex64),
        samples.weights,
        samples.time,
        samples.frequency_hz,
        samples.baseline,
        samples.smearing,
        samples.integrations,
    )
    result = clean.clean(
        noisy,
        noisy.weights,
        NPIX,
        CELL,
        CleanOptions(niter=5000, auto_mask_sigma=4, auto_threshold_sigma=1, max_major=20),
    )
    restored = restore.restore(result.model, result.residual, result.beam, CELL)
    picture = fits_image.Image(
        restored, (1.0, 0.3), (128.0, 128.0), CELL, "SIN", result.beam, "Jy/beam", 1.4e9
    )
    from dsa110_contimg.sources.photometry import measure_at

    columns, rows = 128 + np.array([s[0] for s in sources]), 128 + np.array([s[1] for s in sources])
    ra, dec = picture.wcs.all_pix2world(columns, rows, 0)
    found = measure_at(picture, np.full(restored.shape, 1e-3), ra, dec)
    assert found.peak_jy == pytest.approx([1.0, 0.2], rel=0.02)
    assert np.abs(found.offset_east_rad).max() < 0.05 * result.beam.major_rad
    assert np.abs(found.offset_north_rad).max() < 0.05 * result.beam.major_rad


def test_bands_together_take_off_a_source_that_changes_along_the_band(
    rng: np.random.Generator,
) -> None:
    steady = _samples(rng, [(20.3, -30.4, 1.0)])
    hz = rng.uniform(1.3e9, 1.5e9, steady.weights.size)
    slope = 1 + 3 * (hz / 1.4e9 - 1)
    noise = 0.01 * (rng.normal(size=hz.size) + 1j * rng.normal(size=hz.size))
    samples = replace(
        steady,
        values=(steady.values * slope + noise).astype(np.complex64),
        frequency_hz=hz.astype(np.float32),
    )
    one, four = (
        clean.clean(
            samples,
            samples.weights,
            NPIX,
            CELL,
            CleanOptions(niter=3000, auto_mask_sigma=4, auto_threshold_sigma=1, bands=n),
        )
        for n in (1, 4)
    )
    assert restore.robust_rms(four.residual) < 0.5 * restore.robust_rms(one.residual)
    assert four.model.sum() == pytest.approx(slope.mean(), rel=0.02)


def test_several_scales_hold_extended_emission_that_points_do_not(rng: np.random.Generator) -> None:
    width = 8 * CELL
    steady = _samples(rng, [(0.0, 0.0, 1.0)])
    uv2 = np.sum(steady.uvw_lambda[:, :2] ** 2, axis=1)
    disc = 5.0 * np.exp(-uv2 * (np.pi * width) ** 2 / (4 * np.log(2)))
    noise = 0.01 * (rng.normal(size=uv2.size) + 1j * rng.normal(size=uv2.size))
    samples = replace(steady, values=(disc + noise).astype(np.complex64))
    points, scales = (
        clean.clean(
            samples,
            samples.weights,
            NPIX,
            CELL,
            CleanOptions(
                niter=30000,
                auto_mask_sigma=4,
                auto_threshold_sigma=1,
                deconvolver="multiscale" if on else "hogbom",
            ),
        )
        for on in (False, True)
    )
    assert scales.model.sum() == pytest.approx(5.0, rel=0.05)
    assert scales.n_iterations < points.n_iterations
    assert restore.robust_rms(scales.residual) <= 1.05 * restore.robust_rms(points.residual)


def test_the_noise_map_follows_the_noise(rng: np.random.Generator) -> None:
    ramp = np.linspace(1, 3, 512)[None, :]
    found = restore.local_rms(rng.normal(size=(512, 512)) * ramp, 64)
    assert found.shape == (512, 512)
    np.testing.assert_allclose(found[:, 64:-64], (ramp * np.ones((512, 1)))[:, 64:-64], rtol=0.12)


def test_q_is_half_the_difference_and_a_taper_widens_the_beam(
    processed: Processed, tmp_path: Path
) -> None:
    vis = measurement_set.read(processed.result[CalibratedTiles].tiles[1].ms_path)
    halved = replace(vis, data=vis.data * np.array([1.2, 0.8], np.float32))
    measurement_set.write(tmp_path / "polarized.ms", halved, spectral_weights=True)
    options = ImagingOptions(
        sky_catalog="known", size=256, averaging_loss=0.0, stokes="IQ", subtract_outside=False
    )
    made = image(tmp_path / "polarized.ms", tmp_path / "p", processed.root, options)
    total, q = (read_fits(made.file(kind)) for kind in ("image", "q"))
    peak = np.unravel_index(total.pixels.argmax(), total.pixels.shape)
    assert q.pixels[peak] == pytest.approx(0.2 * total.pixels[peak], rel=0.05)
    with fits.open(made.file("q")) as hdus:
        assert hdus[0].header["STOKES"] == "Q"
    wide = image(
        tmp_path / "polarized.ms",
        tmp_path / "wide",
        processed.root,
        options.model_copy(update={"stokes": "I", "taper_arcsec": 400.0}),
    )
    assert wide.beam_minor_rad > 1.5 * made.beam_minor_rad


def test_wsclean_may_image_instead(processed: Processed, tmp_path: Path) -> None:
    calibrated = processed.result[CalibratedTiles].tiles[1].ms_path
    options = ImagingOptions(
        sky_catalog="known", size=256, averaging_loss=0.0, subtract_outside=False
    )
    theirs_options = options.model_copy(update={"imager": "wsclean"})
    if shutil.which("wsclean") is None:
        with pytest.raises(UsageError, match="not installed"):
            image(calibrated, tmp_path / "theirs", processed.root, theirs_options)
        return
    ours = image(calibrated, tmp_path / "ours", processed.root, options)
    theirs = image(calibrated, tmp_path / "theirs", processed.root, theirs_options)
    # It fits a restoring beam of its own, which shows in the highest pixel.
    assert theirs.peak_jy == pytest.approx(ours.peak_jy, rel=0.15)
    assert theirs.cell_arcsec == ours.cell_arcsec
    assert theirs.n_major > 0
    assert theirs.file("pbcor").exists()


def test_a_diverging_clean_is_an_error(processed: Processed, tmp_path: Path) -> None:
    """A dozen antennas do not hold components down to twice the noise."""
    calibrated = processed.result[CalibratedTiles].tiles[1].ms_path
    options = ImagingOptions(
        sky_catalog="known",
        size=256,
        averaging_loss=0.0,
        subtract_outside=False,
        auto_mask_sigma=2.0,
    )
    with pytest.raises(
        ImagingError, match=r"CLEAN diverged in major cycle 3.*raise --auto-mask-sigma"
    ):
        image(calibrated, tmp_path / "deep", processed.root, options)


def test_flagged_data_are_an_error(rng: np.random.Generator) -> None:
    samples = _samples(rng, [])
    with pytest.raises(ImagingError, match="every visibility is flagged"):
        nothing = np.zeros(4000, np.float32)
        clean.clean(
            samples,
            nothing,
            NPIX,
            CELL,
            CleanOptions(niter=0, auto_mask_sigma=4, auto_threshold_sigma=1),
        )


@pytest.mark.parametrize("allowed", [0.001, 0.01])
def test_averaging_loses_what_it_says_and_no_more_than_allowed(allowed: float) -> None:
    """A source at the field's edge, on baselines of 20 to 400 m; the loss is known to a tenth."""
    rng = np.random.default_rng(7)
    nant, ntime, nchan = 12, 24, 64
    positions = np.cumsum(rng.uniform(5, 40, nant))
    i, j = np.triu_indices(nant, 1)
    hour_angle = (np.arange(ntime) - ntime / 2) * 12.88 * 7.292e-5
    b = positions[i] - positions[j]
    uvw = np.stack(
        [
            np.outer(np.cos(hour_angle), b),
            np.outer(np.sin(hour_angle), 0.3 * b),
            np.outer(np.sin(hour_angle), b),
        ],
        axis=-1,
    ).reshape(-1, 3)
    frequencies = np.linspace(1.3e9, 1.5e9, nchan)
    radius = 0.02
    for l, m in ((radius, 0.0), (0.0, radius), (radius / 1.5, -radius / 1.5)):
        n = np.sqrt(1 - l**2 - m**2)
        turns = (uvw @ np.array([l, m, n - 1]))[:, None] * frequencies / SPEED_OF_LIGHT_M_S
        data = np.repeat(np.exp(2j * np.pi * turns)[..., None], 2, axis=2).astype(np.complex64)
        ones = np.ones(data.shape, np.float32)
        vis = SimpleNamespace(
            data=data,
            weights=ones,
            uvw_m=uvw,
            antenna1=np.tile(i, ntime),
            antenna2=np.tile(j, ntime),
            time_index=np.repeat(np.arange(ntime), i.size),
            frequencies_hz=frequencies,
        )
        unflagged = np.zeros(data.shape, bool)
        samples = averaging.stokes_i_samples(vis, unflagged, radius, allowed)
        phase = np.exp(-2j * np.pi * (samples.uvw_lambda @ np.array([l, m, n - 1])))
        seen = np.sum(samples.weights * (samples.values * phase).real) / samples.weights.sum()
        assert 1 - allowed <= seen <= 1 + 1e-6
        lost = samples.mean_smearing(samples.weights) @ np.array([l * l, 2 * l * m, m * m])
        assert 1 - seen == pytest.approx(lost, abs=0.1 * allowed)
        assert samples.weights.size < data.shape[0] * nchan / 3
        assert samples.weights.sum() == pytest.approx(2 * data.shape[0] * nchan)


def test_half_power_of_the_dish_is_where_theory_puts_it() -> None:
    angle = 0.5145 * SPEED_OF_LIGHT_M_S / 1.4e9 / 4.65
    assert primary_beam.power_response(np.sin(angle), np.array(1.4e9), 4.65) == pytest.approx(
        0.5, abs=2e-3
    )


def test_the_effective_beam_is_the_weighted_mean_over_the_drift() -> None:
    ra = 2.0 + np.deg2rad(np.linspace(-0.6, 0.6, 9))
    pointings = astrometry.radec_to_vector(ra, np.full(9, 0.3))
    frequencies = np.array([1.32e9, 1.48e9])
    weights = np.random.default_rng(1).uniform(size=(9, 2))
    cell = 30 * ARCSEC_RAD
    beam = primary_beam.effective_beam(pointings, frequencies, weights, 4.65, (2.0, 0.3), 400, cell)
    for row, column in ((200, 200), (13, 390), (300, 77)):
        l, m = -(column - 200) * cell, (row - 200) * cell
        source = np.array([l, m, np.sqrt(1 - l**2 - m**2)]) @ astrometry.tangent_axes(2.0, 0.3)
        sin_theta = np.sin(astrometry.separation_rad(pointings, source))
        response = primary_beam.power_response(sin_theta[:, None], frequencies[None], 4.65)
        assert beam[row, column] == pytest.approx(np.average(response, weights=weights), abs=2e-5)


def test_fits_files_keep_everything_and_are_never_overwritten(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).normal(size=(40, 60)).astype(np.float32)
    pixels[3, 4] = np.nan
    beam = RestoringBeam(5 * CELL, 4 * CELL, 1.0)
    made = fits_image.Image(
        pixels, (5.9, 0.28), (31.0, 22.0), CELL, "TAN", beam, "Jy/beam", 1.4e9, {"METHOD": "mean"}
    )
    fits_image.write_fits(tmp_path / "a.fits", made)
    read = read_fits(tmp_path / "a.fits")
    assert np.array_equal(read.pixels, pixels, equal_nan=True)
    assert read.reference_pixel == made.reference_pixel
    assert read.cell_rad == pytest.approx(CELL)
    assert read.beam is not None
    assert read.beam.position_angle_rad == pytest.approx(1.0)
    assert read.header["METHOD"] == "mean"
    with pytest.raises(UsageError, match="exists already"):
        fits_image.write_fits(tmp_path / "a.fits", made)


def test_a_casa_image_reads_back_equal_to_the_fits(tmp_path: Path) -> None:
    from casacore import images

    pixels = np.random.default_rng(2).normal(size=(40, 60)).astype(np.float32)
    pixels[:5] = np.nan
    beam = RestoringBeam(5 * CELL, 4 * CELL, 1.0)
    made = fits_image.Image(pixels, (5.9, 0.28), (31.0, 22.0), CELL, "TAN", beam, "Jy/beam", 1.4e9)
    fits_image.write_fits(tmp_path / "a.fits", made)
    fits_image.write_casa_image(tmp_path / "a.image", tmp_path / "a.fits")
    back = images.image(str(tmp_path / "a.image"))
    finite = np.isfinite(pixels)
    assert np.array_equal(back.getdata().squeeze()[finite], pixels[finite])
    assert np.array_equal(back.getmask().squeeze(), ~finite)
    assert back.unit() == "Jy/beam"
    info = back.info()["imageinfo"]["restoringbeam"]
    assert info["major"]["value"] == pytest.approx(5 * CELL / ARCSEC_RAD, rel=1e-5)


@pytest.mark.parametrize("weighting", ["briggs", "natural"])
def test_a_cell_that_is_stated_holds_and_what_it_costs_is_said(
    weighting: str, processed: Processed, tmp_path: Path
) -> None:
    calibrated = processed.result[CalibratedTiles].tiles[0]
    options = ImagingOptions.model_validate(
        {"sky_catalog": "known", "size": 128, "cell_arcsec": "90arcsec", "weighting": weighting}
    )
    made = image(calibrated.ms_path, tmp_path / "x", processed.root, options)
    assert (made.size, made.cell_arcsec) == (128, 90)
    assert "cells across the beam (minor axis) with 90 arcsec" in made.remarks[0]
    # Baselines that the grid cannot hold are dropped, not folded back: the flux density stays.
    picture, truth = read_fits(made.file("pbcor")), processed.run.sky
    brightest = int(truth.flux_jy.argmax())
    x, y = picture.wcs.all_world2pix(truth.ra_deg[brightest], truth.dec_deg[brightest], 0)
    j, i = round(float(y)), round(float(x))
    seen = picture.pixels[j - 1 : j + 2, i - 1 : i + 2].max() / truth.flux_jy[brightest]
    assert 0.75 < seen < 1.05


def test_the_model_is_never_added_back_into_an_image(processed: Processed, tmp_path: Path) -> None:
    """Data of pure noise give an image of pure noise, whatever the catalogue holds."""
    from dataclasses import replace

    calibrated = processed.result[CalibratedTiles].tiles[1]
    vis = measurement_set.read(calibrated.ms_path)
    rng = np.random.default_rng(5)
    with np.errstate(divide="ignore"):
        sigma = np.where(vis.weights > 0, 1 / np.sqrt(vis.weights), 0)
    noise = sigma * (rng.normal(size=vis.data.shape) + 1j * rng.normal(size=vis.data.shape))
    measurement_set.write(
        tmp_path / "noise.ms", replace(vis, data=noise.astype(np.complex64)), spectral_weights=True
    )
    options = ImagingOptions(
        sky_catalog="known", size=256, niter=0, averaging_loss=0, subtract_outside=True
    )
    with_model = image(tmp_path / "noise.ms", tmp_path / "a", processed.root, options)
    apparent = read_fits(with_model.file("image"))
    truth = processed.run.sky
    brightest = int(truth.flux_jy.argmax())
    x, y = apparent.wcs.all_world2pix(truth.ra_deg[brightest], truth.dec_deg[brightest], 0)
    assert truth.flux_jy[brightest] == 6.0
    assert abs(apparent.pixels[round(float(y)), round(float(x))]) < 0.05


@pytest.mark.parametrize("jansky", [0.3, 3.0])
def test_a_source_near_the_edge_stays_in_the_image(processed: Processed, jansky: float) -> None:
    vis = measurement_set.read(processed.result[CalibratedTiles].tiles[0].ms_path)
    size, cell = 512, 3.5 * ARCSEC_RAD
    from_edge = 8
    m = (size // 2 - from_edge) * cell
    axes = astrometry.tangent_axes(*vis.phase_centre_rad)
    places = np.array([[0.0, 0.001, np.sqrt(1 - 1e-6)], [0.0, m, np.sqrt(1 - m * m)]]) @ axes
    model = SkyModel(places, np.array([3.0, jansky]), np.full(2, -0.7), 1.4e9)
    sky = predict.predict(vis, model)
    sigma = 1 / np.sqrt(np.maximum(vis.weights, 1e-6))[..., None]
    noise = sigma * np.random.default_rng(5).normal(size=(*vis.data.shape, 2))
    data = sky[:, :, None] + noise.astype(np.float32).view(np.complex64)[..., 0]
    seen = replace(vis, data=data)
    options = TileImageOptions(
        size=size, cell_arcsec=cell / ARCSEC_RAD, robust=0.5, niter=5000, auto_mask_sigma=4.0
    )
    tile = image_tile(seen, model, options)
    assert tile.apparent.shape == (size, size)
    row, middle = size - from_edge, size // 2
    peak = tile.apparent[row - 1 : row + 2, middle - 1 : middle + 2].max()
    assert peak == pytest.approx(predict.mean_apparent_jy(vis, model)[1], rel=0.1)


def test_the_best_robustness_leaves_the_least_noise_and_sidelobes(rng: np.random.Generator) -> None:
    samples = _samples(rng, [(0.0, 0.0, 1.0)])
    # Dense enough that weights by density and by noise differ much.
    samples = replace(samples, uvw_lambda=0.1 * samples.uvw_lambda)
    uvw, natural = samples.uvw_lambda, samples.weights

    def variance(robust: float, unmodelled_jy: float) -> float:
        """Of an image of noise and of one source at an unknown place."""
        weights = weighting.imaging_weights(uvw, natural, NPIX, CELL, "briggs", robust)
        psf = gridding.dirty_image(samples, samples.values, weights, NPIX, CELL)
        thermal2 = np.sum(weights.astype(float) ** 2 / natural) / weights.sum(dtype=float) ** 2
        return float(thermal2 + unmodelled_jy**2 * np.mean(psf**2, dtype=float))

    none = weighting.best_robust(uvw, natural, NPIX, CELL, 0.0)
    assert none == weighting.ROBUST
    tried = np.geomspace(0.1, 1e4, 60) / np.sqrt(natural.sum(dtype=float))
    found = np.array([weighting.best_robust(uvw, natural, NPIX, CELL, one) for one in tried])
    assert (found[0], found[-1]) == (0.5, -0.5)
    inside = np.flatnonzero(np.abs(found) < 0.4)
    for k in inside[[0, -1]]:
        best = variance(found[k], tried[k])
        assert best < variance(found[k] + 0.5, tried[k])
        assert best < variance(found[k] - 0.5, tried[k])


@pytest.mark.parametrize("length", [1, 4, 5, 24])
def test_integrations_share_in_samples_as_they_were_averaged(
    rng: np.random.Generator, length: int
) -> None:
    values, ntime = rng.normal(size=24), 24
    blocks = [np.arange(ntime)[k : k + length] for k in range(0, ntime, length)]
    count = len(blocks)
    samples = replace(
        _samples(rng, []).select(slice(count)),
        time=np.array([block.mean() for block in blocks], np.float32),
        integrations=np.array([length]),
    )
    shares, kind = averaging.integration_shares(samples, ntime)
    assert (shares @ values)[kind] == pytest.approx([values[block].mean() for block in blocks])


def test_a_sample_of_few_integrations_counts_with_their_mean_time(rng: np.random.Generator) -> None:
    samples = replace(
        _samples(rng, []).select(slice(3)),
        time=np.array([0.5, 20.5, 23.0], np.float32),
        integrations=np.array([24]),
    )
    shares, kind = averaging.integration_shares(samples, 24)
    assert shares.sum(axis=1) == pytest.approx(1.0)
    assert (shares @ np.arange(24.0))[kind] == pytest.approx([0.5, 20.5, 23.0])

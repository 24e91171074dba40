"""A known sky through a known instrument comes back: flux in every ring of the beam, and noise."""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from dsa110_contimg.artifacts.tiles import CalibratedTiles, ImagedTile, ImagedTiles, SubbandFiles
from dsa110_contimg.calibration.predict import predict_apparent
from dsa110_contimg.imaging import tile as tile_imaging
from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.imaging.options import SelfCalibrationOptions, TileImageOptions
from dsa110_contimg.imaging.selfcal import self_calibrate
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.pipeline.orchestrator import PipelineOrchestrator
from dsa110_contimg.simulation import hour
from dsa110_contimg.simulation.sky import KnownSky
from dsa110_contimg.sky import astrometry, catalogues, primary_beam
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.sources.photometry import measure_at
from dsa110_contimg.stage_options import (
    CalibrationApplyOptions,
    CalibrationSolveOptions,
    ImagingOptions,
    PipelineOptions,
)
from dsa110_contimg.stages import graphs
from dsa110_contimg.tasks import imaging
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.visibilities import conversion, measurement_set
from dsa110_contimg.visibilities.data import Visibilities

RINGS = (1.0, 0.8, 0.6, 0.4, 0.3, 0.2)
"""Of primary-beam response."""


@dataclass(frozen=True)
class Tile:
    """One simulated tile, imaged."""

    root: Path
    ms_path: Path
    image: ImagedTile
    sky: KnownSky


def _process(
    root: Path, sky: KnownSky, options: hour.RunOptions, **imaging_options: object
) -> Tile:
    run = hour.prepare(options, sky=sky)
    incoming = root / "incoming"
    incoming.mkdir(parents=True)
    files = run.write(incoming, 0)
    catalogues.save(root, sky.catalogue("known"))
    known = {"sky_catalog": "known"}
    chosen = PipelineOptions(
        calibrate=CalibrationSolveOptions(**known),
        apply=CalibrationApplyOptions(**known),
        image=ImagingOptions(**known, **imaging_options),
    )
    result = PipelineOrchestrator(graphs.from_subbands(chosen)[:4]).run(
        PipelineContext(root, [SubbandFiles(files)])
    )
    result.raise_on_failure()
    for path in files:
        path.unlink()
    return Tile(root, result[CalibratedTiles].tiles[0].ms_path, result[ImagedTiles].tiles[0], sky)


def _field(rng: np.random.Generator, ra_deg: float, dec_deg: float, bright_jy: float) -> KnownSky:
    """200 sources, 0.1 deg apart and bright enough in the beam, and one 1.2 deg from the centre."""
    reach = 2.0
    placed: list[tuple[float, float]] = []
    if bright_jy:
        placed.append((0.9, 0.8))
    while len(placed) < 200 + bool(bright_jy):
        x, y = rng.uniform(-reach, reach, 2)
        if np.hypot(x, y) < reach and all(np.hypot(x - a, y - b) > 0.1 for a, b in placed):
            placed.append((x, y))
    east, north = np.array(placed).T
    response = primary_beam.power_response(
        np.sin(np.deg2rad(np.hypot(east, north))), np.array(1.4e9), DSA110.dish_diameter_m
    )
    flux = rng.uniform(0.04, 0.15, east.size) / np.maximum(response, 0.1)
    if bright_jy:
        flux[0] = bright_jy
    # On the tangent plane, as the image is.
    l, m = np.sin(np.deg2rad(east)), np.sin(np.deg2rad(north))
    centre = (np.deg2rad(ra_deg), np.deg2rad(dec_deg))
    lmn = np.column_stack([l, m, np.sqrt(1 - l * l - m * m)])
    ra, dec = astrometry.vector_to_radec(lmn @ astrometry.tangent_axes(*centre))
    return KnownSky(np.rad2deg(ra), np.rad2deg(dec), flux, flux)


def _ratios(tile: Tile, response: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flux density over truth of each source, and the response there."""
    apparent = read_fits(tile.image.file("image"))
    noise = np.full(apparent.pixels.shape, tile.image.rms_jy)
    found = measure_at(apparent, noise, tile.sky.ra_deg, tile.sky.dec_deg)
    x, y = np.round(apparent.wcs.all_world2pix(tile.sky.ra_deg, tile.sky.dec_deg, 0)).astype(int)
    inside = found.observed
    at = np.full(inside.size, np.nan)
    at[inside] = response[y[inside], x[inside]]
    # Catalogues are at 1.4 GHz, the image at its own mean frequency.
    truth = tile.sky.flux_jy * (tile.image.frequency_hz / 1.4e9) ** -0.7
    return found.peak_jy / at / truth, at


def _by_ring(ratio: np.ndarray, response: np.ndarray) -> list[float]:
    medians = []
    for high, low in itertools.pairwise(RINGS):
        ring = (response <= high) & (response > low) & np.isfinite(ratio)
        assert ring.sum() >= 12
        medians.append(float(np.median(ratio[ring])))
    return medians


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(bright_jy, id=name, marks=pytest.mark.xdist_group(f"wide-{name}"))
        for name, bright_jy in (("quiet", 0.0), ("12 Jy and interference", 12.0))
    ],
)
def wide_tile(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tile:
    bright_jy = request.param
    options = hour.RunOptions(groups=1, antennas=32, channels=4, rfi=0.02 if bright_jy else 0.0)
    sky = _field(np.random.default_rng(7), *hour.pointing_deg(options), bright_jy)
    root = tmp_path_factory.mktemp("wide")
    # Four cells across the beam.
    return _process(root, sky, options, size=2560, cell_arcsec=5.5, taper_arcsec=16.0)


def test_sources_in_every_ring_of_the_beam_have_their_flux_density(wide_tile: Tile) -> None:
    response = read_fits(wide_tile.image.file("pb")).pixels
    medians = _by_ring(*_ratios(wide_tile, response))
    # The beam is measured on this tile alone: its width is known to half a per cent, which is
    # more than one per cent of the response in the outermost ring.
    assert medians == pytest.approx([1.0] * len(medians), abs=0.015)


def test_the_beam_of_the_middle_of_the_file_would_not_do(wide_tile: Tile) -> None:
    image: Image = read_fits(wide_tile.image.file("pb"))
    vis = measurement_set.read(wide_tile.ms_path)
    middle = vis.pointings[[vis.times_jd.size // 2]]
    frozen = primary_beam.effective_beam(
        middle,
        vis.frequencies_hz,
        np.ones((1, vis.frequencies_hz.size)),
        DSA110.dish_diameter_m,
        vis.phase_centre_rad,
        image.pixels.shape[0],
        image.cell_rad,
    )
    medians = np.array(_by_ring(*_ratios(wide_tile, frozen)))
    assert np.abs(medians - 1).max() > 0.02


def test_a_very_bright_source_outside_hardly_raises_the_noise(tmp_path: Path) -> None:
    options = hour.RunOptions(groups=1, antennas=32, channels=4)
    ra, dec = hour.pointing_deg(options)
    rng = np.random.default_rng(3)
    east, north = rng.uniform(-1, 1, (2, 30))
    flux = rng.uniform(0.05, 0.5, 30)
    near = KnownSky(ra + east / np.cos(np.deg2rad(dec)), dec + north, flux, flux)
    far_ra = ra + 2.2 / np.cos(np.deg2rad(dec))
    both = KnownSky(
        np.append(near.ra_deg, far_ra),
        np.append(near.dec_deg, dec),
        np.append(flux, 12.0),
        np.append(flux, 11.4),
    )
    alone = _process(tmp_path / "alone", near, options, size=512, cell_arcsec=11.0)
    beside = _process(tmp_path / "beside", both, options, size=512, cell_arcsec=11.0)
    (tmp_path / "untreated").mkdir()
    untreated = imaging.image(
        beside.ms_path,
        tmp_path / "untreated" / "tile",
        beside.root,
        ImagingOptions(sky_catalog="known", size=512, cell_arcsec=11.0, subtract_outside=False),
    )
    assert beside.image.rms_jy < 1.1 * alone.image.rms_jy
    assert untreated.rms_jy > 1.5 * alone.image.rms_jy


@pytest.fixture(scope="module")
def uncalibrated(tmp_path_factory: pytest.TempPathFactory) -> Visibilities:
    directory = tmp_path_factory.mktemp("uncalibrated")
    run = hour.prepare(hour.RunOptions(groups=1, antennas=24, channels=8, rfi=0.0))
    return conversion.read_observation(run.write(directory, 0), DSA110).vis


@pytest.mark.parametrize("modelled", [True, False])
def test_averaging_loses_no_more_at_the_edge_of_the_field_than_is_stated(
    uncalibrated: Visibilities, modelled: bool
) -> None:
    loss = 0.001
    options = TileImageOptions(size=512, cell_arcsec=11.0, robust=0.5, averaging_loss=0.0, niter=0)
    whole = tile_imaging.image_tile(uncalibrated, None, options)
    npix, steady = whole.apparent.shape[0], np.ones((uncalibrated.times_jd.size, 1, 1))
    # One source at a time, on a pixel: what averaging does to sidelobes is no loss of flux.
    for column, row in ((npix // 2, npix - 20), (20, npix // 2)):
        l, m = (npix // 2 - column) * whole.cell_rad, (row - npix // 2) * whole.cell_rad
        direction = np.array([[l, m, np.sqrt(1 - l * l - m * m)]])
        sky = predict_apparent(
            uncalibrated,
            direction @ astrometry.tangent_axes(*uncalibrated.phase_centre_rad),
            np.repeat(steady, uncalibrated.frequencies_hz.size, axis=2),
        )
        vis = replace(uncalibrated, data=np.repeat(sky[:, :, None], 2, axis=2))
        # A source outside, of nothing: there is a model, and the image does not show it.
        outside = SkyModel(uncalibrated.pointings[:1], np.array([1e-9]), np.zeros(1), 1.4e9)
        made = tile_imaging.image_tile(
            vis, outside if modelled else None, options.model_copy(update={"averaging_loss": loss})
        )
        assert made.n_samples < (0.5 if modelled else 0.9) * whole.n_samples
        assert (made.averaging_loss > loss) == modelled, "what is lost is corrected"
        assert made.apparent[row, column] == pytest.approx(1.0, abs=loss)


def test_the_same_tile_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    options = hour.RunOptions(groups=1, antennas=24, channels=2)
    sky = hour.prepare(options).sky
    first, second = (
        _process(tmp_path / name, sky, options, size=512, cell_arcsec=11.0, taper_arcsec=30.0)
        for name in ("one", "two")
    )
    for kind in ("image", "pbcor", "pb", "residual", "model", "psf", "rms"):
        assert first.image.file(kind).read_bytes() == second.image.file(kind).read_bytes()
    one, two = measurement_set.read(first.ms_path), measurement_set.read(second.ms_path)
    for name in ("data", "flags", "weights", "uvw_m"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_self_calibration_takes_out_phases_and_stops_when_it_no_longer_helps(
    tmp_path: Path,
) -> None:
    options = hour.RunOptions(groups=1, antennas=24, channels=2, integrations=12, rfi=0.0)
    tile = _process(
        tmp_path, hour.prepare(options).sky, options, size=512, cell_arcsec=11.0, taper_arcsec=30.0
    )
    vis = measurement_set.read(tile.ms_path)
    rng = np.random.default_rng(5)
    slow = np.cumsum(rng.normal(0, 0.15, (vis.times_jd.size, len(vis.array.names))), axis=0)
    turned = np.exp(1j * (slow[vis.time_index, vis.antenna1] - slow[vis.time_index, vis.antenna2]))
    spoilt = replace(vis, data=(vis.data * turned[:, None, None]).astype(np.complex64))
    image_options = TileImageOptions(
        size=512,
        cell_arcsec=11.0,
        robust=0.5,
        taper_arcsec=30.0,
        niter=5000,
        auto_mask_sigma=4.0,
        max_major=5,
    )
    rounds = SelfCalibrationOptions(selfcal_rounds=4, selfcal_interval_s=15.0)
    done = self_calibrate(spoilt, None, image_options, rounds)
    before, after = done.dynamic_range[0], max(done.dynamic_range)
    assert done.kept >= 1
    assert after > 1.5 * before
    assert done.image.apparent.max() / done.image.rms_jy == pytest.approx(after)
    assert len(done.dynamic_range) <= 1 + rounds.selfcal_rounds
    again = self_calibrate(vis, None, image_options, rounds)
    assert again.image.rms_jy <= tile_imaging.image_tile(vis, None, image_options).rms_jy * 1.01


def test_the_simulated_sky_goes_all_the_way_round_for_runs_of_days() -> None:
    run = hour.prepare(hour.RunOptions(groups=600, antennas=4, channels=1, seed=2))
    empty, _ = np.histogram(run.sky.ra_deg, np.arange(0.0, 361.0, 10.0))
    assert empty.min() > 0
    assert run.sky.ra_deg.size < 20_000

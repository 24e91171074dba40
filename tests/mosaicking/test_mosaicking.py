"""Tiles become one image without losing flux, wherever they lie."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import skies
from dsa110_contimg.artifacts.tiles import ImagedTile
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.errors import UsageError
from dsa110_contimg.imaging.fits_image import Image, write_fits
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.mosaicking import METHODS, beams, combine, gates, grid
from dsa110_contimg.mosaicking.options import MosaicOptions
from dsa110_contimg.sky import astrometry, projections
from dsa110_contimg.tasks.mosaic import build_mosaic

CELL = 10 * ARCSEC_RAD
BEAM = RestoringBeam(4 * CELL, 4 * CELL, 0.0)
NPIX = 200


def _tile(
    ra_deg: float,
    dec_deg: float,
    sources: list[tuple[float, float, float]],
    rms: float = 0.01,
    response: float = 1.0,
) -> combine.Tile:
    """A SIN tile with Gaussian sources given as (ra deg, dec deg, Jy)."""
    empty = Image(
        np.zeros((NPIX, NPIX), np.float32),
        (np.deg2rad(ra_deg), np.deg2rad(dec_deg)),
        (100.0, 100.0),
        CELL,
        "SIN",
        BEAM,
        "Jy/beam",
        1.4e9,
    )
    y, x = np.indices((NPIX, NPIX))
    pixels = np.zeros((NPIX, NPIX))
    q = BEAM.quadratic_form(CELL)[0, 0]
    for ra, dec, jansky in sources:
        px, py = empty.wcs.all_world2pix(ra, dec, 0)
        pixels += jansky * response * np.exp(-q * ((x - px) ** 2 + (y - py) ** 2))
    apparent = replace(empty, pixels=pixels.astype(np.float32))
    return combine.Tile(empty, rms, lambda: (apparent, np.full((NPIX, NPIX), response, np.float32)))


def _mosaic(tiles: list[combine.Tile], method: str = "mean") -> tuple[combine.Maps, Image]:
    area = grid.covering_grid([tile.geometry for tile in tiles])
    whole = combine.Maps(*(np.full(area.shape, np.nan, np.float32) for _ in range(4)))
    for box, part in combine.combine(area, tiles, method):
        for kind in ("brightness", "weight", "rms", "coverage"):
            getattr(whole, kind)[box.slices] = getattr(part, kind)
    picture = replace(area.image(whole.brightness), beam=BEAM, unit="Jy/beam", frequency_hz=1.4e9)
    return whole, picture


def _peak(picture: Image, ra: float, dec: float) -> tuple[float, float]:
    from dsa110_contimg.sources.photometry import measure_at

    found = measure_at(picture, np.ones(picture.pixels.shape), np.array([ra]), np.array([dec]))
    offset = np.hypot(found.offset_east_rad[0], found.offset_north_rad[0])
    return float(found.peak_jy[0]), float(offset / ARCSEC_RAD)


@pytest.mark.parametrize("offset", np.linspace(0, 1, 6))
def test_a_four_cell_beam_keeps_its_peak_at_every_sub_pixel_offset(offset: float) -> None:
    shift = np.rad2deg(CELL) * offset
    source = (40.0 + shift / np.cos(np.deg2rad(20)), 20.0 + 0.7 * shift, 1.0)
    tiles = [_tile(40.0, 20.0, [source]), _tile(40.3, 20.05, [source])]
    _, picture = _mosaic(tiles)
    peak, distance = _peak(picture, source[0], source[1])
    assert peak == pytest.approx(1.0, abs=0.01)
    assert distance < 0.3


@pytest.mark.parametrize(("ra", "dec"), [(0.02, 16.0), (180.0, -30.0), (77.0, 88.5)])
def test_tiles_meet_across_zero_hours_and_near_the_pole(ra: float, dec: float) -> None:
    step = 0.25 / np.cos(np.deg2rad(dec))
    source = (ra % 360, dec, 1.0)
    tiles = [_tile((ra + k * step) % 360, dec, [source]) for k in (-1, 0, 1)]
    _, picture = _mosaic(tiles)
    assert max(picture.pixels.shape) < 600
    peak, distance = _peak(picture, source[0], source[1])
    assert peak == pytest.approx(1.0, abs=0.01)
    assert distance < 0.5


@pytest.mark.parametrize("method", METHODS)
def test_the_methods_agree_for_equal_tiles(method: str) -> None:
    source = (40.0, 20.0, 1.0)
    tiles = [_tile(40.0, 20.0, [source]), _tile(40.2, 20.0, [source])]
    _, picture = _mosaic(tiles, method)
    assert _peak(picture, 40.0, 20.0)[0] == pytest.approx(1.0, abs=0.01)


def test_each_method_weights_as_it_says() -> None:
    source = (40.0, 20.0, 1.0)
    good = _tile(40.0, 20.0, [source], rms=0.01, response=0.9)
    poor = _tile(40.0, 20.0, [(40.0, 20.0, 2.0)], rms=0.02, response=0.6)
    for method, weights in (
        ("mean", (1, 1)),
        ("weighted", (0.01**-2, 0.02**-2)),
        ("pbweighted", ((0.9 / 0.01) ** 2, (0.6 / 0.02) ** 2)),
    ):
        result, picture = _mosaic([good, poor], method)
        column, row = picture.reference_pixel
        at = (int(row), int(column))
        expected = np.average([1.0, 2.0], weights=weights)
        assert result.brightness[at] == pytest.approx(expected, rel=0.01)
        sigma = np.array([0.01 / 0.9, 0.02 / 0.6])
        w = np.array(weights, float)
        assert result.rms[at] == pytest.approx(
            np.sqrt(np.sum((w * sigma) ** 2)) / w.sum(), rel=1e-3
        )
        assert result.coverage[at] == 2


def test_the_noise_of_pbweighted_is_the_least_there_can_be() -> None:
    empty = skies.Sky(np.zeros(0), np.zeros(0), np.zeros(0))
    tiles = []
    for number in range(8):
        image, response = skies.draw((40.0 + 0.25 * number, 20.0), empty, number)
        rms = skies.RMS * (1.0 + 0.2 * number)
        noisy = replace(image, pixels=(image.pixels * (1.0 + 0.2 * number)).astype(np.float32))
        shown = (noisy, response.astype(np.float32))
        tiles.append(combine.Tile(noisy, rms, lambda shown=shown: shown))
    result, _ = _mosaic(tiles, "pbweighted")
    seen = result.coverage > 0
    assert result.coverage.max() >= 5
    least = 1 / np.sqrt(result.weight[seen])
    np.testing.assert_allclose(result.rms[seen], least, rtol=1e-3)
    assert np.std(result.brightness[seen] / least) == pytest.approx(1.0, abs=0.03)


def test_pixels_that_no_beam_reaches_are_blank() -> None:
    tiles = [_tile(40.0, 20.0, [], response=0.3), _tile(41.5, 20.0, [], response=1.0)]
    result, _ = _mosaic(tiles)
    covered = result.coverage > 0
    assert np.array_equal(covered, np.isfinite(result.brightness))
    assert 0.1 < covered.mean() < 0.5, "only the second tile is above half response"


@pytest.mark.parametrize("dec", [-54.0, 16.0, 62.0])
def test_a_long_strip_is_a_cylinder_and_right_at_both_ends(dec: float, tmp_path: Path) -> None:
    ends = [(300.0, dec), (80.0, dec + 0.1)]
    tiles = [_tile(ra, at, [(ra + 0.1, at, 1.0)]) for ra, at in ends]
    _, picture = _mosaic(tiles)
    assert picture.projection == "CEA"
    assert picture.pixels.shape[0] < 400
    write_fits(tmp_path / "strip.fits", picture)
    for shown in (picture, read_fits(tmp_path / "strip.fits")):
        for ra, at in ends:
            peak, distance = _peak(shown, ra + 0.1, at)
            assert peak == pytest.approx(1.0, abs=0.01)
            assert distance < 0.3


def test_a_strip_may_go_all_the_way_round() -> None:
    """The seam lies in a gap if there is one; a tile on it shows at both ends."""
    around = [_tile(ra, 16.0, [(ra, 16.0, 1.0)]) for ra in np.arange(0.0, 360.0, 0.5)]
    area = grid.covering_grid([tile.geometry for tile in around])
    assert area.shape[1] * area.cell_rad <= 2 * np.pi * np.cos(area.centre_rad[1]) + 3 * CELL
    assert {len(area.boxes(tile.geometry)) for tile in around} == {1, 2}
    with_gap = [tile for tile in around if not 100 < np.rad2deg(tile.geometry.centre_rad[0]) < 110]
    area = grid.covering_grid([tile.geometry for tile in with_gap])
    assert {len(area.boxes(tile.geometry)) for tile in with_gap} == {1}


@pytest.mark.parametrize("projection", projections.PROJECTIONS)
@pytest.mark.parametrize("centre_deg", [(359.9, -60.0), (80.0, 16.2), (180.0, 5.0)])
def test_planes_are_those_of_fits(projection: str, centre_deg: tuple[float, float]) -> None:
    centre = (np.deg2rad(centre_deg[0]), np.deg2rad(centre_deg[1]))
    image = Image(
        np.zeros((400, 600), np.float32), centre, (280.0, 190.0), CELL, projection, None, "", 1.0
    )
    column, row = np.random.default_rng(1).uniform(0, 400, (2, 50))
    ra, dec = image.wcs.all_pix2world(column, row, 0)
    plane = np.stack([-(column - 280.0), row - 190.0], axis=1) * CELL
    vectors = projections.to_sky(projection, centre, plane)
    expected = astrometry.radec_to_vector(np.deg2rad(ra), np.deg2rad(dec))
    assert np.abs(vectors - expected).max() < 1e-12
    assert np.abs(projections.to_plane(projection, centre, vectors) - plane).max() < 1e-12


def test_a_mosaic_made_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    source = (40.0, 20.0, 1.0)
    tiles = [_tile(40.0 + 0.2 * k, 20.0, [source], rms=0.01 + 0.001 * k) for k in range(3)]
    whole, _ = _mosaic(tiles, "pbweighted")
    monkeypatch.setattr(combine, "_PART_PIXELS", 5000)
    parts, _ = _mosaic(tiles, "pbweighted")
    for kind in ("brightness", "weight", "rms", "coverage"):
        assert np.array_equal(getattr(whole, kind), getattr(parts, kind), equal_nan=True)


def test_what_lies_too_far_apart_is_refused_with_advice() -> None:
    with pytest.raises(UsageError, match="choose fewer with --since"):
        grid.covering_grid([_tile(ra, dec, []).geometry for ra, dec in [(0, 89.0), (90.0, 0.0)]])


def _beam(major: float, minor: float, angle_deg: float) -> RestoringBeam:
    return RestoringBeam(major * CELL, minor * CELL, np.deg2rad(angle_deg))


@pytest.mark.parametrize(
    "shown",
    [
        [_beam(6, 4, 30), _beam(6.5, 4.2, 30)],
        [_beam(6, 4, 0), _beam(6, 4, 90)],
        [_beam(6, 4, 10), _beam(6.2, 4.1, 50), _beam(5, 4.5, 140)],
        [_beam(6, 4, 77), _beam(6, 4, 77)],
    ],
)
def test_the_common_beam_is_the_smallest_that_holds_all(shown: list[RestoringBeam]) -> None:
    common = beams.common_beam(shown)
    q = common.quadratic_form(CELL)
    for beam in shown:
        left = np.linalg.inv(q) - np.linalg.inv(beam.quadratic_form(CELL))
        assert np.linalg.eigvalsh(left).min() > -1e-9, "each can be convolved to it"
    # No beam of a fine grid of smaller ones holds them all.
    for major in np.linspace(0.8, 1.2, 9):
        minor = 0.99 / major
        for angle in np.linspace(0, np.pi, 19):
            tried = RestoringBeam(
                common.major_rad * major,
                common.minor_rad * minor,
                common.position_angle_rad + angle,
            )
            room = [
                np.linalg.eigvalsh(
                    np.linalg.inv(tried.quadratic_form(CELL))
                    - np.linalg.inv(beam.quadratic_form(CELL))
                ).min()
                for beam in shown
            ]
            assert min(room) < 1e-6


def test_convolving_to_a_larger_beam_keeps_a_point_source_and_its_shape() -> None:
    small, large = _beam(4, 3.2, 20), _beam(5.5, 4.6, 70)
    common = beams.common_beam([small, large])
    geometry = _tile(40.0, 20.0, []).geometry
    centred = np.zeros((NPIX, NPIX), np.float32)
    centred[60:141, 60:141] = 2.5 * small.image(81, CELL)
    made = beams.convolve(replace(geometry, pixels=centred, beam=small), common)
    assert made.beam == common
    assert np.abs(made.pixels[60:141, 60:141] - 2.5 * common.image(81, CELL)).max() < 1e-3


def test_tiles_of_several_beams_are_brought_to_one_and_weighted_by_their_noise_then(
    tmp_path: Path,
) -> None:
    """Through the stage, on files."""
    rng = np.random.default_rng(2)
    shown = [_beam(4, 3.6, 10), _beam(5, 4, 40)]
    images = []
    for number, beam in enumerate(shown):
        # White noise smoothed with the beam, as a restored image has it.
        noise = ndimage.gaussian_filter(rng.normal(size=(NPIX, NPIX)), 1.7).astype(np.float32)
        noise *= 0.01 / noise.std()
        noise[60:141, 60:141] += beam.image(81, CELL)
        geometry = _tile(40.0, 20.0, []).geometry
        images.append(_imaged(tmp_path, number, replace(geometry, pixels=noise, beam=beam)))
    made = build_mosaic(images, tmp_path / "m.fits", "m", MosaicOptions(method="weighted"))
    common = beams.common_beam(shown)
    assert made.beam_major_rad == pytest.approx(common.major_rad)
    mosaic = read_fits(made.path)
    assert _peak(mosaic, 40.0, 20.0)[0] == pytest.approx(1.0, abs=0.03)
    row, column = np.unravel_index(int(np.nanargmax(mosaic.pixels)), mosaic.pixels.shape)
    box = mosaic.pixels[row - 10 : row + 11, column - 10 : column + 11]
    assert box.sum() == pytest.approx(common.image(21, mosaic.cell_rad).sum(), rel=0.05)
    far = mosaic.pixels[20:60, 20:60]
    assert far.std() == pytest.approx(read_fits(made.companion("rms")).pixels[20, 20], rel=0.3)


def _imaged(folder: Path, number: int, apparent: Image) -> ImagedTile:
    """A tile's image on disk, as the imaging stage leaves it."""
    assert apparent.beam is not None
    made = ImagedTile(
        tile_id=f"2026010{number + 1}T000000",
        prefix=folder / f"t{number}",
        calibration_set_id="c",
        start=1.7e9 + 309 * number,
        duration_s=309.0,
        ra_deg=40.0,
        dec_deg=20.0,
        rms_jy=0.01,
        peak_jy=1.0,
        beam_major_rad=apparent.beam.major_rad,
        beam_minor_rad=apparent.beam.minor_rad,
        beam_angle_rad=apparent.beam.position_angle_rad,
        cell_arcsec=10.0,
        frequency_hz=1.4e9,
        size=NPIX,
        n_iterations=1,
        n_major=1,
        n_samples=1,
        n_subtracted=0,
    )
    write_fits(made.file("image"), apparent)
    write_fits(made.file("pb"), replace(apparent, pixels=np.ones_like(apparent.pixels)))
    return made


def test_an_unknown_method_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="'median'; choose one of mean, weighted, pbweighted"):
        _mosaic([_tile(40.0, 20.0, [])], "median")


def _facts(name: str, **changes: float) -> gates.TileFacts:
    usual = gates.TileFacts(
        name,
        rms_jy=0.001,
        peak_jy=1.0,
        beam_major_rad=2e-4,
        beam_minor_rad=1e-4,
        cell_arcsec=6.0,
        dec_deg=16.0,
        n_sources=9,
    )
    return replace(usual, **changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rms_jy": 0.003}, "above 2.5 times"),
        ({"peak_jy": 0.004}, "dynamic range"),
        ({"beam_major_rad": 3e-4}, "restoring beam differs"),
        ({"beam_corrected": False}, "not beam-corrected"),
        ({"n_not_finite": 7}, "7 pixels of its image are not finite"),
        ({"dec_deg": 54.6}, "another strip"),
        ({"cell_arcsec": 8.0}, "cell of 8.00 arcsec"),
        ({"flux_ratio": 0.7}, "flux ratio to the catalogue, 0.700 from 9 sources"),
        ({"offset_arcsec": 20.0}, "20.0 arcsec off"),
        ({"stripe_share": 0.3}, "stripes make 30 %"),
        ({"ring_share": 0.3}, "rings make 30 %"),
    ],
)
def test_each_gate_catches_the_tile_it_is_meant_for(changes: dict[str, float], reason: str) -> None:
    tiles = [_facts("a"), _facts("b"), _facts("c"), _facts("bad", **changes)]
    reasons = gates.tile_gates(tiles)
    assert list(reasons) == ["bad"]
    assert reason in reasons["bad"]


def test_what_few_sources_say_is_no_reason() -> None:
    """Three times the error is asked for, and two sources are none."""
    vague = _facts("vague", flux_ratio=0.8, flux_ratio_error=0.07)
    alone = _facts("alone", n_sources=0, flux_ratio=0.5, offset_arcsec=60.0)
    assert gates.tile_gates([_facts("a"), _facts("b"), vague, alone]) == {}

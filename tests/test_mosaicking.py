"""Tiles become one image without losing flux, wherever they lie."""

import numpy as np
import pytest

from dsa110_contimg.errors import UsageError
from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.mosaicking import METHODS, combine, gates, grid
from dsa110_contimg.sky import astrometry

CELL = 10 * astrometry.ARCSEC_RAD
BEAM = RestoringBeam(4 * CELL, 4 * CELL, 0.0)
NPIX = 200


def _tile(
    ra_deg: float, dec_deg: float, sources: list[tuple[float, float, float]], rms: float = 0.01,
    response: float = 1.0,
) -> combine.Tile:  # fmt: skip
    """A SIN tile with Gaussian sources given as (ra deg, dec deg, Jy)."""
    empty = Image(
        np.zeros((NPIX, NPIX), np.float32), (np.deg2rad(ra_deg), np.deg2rad(dec_deg)),
        (100.0, 100.0), CELL, "SIN", BEAM, "Jy/beam", 1.4e9,
    )  # fmt: skip
    y, x = np.indices((NPIX, NPIX))
    pixels = np.zeros((NPIX, NPIX))
    q = BEAM.quadratic_form(CELL)[0, 0]
    for ra, dec, jansky in sources:
        px, py = empty.wcs.all_world2pix(ra, dec, 0)
        pixels += jansky * response * np.exp(-q * ((x - px) ** 2 + (y - py) ** 2))
    from dataclasses import replace

    return combine.Tile(
        replace(empty, pixels=pixels.astype(np.float32)),
        np.full((NPIX, NPIX), response, np.float32),
        rms,
    )


def _mosaic(tiles: list[combine.Tile], method: str = "mean") -> tuple[combine.Combined, Image]:
    area = grid.covering_grid([tile.apparent for tile in tiles])
    result = combine.combine(area, tiles, method)
    picture = Image(
        result.brightness, area.centre_rad, area.reference_pixel, area.cell_rad, "TAN", BEAM,
        "Jy/beam", 1.4e9,
    )  # fmt: skip
    return result, picture


def _peak(picture: Image, ra: float, dec: float) -> tuple[float, float]:
    from dsa110_contimg.sources.photometry import measure_at

    found = measure_at(picture, np.ones(picture.pixels.shape), np.array([ra]), np.array([dec]))
    offset = np.hypot(found.offset_east_rad[0], found.offset_north_rad[0])
    return float(found.peak_jy[0]), float(offset / astrometry.ARCSEC_RAD)


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
    result, picture = _mosaic(tiles)
    assert max(result.grid.shape) < 600
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
        result, _ = _mosaic([good, poor], method)
        column, row = result.grid.reference_pixel
        at = (int(row), int(column))
        expected = np.average([1.0, 2.0], weights=weights)
        assert result.brightness[at] == pytest.approx(expected, rel=0.01)
        sigma = np.array([0.01 / 0.9, 0.02 / 0.6])
        w = np.array(weights, float)
        assert result.rms[at] == pytest.approx(
            np.sqrt(np.sum((w * sigma) ** 2)) / w.sum(), rel=1e-3
        )
        assert result.coverage[at] == 2


def test_pixels_that_no_beam_reaches_are_blank() -> None:
    tiles = [_tile(40.0, 20.0, [], response=0.3), _tile(41.5, 20.0, [], response=1.0)]
    result, _ = _mosaic(tiles)
    covered = result.coverage > 0
    assert np.array_equal(covered, np.isfinite(result.brightness))
    assert 0.1 < covered.mean() < 0.5, "only the second tile is above half response"


def test_an_unknown_method_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="'median'; choose one of mean, weighted, pbweighted"):
        _mosaic([_tile(40.0, 20.0, [])], "median")


def _facts(name: str, **changes: float | bool) -> gates.TileFacts:
    values = {"rms_jy": 0.001, "peak_jy": 1.0, "beam_major_rad": 2e-4, "beam_minor_rad": 1e-4,
              "beam_corrected": True, "finite": True, **changes}  # fmt: skip
    return gates.TileFacts(name, **values)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rms_jy": 0.006}, "above 5 times"),
        ({"peak_jy": 0.004}, "dynamic range"),
        ({"beam_major_rad": 3e-4}, "restoring beam differs"),
        ({"beam_corrected": False}, "not beam-corrected"),
        ({"finite": False}, "not finite"),
    ],
)
def test_each_gate_catches_the_tile_it_is_meant_for(changes: dict[str, float], reason: str) -> None:
    tiles = [_facts("a"), _facts("b"), _facts("c"), _facts("bad", **changes)]
    reasons = gates.tile_gates(tiles)
    assert list(reasons) == ["bad"]
    assert reason in reasons["bad"]

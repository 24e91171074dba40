"""Tiles come to one flux scale, and sources that vary keep their variability."""

import numpy as np
import pytest

from dsa110_contimg.mosaicking.flux_scale import TileScale, same_sources, tile_scales

N_TILES, N_SOURCES, NOISE_JY = 10, 120, 0.001


class Strip:
    """Ten tiles of a strip: each source is in two or three neighbouring ones."""

    def __init__(self, seed: int, catalogue_error: float = 0.05):
        self.rng = np.random.default_rng(seed)
        self.listed = 0.05 * self.rng.uniform(size=N_SOURCES) ** (-1 / 1.5)
        self.flux = self.listed * np.exp(catalogue_error * self.rng.normal(size=N_SOURCES))
        place = self.rng.uniform(-0.5, N_TILES - 0.5, N_SOURCES)
        distance = np.abs(np.arange(N_TILES)[:, None] - place)
        self.tile, self.source = np.nonzero(distance < 1.05)

    def solve(self, scale: np.ndarray) -> tuple[TileScale, ...]:
        measured = scale[self.tile] * self.flux[self.source]
        measured = measured + NOISE_JY * self.rng.normal(size=measured.size)
        strong = measured > 10 * NOISE_JY
        return tile_scales(
            self.tile[strong],
            self.source[strong],
            (measured / self.listed[self.source])[strong],
            NOISE_JY / measured[strong],
            N_TILES,
        )


DRIFT = 1 + 0.1 * np.linspace(-0.5, 0.5, N_TILES)


def test_gains_that_drift_together_are_found_within_their_errors() -> None:
    pulls = []
    for seed in range(20):
        found = Strip(seed, catalogue_error=0.0).solve(DRIFT)
        pulls += [
            (one.scale / true - 1) / one.error for one, true in zip(found, DRIFT, strict=True)
        ]
        assert found[0].applied
        assert found[-1].applied
        assert max(one.error for one in found) < 0.01
    assert 0.5 < np.std(pulls) < 1.3


def test_tiles_agree_with_each_other_better_than_the_catalogue_is_right() -> None:
    """Sources differ from the catalogue by 10 %; neighbours see the same sources."""
    steps = []
    for seed in range(20):
        found = np.array([one.scale for one in Strip(seed, catalogue_error=0.1).solve(DRIFT)])
        steps += list(np.diff(np.log(found / DRIFT)))
    assert np.std(steps) < 0.012


def test_a_source_of_twelve_jansky_that_doubles_moves_no_tile() -> None:
    for seed in range(5):
        quiet, loud = Strip(seed), Strip(seed)
        brightest = int(np.argmax(np.bincount(loud.source)))
        for strip, factor in ((quiet, 1.0), (loud, 2.0)):
            strip.listed[brightest] = 12.0
            strip.flux[brightest] = 12.0 * factor
        before, after = (
            np.array([one.scale for one in strip.solve(np.ones(N_TILES))])
            for strip in (quiet, loud)
        )
        assert np.abs(after / before - 1).max() < 0.005


def test_what_agrees_is_left_and_what_no_receiver_does_is_not_applied() -> None:
    scale = np.ones(N_TILES)
    scale[3] = 2.0
    found = Strip(3).solve(scale)
    assert found[3].scale == pytest.approx(2.0, rel=0.03)
    assert not found[3].applied
    assert [one.applied for one in found].count(True) <= 1


def test_a_tile_without_sources_is_left_alone() -> None:
    strip = Strip(1)
    keep = strip.tile != 5
    strip.tile, strip.source = strip.tile[keep], strip.source[keep]
    found = strip.solve(DRIFT)
    assert found[5] == TileScale()
    assert found[5].divisor == 1.0
    assert tile_scales(np.zeros(0, int), np.zeros(0, int), np.zeros(0), np.zeros(0), 2) == (
        TileScale(),
        TileScale(),
    )


def test_sources_are_the_same_where_their_places_are() -> None:
    assert same_sources([(1.0, 2.0), (3.0, 4.0), (1.0, 2.0)]).tolist() == [0, 1, 0]

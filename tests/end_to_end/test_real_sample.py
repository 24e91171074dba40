"""The independent data set in the telescope's layout: made by others, with its truth."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.registry import light_curves
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import MosaicGroup, Source, Tile, TileImage
from dsa110_contimg.registry.states import TileState
from dsa110_contimg.settings import load
from dsa110_contimg.sky import matching
from dsa110_contimg.sources.accuracy import against_truth

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("sample")]
SCRIPTS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def streamed(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample")
    for command in (
        ("dsa110-contimg", "catalog", "import", real_data / "nvss_50mjy.fits.gz", "--name", "nvss"),
        (
            "dsa110-contimg-convert-stream",
            "--input-dir",
            real_data / "uvh5-sample",
            "--output-dir",
            root / "ms",
            "--once",
        ),
        ("dsa110-contimg-streaming-mosaic", "--once"),
    ):
        program, *arguments = map(str, command)
        done = subprocess.run(
            [str(SCRIPTS / program), *arguments, "--root", str(root)],
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    return root


@pytest.fixture(scope="module")
def mosaic(streamed: Path) -> Path:
    (path,) = (
        p for p in (streamed / "products" / "mosaics").glob("*.fits") if p.stem.count("_") == 2
    )
    return path


def test_eleven_tiles_are_converted_and_the_ninth_of_a_group_rejected(streamed: Path) -> None:
    with Registry.of(load(root=streamed)).read() as session:
        tiles = list(session.scalars(select(Tile).order_by(Tile.start)))
        group = session.scalars(select(MosaicGroup)).one()
    converted = [tile for tile in tiles if tile.state == TileState.CONVERTED]
    assert len(converted) == 11
    assert [tile.n_subbands for tile in converted].count(16) == 10
    (short,) = (tile for tile in converted if tile.n_subbands == 14)
    assert len(short.converted["absent_subbands"]) == 2
    (rejected,) = (tile for tile in tiles if tile.state == TileState.REJECTED)
    assert "9 of 16 sub-bands" in rejected.reason
    assert all(tile.converted["dead_antennas"] == ["33", "87"] for tile in converted)
    assert group.tile_ids == [tile.id for tile in converted[:10]]
    assert group.state == "published"


class Sample:
    """Truth and what the mosaic shows of it."""

    def __init__(self, real_data: Path, mosaic: Path):
        truth = json.loads((real_data / "uvh5-sample-truth.json").read_text())
        self.ra, self.dec, self.flux, self.catalogue = (
            np.array([source[name] for source in truth])
            for name in ("ra_deg", "dec_deg", "flux_jy", "catalogue_jy")
        )
        noise = read_fits(mosaic.with_name(f"{mosaic.stem}_rms.fits")).pixels
        self.found = against_truth(
            read_fits(mosaic), noise, self.ra, self.dec, self.flux, min_flux_jy=0.3
        )
        self.ratio = self.found.ratio


@pytest.fixture(scope="module")
def sample(real_data: Path, mosaic: Path) -> Sample:
    return Sample(real_data, mosaic)


def test_each_source_has_one_epoch_at_the_time_of_its_transit(streamed: Path) -> None:
    with Registry.of(load(root=streamed)).read() as session:
        places = {row.id: row.ra_deg for row in session.scalars(select(Source))}
        curves = light_curves.light_curves(session, list(places))
        tiles = session.scalars(select(TileImage).order_by(TileImage.start)).all()
    middles = [tile.start + tile.record["duration_s"] / 2 for tile in tiles]
    centres = np.unwrap([tile.record["ra_deg"] for tile in tiles], period=360)
    assert len(curves) > 50
    for source_id, curve in curves.items():
        (observed,) = curve.observed
        ra = centres[0] + np.mod(places[source_id] - centres[0] + 180, 360) - 180
        assert abs(observed - np.interp(ra, centres, middles)) < 310


def test_flux_densities_and_positions_come_back(sample: Sample) -> None:
    assert sample.found.compared.sum() >= 8
    assert sample.found.median_ratio == pytest.approx(1.0, abs=0.02)
    assert sample.found.scatter < 0.04
    assert sample.found.median_offset_arcsec < 2.0
    assert np.abs(sample.found.mean_offset_arcsec).max() < 0.7


def test_the_brightest_source_is_within_three_percent(sample: Sample) -> None:
    assert sample.ratio[sample.flux.argmax()] == pytest.approx(1.0, abs=0.03)


def test_sources_that_differ_from_the_catalogue_show_their_true_flux(sample: Sample) -> None:
    changed = np.abs(sample.catalogue / sample.flux - 1) > 0.05
    seen = changed & np.isfinite(sample.ratio)
    assert changed.sum() == 5
    assert seen.sum() == 5
    assert np.abs(sample.ratio[seen] - 1).max() < 0.08


def test_the_found_sources_are_the_true_ones(sample: Sample, streamed: Path, mosaic: Path) -> None:
    from astropy.table import Table

    (path,) = (streamed / "products" / "catalogues").glob("*.fits")
    table = Table.read(path, hdu="SOURCES")
    match = matching.nearest(table["ra_deg"], table["dec_deg"], sample.ra, sample.dec, 30.0)
    assert np.mean(match.index >= 0) > 0.9


def test_sources_unlike_the_catalogue_are_told_and_no_others(
    sample: Sample, streamed: Path, mosaic: Path
) -> None:
    from astropy.table import Table

    (path,) = (streamed / "products" / "catalogues").glob("*.fits")
    listed = Table.read(path, hdu="CATALOGUE", mask_invalid=False)
    match = matching.nearest(
        np.asarray(listed["ra_deg"]), np.asarray(listed["dec_deg"]), sample.ra, sample.dec, 5.0
    ).index
    in_truth = match >= 0
    changed = in_truth & (np.abs(sample.catalogue / sample.flux - 1) > 0.05)[match]
    told = np.asarray(listed["discrepant"])
    assert changed.sum() == 5
    assert told[changed].all()
    constant = in_truth & ~changed & (np.asarray(listed["catalogue_flux_jy"]) > 0.2)
    assert constant.sum() >= 8
    assert not told[constant].any()

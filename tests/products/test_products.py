"""Publishing happens exactly once; gates judge by numbers."""

from pathlib import Path

import numpy as np
import pytest

from conftest import Processed
from dsa110_contimg.artifacts.mosaics import Crossmatch, MosaicImage, PublishedMosaic
from dsa110_contimg.artifacts.tiles import ImagedTiles
from dsa110_contimg.errors import PermanentError
from dsa110_contimg.imaging.fits_image import write_fits
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.products.publish import publish_file
from dsa110_contimg.quality import gates
from dsa110_contimg.quality.gates import Verdict
from dsa110_contimg.stage_options import ValidationOptions
from dsa110_contimg.tasks.validation import validate


def test_publishing_twice_is_publishing_once(tmp_path: Path) -> None:
    source = tmp_path / "a.fits"
    source.write_bytes(b"pixels")
    target = tmp_path / "public" / "a.fits"
    checksum = publish_file(source, target)
    assert publish_file(source, target) == checksum
    assert [p.name for p in target.parent.iterdir()] == ["a.fits"]


def test_a_published_product_is_never_overwritten_but_an_orphan_is(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "public" / "a"
    source.write_bytes(b"first")
    publish_file(source, target)
    source.write_bytes(b"second")
    with pytest.raises(PermanentError, match="never overwritten"):
        publish_file(source, target)
    assert target.read_bytes() == b"first"
    publish_file(source, target, orphaned=True)
    assert target.read_bytes() == b"second"
    assert [p.name for p in target.parent.iterdir()] == ["a"]


def test_gates_say_what_failed_and_by_how_much() -> None:
    assert gates.flux_ratio(np.full(9, 0.5), 3, 0.8, 1.2).verdict is Verdict.FAILED
    assert gates.flux_ratio(np.full(9, 1.02), 3, 0.8, 1.2).verdict is Verdict.PASSED
    assert gates.flux_ratio(np.full(9, 1.04), 3, 0.8, 1.2).verdict is Verdict.WARNING
    unsure = np.random.default_rng(1).normal(1.04, 0.2, 99)
    assert gates.flux_ratio(unsure, 3, 0.8, 1.2).verdict is Verdict.PASSED
    assert gates.flux_ratio(np.ones(2), 3, 0.8, 1.2).verdict is Verdict.WARNING
    assert gates.completeness(3, 10, 0.6).verdict is Verdict.FAILED
    assert (
        gates.overall([gates.completeness(9, 10, 0.6), gates.dynamic_range(1.0, 1.0, 5.0)])
        is Verdict.FAILED
    )


@pytest.mark.parametrize(
    ("spoil", "gate"),
    [
        (lambda p: 0.6 * p, "flux ratio"),
        (lambda p: np.roll(p, 6, axis=1), "astrometry"),
        (lambda p: p + 0.3 * np.random.default_rng(1).normal(size=p.shape), "rms"),
    ],
)
def test_a_spoiled_mosaic_is_caught_by_the_gate_meant_for_it(
    spoil: object, gate: str, processed: Processed, tmp_path: Path
) -> None:
    from dataclasses import replace

    mosaic = processed.result[MosaicImage]
    good = read_fits(mosaic.path)
    options = ValidationOptions(sky_catalog="known")
    names = {
        g.name
        for g in validate(mosaic.path, processed.root, options).gates
        if g.verdict is not Verdict.PASSED
    }
    assert gate not in names
    bad = replace(good, pixels=spoil(good.pixels).astype(np.float32))  # type: ignore[operator]
    write_fits(tmp_path / "bad.fits", bad)
    found = validate(tmp_path / "bad.fits", processed.root, options)
    assert gate in {g.name for g in found.gates if g.verdict is not Verdict.PASSED}
    assert gate in found.reasons()


def test_blank_pixels_do_not_count_as_missed_sources(processed: Processed, tmp_path: Path) -> None:
    from dataclasses import replace

    good = read_fits(processed.result[MosaicImage].path)
    half = good.pixels.copy()
    half[:, : half.shape[1] // 2] = np.nan
    write_fits(tmp_path / "half.fits", replace(good, pixels=half))
    options = ValidationOptions(sky_catalog="known")
    found = {g.name: g for g in validate(tmp_path / "half.fits", processed.root, options).gates}
    assert found["completeness"].value >= 0.9


def test_fluxes_and_positions_of_the_known_sky_come_back(processed: Processed) -> None:
    from dsa110_contimg.constants import ARCSEC_RAD
    from dsa110_contimg.sources.photometry import measure_at

    sky = processed.run.sky
    mosaic = processed.result[PublishedMosaic].path
    picture = read_fits(mosaic)
    noise = read_fits(mosaic.with_name(f"{mosaic.stem}_rms.fits")).pixels
    bright = sky.flux_jy > 0.15
    found = measure_at(picture, noise, sky.ra_deg[bright], sky.dec_deg[bright])
    true = sky.flux_jy[bright] * (picture.frequency_hz / 1.4e9) ** -0.7
    seen = found.observed & (found.peak_jy > 20 * found.noise_jy)
    assert seen.sum() >= 4
    ratio = found.peak_jy[seen] / true[seen]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.03)
    offset = np.hypot(found.offset_east_rad, found.offset_north_rad)[seen] / ARCSEC_RAD
    assert picture.beam is not None
    assert np.median(offset) < 0.05 * picture.beam.major_rad / ARCSEC_RAD


def test_the_report_needs_nothing_but_itself(processed: Processed) -> None:
    page = processed.result[PublishedMosaic].report.read_text()
    assert "data:image/png;base64," in page
    for outside in ("http://", "https://", "<script", 'src="/', "url("):
        assert outside not in page
    assert "flux ratio" in page


def test_the_report_shows_sources_maps_noise_and_what_was_expected(processed: Processed) -> None:
    page = processed.result[PublishedMosaic].report.read_text()
    mosaic = processed.result[MosaicImage]
    assert mosaic.expected_rms_jy is not None
    assert f"(expected {1e3 * mosaic.expected_rms_jy:.3g})" in page
    assert "Strong sources, the brightest first" in page
    for caption in ("Brightness, noise and coverage", "Pixels over the noise map", "Psf of tile"):
        assert f"<figcaption>{caption}" in page
    header = read_fits(mosaic.path).header
    assert header["EXPRMS"] == pytest.approx(mosaic.expected_rms_jy)


def test_the_expected_noise_of_a_mosaic_is_that_of_its_tiles(processed: Processed) -> None:
    mosaic, tiles = processed.result[MosaicImage], processed.result[ImagedTiles].tiles
    expected = [tile.expected_rms_jy or 0.0 for tile in tiles]
    share = np.median([one / tile.rms_jy for one, tile in zip(expected, tiles, strict=True)])
    assert mosaic.expected_rms_jy == pytest.approx(mosaic.median_rms_jy * share, rel=0.05)


def test_the_cross_match_finds_the_catalogue_again(processed: Processed) -> None:
    from astropy.table import Table

    match = processed.result[Crossmatch]
    table = Table.read(match.path, hdu="SOURCES")
    assert len(table) == match.n_sources
    assert match.n_matched >= 5
    assert table["matched"].sum() == match.n_matched
    assert table["flux_jy"].unit == "Jy"
    listed = Table.read(match.path, hdu="CATALOGUE")
    assert listed["missing"].sum() == match.n_missing
    assert listed["discrepant"].sum() == match.n_discrepant == 0
    assert match.flux_ratio == pytest.approx(1.0, abs=0.03)


def test_the_catalogue_in_other_formats_is_the_same_with_units_and_ucds(
    processed: Processed,
) -> None:
    import pyarrow.parquet
    from astropy.table import Table

    from dsa110_contimg.sources import catalogue_file

    path = processed.result[Crossmatch].path
    files = [file for _, file in catalogue_file.companions(path)]
    assert all(file.exists() for file in files)
    for hdu, kind in (("SOURCES", "sources"), ("CATALOGUE", "catalogue")):
        first = Table.read(path, hdu=hdu)
        votable, parquet = (
            next(f for f in files if f.name.endswith(f"_{kind}{suffix}"))
            for suffix in (".vot", ".parquet")
        )
        other = Table.read(votable, format="votable")
        columns = pyarrow.parquet.read_table(parquet).to_pydict()
        assert other.colnames == list(columns) == first.colnames
        for name in first.colnames:
            expected = np.asarray(first[name])
            nan = expected.dtype.kind == "f"
            assert np.array_equal(np.asarray(other[name]), expected, equal_nan=nan)
            assert np.array_equal(np.array(columns[name], expected.dtype), expected, equal_nan=nan)
            assert other[name].unit == first[name].unit
            assert other[name].meta["ucd"]
        assert b"phot.flux.density" in parquet.read_bytes()

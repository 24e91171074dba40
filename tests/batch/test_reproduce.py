"""A published mosaic is made again from whatever is left of it, and two images are compared."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from conftest import Processed
from dsa110_contimg import settings as settings_module
from dsa110_contimg.artifacts.mosaics import PublishedMosaic
from dsa110_contimg.batch import plans
from dsa110_contimg.batch.reproduce import IMAGES, MEASUREMENT_SETS, SUBBANDS
from dsa110_contimg.cli.main import app
from dsa110_contimg.errors import UsageError
from dsa110_contimg.imaging.fits_image import write_fits
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.mosaicking.options import MosaicOptions
from dsa110_contimg.operations.compare import compare
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Mosaic, Product, SubbandFile

KINDS = {"mosaic", "weight", "rms", "coverage", "preview", "catalogue"}


def _reproduce(root: Path, name: str) -> dict[str, object]:
    arguments = ["reproduce", name, "--root", str(root), "--workers", "2", "--json"]
    done = CliRunner().invoke(app, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout[done.stdout.index("{") :]))


def test_streaming_s_mosaic_is_made_again_from_the_deepest_inputs_left(streamed: Path) -> None:
    registry = Registry.of(settings_module.load(root=streamed))
    with registry.read() as session:
        (name,) = session.scalars(select(Mosaic.name))
        files = [Path(path) for path in session.scalars(select(SubbandFile.path))]
    before = {p: p.read_bytes() for p in (streamed / "products").rglob("*") if p.is_file()}
    found = _reproduce(streamed, name)
    assert found["made_from"] == SUBBANDS
    assert found["equal"] == dict.fromkeys(KINDS, True)
    assert found["other_versions"] == {}
    files[0].unlink()
    found = _reproduce(streamed, name)
    assert (found["made_from"], set(found["equal"].values())) == (MEASUREMENT_SETS, {True})
    shutil.rmtree(streamed / "caltables")
    found = _reproduce(streamed, name)
    assert (found["made_from"], set(found["equal"].values())) == (IMAGES, {True})
    image = next((streamed / "images").glob("2026*/*.image.fits"))
    content = image.read_bytes()
    image.write_bytes(content[:-2880] + bytes(2880))
    with pytest.raises(UsageError, match="is not the file that the product was made of"):
        _reproduce(streamed, name)
    image.unlink()
    with pytest.raises(UsageError, match="cannot be made again"):
        _reproduce(streamed, name)
    with pytest.raises(UsageError, match="no published mosaic with provenance"):
        _reproduce(streamed, "nothing")
    assert {p: p.read_bytes() for p in before} == before, "products are only read"


@pytest.mark.parametrize("suffix", ["fits", "image"])
def test_what_a_batch_user_made_is_made_again_from_its_own_record(
    streamed: Path, tmp_path: Path, suffix: str
) -> None:
    registry = Registry.of(settings_module.load(root=streamed))
    made = plans.plan(registry, "mine", options=MosaicOptions(method="weighted"))
    built = plans.build(made, tmp_path / f"mine.{suffix}")
    found = _reproduce(streamed, str(built.path))
    assert found["made_from"] == IMAGES
    assert found["equal"] == dict.fromkeys(KINDS - {"catalogue"}, True)
    trail = json.loads((tmp_path / "mine.json").read_text())
    assert trail["again"] == f"dsa110-contimg reproduce {built.path}"
    assert set(trail["inputs"]) == set(built.tile_ids)
    assert trail["software"]["processor"]
    image = made.tiles[0].file("image")
    image.write_bytes(image.read_bytes()[:-2880] + bytes(2880))
    with pytest.raises(UsageError, match="is not the file that the product was made of"):
        _reproduce(streamed, str(built.path))
    image.unlink()
    with pytest.raises(UsageError, match="cannot be made again"):
        _reproduce(streamed, str(built.path))


def test_a_product_that_was_changed_is_found_out(streamed: Path) -> None:
    with Registry.of(settings_module.load(root=streamed)).read() as session:
        (path,) = session.scalars(select(Product.path).where(Product.kind == "rms"))
        (name,) = session.scalars(select(Mosaic.name))
    image = read_fits(Path(path))
    Path(path).unlink()
    image.pixels[np.unravel_index(np.nanargmin(image.pixels), image.pixels.shape)] += 0.5
    write_fits(Path(path), image)
    done = CliRunner().invoke(app, ["reproduce", name, "--root", str(streamed), "--workers", "2"])
    assert done.exit_code == 1
    assert "rms        differs by up to" in done.stdout
    assert "mosaic     equal" in done.stdout


def test_other_options_are_compared_with_what_is_published(
    processed: Processed, tmp_path: Path
) -> None:
    registry = Registry.of(settings_module.load(root=processed.root))
    published = processed.result[PublishedMosaic]
    same = compare(published.path, published.path)
    assert (same.rms_difference_jy, same.largest_difference_jy) == (0.0, 0.0)
    assert same.n_sources > 5
    assert same.flux_ratio == 1.0
    made = plans.plan(registry, "deeper", options=MosaicOptions(method="pbweighted"))
    plans.build(made, tmp_path / "deeper.fits")
    arguments = [
        "compare",
        published.name,
        str(tmp_path / "deeper.fits"),
        "--root",
        str(processed.root),
        "--output",
        str(tmp_path / "difference.fits"),
        "--json",
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.exception
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert found["flux_ratio"] == pytest.approx(1.0, abs=0.03)
    assert found["rms_b_jy"] < 1.05 * found["rms_a_jy"]
    difference = read_fits(tmp_path / "difference.fits").pixels
    first, second = (read_fits(p).pixels for p in (published.path, tmp_path / "deeper.fits"))
    if first.shape == second.shape:
        np.testing.assert_allclose(difference, second - first, atol=1e-6)
    assert np.isfinite(difference).sum() == found["n_pixels"]
    assert (tmp_path / "difference.png").exists()


def test_the_graph_of_stages_is_printed_and_drawn(tmp_path: Path) -> None:
    for suffix, begin in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        target = tmp_path / f"graph{suffix}"
        done = CliRunner().invoke(app, ["graph", "--draw", str(target), "--root", str(tmp_path)])
        assert done.exit_code == 0, done.exception
        assert target.read_bytes().startswith(begin)
    lines = [line.split() for line in done.stdout.splitlines() if line[:2].strip().isdigit()]
    assert [line[1] for line in lines] == [
        "convert",
        "calibrate",
        "apply",
        "image",
        "mosaic",
        "validate",
        "register",
        "publish",
        "crossmatch",
    ]

"""Products as Python objects, and the Python of the README."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy import units

import dsa110_contimg
from conftest import SmallRun, make_root
from dsa110_contimg import Archive, stages
from dsa110_contimg.errors import UsageError
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.sky import catalogues

README = Path(__file__).parent.parent / "README.md"


@pytest.fixture
def archive(streamed: Path) -> Archive:
    return Archive(streamed)


def test_a_mosaic_is_an_image_with_its_maps_and_a_catalogue(
    archive: Archive, streamed: Path
) -> None:
    (summary,) = archive.mosaics()
    image = archive.image(summary.name)
    path = streamed / "products" / "mosaics" / f"{summary.name}.fits"
    np.testing.assert_array_equal(image.pixels, read_fits(path).pixels)
    assert archive.image(summary.name, "rms").pixels.shape == image.pixels.shape
    found = archive.catalogue(summary.name)
    assert found["flux_jy"].unit == units.Jy
    assert len(found) > 3
    assert archive.mosaic(summary.name).state == "published"


def test_sources_and_light_curves_are_tables(archive: Archive) -> None:
    sources = archive.sources()
    brightest = sources[np.argmax(sources["mean_jy"].filled(0))]
    near = archive.sources(
        ra_deg=brightest["ra_deg"], dec_deg=brightest["dec_deg"], radius_deg=0.01
    )
    assert list(near["name"]) == [brightest["name"]]
    curve = archive.light_curve(brightest["name"])
    assert curve["flux_density"].unit == units.Jy
    assert curve["flux_density"][0] == pytest.approx(brightest["mean_jy"])
    assert curve["time"].isot[0].startswith("2026-01-25T22:")
    assert curve.meta["name"] == brightest["name"]
    assert sources["eta"].mask.all()
    assert len(archive.sources(name="nothing")) == 0
    assert len(archive.light_curve(int(brightest["id"]), tiles=True)) >= 1


def test_what_is_not_there_is_said(archive: Archive, tmp_path: Path) -> None:
    name = archive.mosaics()[0].name
    with pytest.raises(UsageError, match=r"has no dirty that is published \(there is catalogue"):
        archive.image(name, "dirty")
    with pytest.raises(UsageError, match="no mosaic 'x'"):
        archive.image("x")
    with pytest.raises(UsageError, match="behaviour 'x': choose one of unknown, constant"):
        archive.sources(behaviour="x")
    with pytest.raises(UsageError, match="give ra_deg and dec_deg together"):
        archive.sources(ra_deg=3.0)
    with pytest.raises(UsageError, match="there is no database"):
        Archive(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_the_packages_list_what_they_have() -> None:
    assert {"Archive", "Client"} < set(dir(dsa110_contimg))
    assert "ConversionStage" in dir(stages)
    assert "import_module" not in dir(stages)


def test_the_python_of_the_readme_runs(small_run: SmallRun, streamed: Path, tmp_path: Path) -> None:
    run, read = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    place = make_root(tmp_path / "place", small_run)
    catalogues.save(place, small_run.run.sky.catalogue("nvss"))
    (place / "incoming").symlink_to(small_run.directory)
    (place / "demo").symlink_to(streamed)
    done = subprocess.run(
        [sys.executable, "-c", f"{run}\n{read}"], cwd=place, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "flux_density" in done.stdout
    assert "images/" in done.stdout

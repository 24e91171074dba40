"""Real VLA data, NGC 5921 of 1995: CASA 6.7 on the same file gives the figures asked for here."""

import lzma
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dsa110_contimg.calibration.apply import apply_gains
from dsa110_contimg.calibration.fields import FieldCalibration, calibrate_fields, calibration_at
from dsa110_contimg.calibration.options import FieldSolveOptions
from dsa110_contimg.cli.main import app
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.errors import BadInputError, UsageError
from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.imaging.options import TileImageOptions
from dsa110_contimg.imaging.parameters import TileImage
from dsa110_contimg.imaging.tile import image_tile
from dsa110_contimg.sources.photometry import measure_at
from dsa110_contimg.visibilities.data import Visibilities
from dsa110_contimg.visibilities.foreign import read_fields

pytestmark = pytest.mark.real
CELL_RAD = 15 * ARCSEC_RAD


@pytest.fixture(scope="module")
def uvfits(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vla") / "ngc5921.uvfits"
    with lzma.open(real_data / "vla_ngc5921_1995.uvfits.xz") as source, path.open("wb") as out:
        shutil.copyfileobj(source, out)
    return path


@pytest.fixture(scope="module")
def fields(uvfits: Path) -> dict[str, Visibilities]:
    return {vis.field_name: vis for vis in read_fields(uvfits)}


@pytest.fixture(scope="module")
def solution(fields: dict[str, Visibilities]) -> FieldCalibration:
    primary, secondary = _named(fields, "1331"), _named(fields, "1445")
    return calibrate_fields(primary, [primary, secondary], FieldSolveOptions())


def _named(fields: dict[str, Visibilities], start: str) -> Visibilities:
    (vis,) = (vis for name, vis in fields.items() if name.startswith(start))
    return vis


def _calibrated(solution: FieldCalibration, vis: Visibilities) -> Visibilities:
    return apply_gains(vis, *calibration_at(solution, vis), interval=vis.time_index)


def _image(vis: Visibilities) -> TileImage:
    options = TileImageOptions(
        size=256,
        cell_arcsec=CELL_RAD / ARCSEC_RAD,
        robust=0.5,
        niter=3000,
        auto_mask_sigma=3.0,
        auto_threshold_sigma=0.5,
        major_gain=0.6,
        max_major=20,
    )
    return image_tile(vis, None, options)


def test_fields_are_read_with_their_positions(fields: dict[str, Visibilities]) -> None:
    assert len(fields) == 3
    calibrator = _named(fields, "1331")
    assert np.rad2deg(calibrator.phase_centre_rad) == pytest.approx((202.7845, 30.5092), abs=1e-3)
    assert calibrator.data.shape[1:] == (63, 2)
    assert len(calibrator.array.names) >= 27
    assert np.all(np.diff(calibrator.frequencies_hz) > 0)
    assert calibrator.array.dish_diameters_m[0] == 25.0


def test_one_field_can_be_selected(uvfits: Path, fields: dict[str, Visibilities]) -> None:
    name = _named(fields, "1445").field_name
    (only,) = read_fields(uvfits, name)
    assert only.field_name == name
    with pytest.raises(BadInputError, match="holds no field 'M31', only"):
        read_fields(uvfits, "M31")


def test_flux_scale_is_transferred(solution: FieldCalibration) -> None:
    flux = {name[:4]: value for name, value in solution.flux_jy.items()}
    assert flux["1331"][0] == pytest.approx(15.016, rel=0.001)
    assert flux["1445"][0] == pytest.approx(2.5265, rel=0.01)
    assert 0 < flux["1445"][1] < 0.02


def test_primary_calibrator_has_its_flux_density_in_its_image(
    fields: dict[str, Visibilities], solution: FieldCalibration
) -> None:
    image = _image(_calibrated(solution, _named(fields, "1331")))
    peak = np.unravel_index(image.apparent.argmax(), image.apparent.shape)
    assert peak == (image.apparent.shape[0] // 2,) * 2
    assert image.apparent.max() == pytest.approx(15.0, rel=0.01)


def test_target_field_is_as_deep_as_casa_makes_it(
    fields: dict[str, Visibilities], solution: FieldCalibration
) -> None:
    vis = _calibrated(solution, _named(fields, "N5921"))
    channels = np.r_[6:21, 40:57]
    vis = replace(
        vis,
        data=vis.data[:, channels],
        flags=vis.flags[:, channels],
        weights=vis.weights[:, channels],
        frequencies_hz=vis.frequencies_hz[channels],
        channel_width_hz=vis.channel_width_hz[channels],
    )
    image = _image(vis)
    assert image.rms_jy <= 0.65e-3
    middle = image.apparent.shape[0] // 2
    plane = Image(
        image.apparent,
        vis.phase_centre_rad,
        (middle, middle),
        image.cell_rad,
        "SIN",
        image.beam,
        "Jy/beam",
        image.frequency_hz,
    )
    source = measure_at(
        plane,
        np.full(image.apparent.shape, image.rms_jy),
        np.array([15 * (15 + 21 / 60 + 54.94 / 3600)]),
        np.array([4 + 58 / 60 + 30.7 / 3600]),
    )
    assert source.peak_jy[0] == pytest.approx(86.7e-3, rel=0.03)
    assert np.hypot(source.offset_east_rad, source.offset_north_rad) < 2 * ARCSEC_RAD


def test_the_whole_way_at_the_command_line(uvfits: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    sets = {name: tmp_path / f"{name}.ms" for name in ("1331+30500002_0", "1445+09900002_0")}
    with pytest.raises(UsageError, match=r"holds the fields 1331.* choose one with --field"):
        run("convert", uvfits, "--output", tmp_path / "all.ms")
    for name, path in sets.items():
        run("convert", uvfits, "--field", name, "--output", path)
    primary, secondary = sets.values()
    told = run("calibrate-fields", primary, primary, secondary, "--output", tmp_path / "tables")
    (flux,) = re.findall(r"1445\S*: ([0-9.]+) Jy", told)
    assert float(flux) == pytest.approx(2.5265, rel=0.01)
    run("apply-fields", tmp_path / "tables", secondary, "--output", tmp_path / "cal.ms")
    told = run(
        "image",
        tmp_path / "cal.ms",
        "--output",
        tmp_path / "image",
        "--size",
        256,
        "--cell-arcsec",
        15,
        "--niter",
        500,
        "--no-subtract-outside",
        "--root",
        tmp_path,
    )
    (peak,) = re.findall(r"peak ([0-9.]+) Jy", told)
    assert float(peak) == pytest.approx(2.5265, rel=0.02)

"""Plan, build and single stages on the command line: done once, or a clear error and exit 1."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import Processed, SmallRun
from dsa110_contimg import settings as settings_module
from dsa110_contimg.batch import plans
from dsa110_contimg.imaging.fits_image import read_fits
from dsa110_contimg.registry.database import Registry

SCRIPTS = Path(sys.executable).parent


def run(
    program: str, *arguments: object, root: Path | None = None,
    prepare: Callable[[], None] | None = None,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CONTIMG_ROOT")}
    if root is not None:
        environment["CONTIMG_ROOT"] = str(root)
    return subprocess.run(
        [str(SCRIPTS / program), *map(str, arguments)], env=environment, capture_output=True,
        text=True, timeout=300, check=False, preexec_fn=prepare,
    )  # fmt: skip


def mosaic(*arguments: object, root: Path) -> subprocess.CompletedProcess[str]:
    return run("dsa110-contimg-mosaic", *arguments, root=root)


@pytest.mark.parametrize("method", ["mean", "weighted", "pbweighted"])
def test_plan_and_build_as_fits(method: str, processed: Processed, tmp_path: Path) -> None:
    planned = mosaic("plan", "--name", f"m_{method}", "--method", method, root=processed.root)
    assert planned.returncode == 0, planned.stderr
    assert "3 tiles" in planned.stdout
    output = tmp_path / "out.fits"
    dry = mosaic("build", "--name", f"m_{method}", "--output", output, "--dry-run",
                 root=processed.root)  # fmt: skip
    assert dry.returncode == 0, dry.stderr
    assert list(tmp_path.iterdir()) == []
    built = mosaic("build", "--name", f"m_{method}", "--output", output, root=processed.root)
    assert built.returncode == 0, built.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "out.fits", "out.png", "out_coverage.fits", "out_rms.fits", "out_weight.fits",
    ]  # fmt: skip
    pixels = read_fits(output).pixels
    published = read_fits(processed.result["published"].path).pixels
    if method == "mean":
        assert pixels.tobytes() == published.tobytes(), "streaming's default, the same bytes"
    else:
        both = np.isfinite(pixels) & np.isfinite(published)
        assert np.nanmax(np.abs(pixels[both] - published[both])) > 0


def test_build_as_casa_image_equals_the_fits(processed: Processed, tmp_path: Path) -> None:
    from casacore import images

    assert mosaic("plan", "--name", "c", root=processed.root).returncode == 0
    for suffix in ("fits", "image"):
        done = mosaic("build", "--name", "c", "--output", tmp_path / f"a.{suffix}", "--overwrite",
                      root=processed.root)  # fmt: skip
        assert done.returncode == 0, done.stderr
    picture = read_fits(tmp_path / "a.fits")
    casa = images.image(str(tmp_path / "a.image"))
    finite = np.isfinite(picture.pixels)
    assert np.array_equal(casa.getdata().squeeze()[finite], picture.pixels[finite])
    assert np.array_equal(casa.getmask().squeeze(), ~finite)
    assert casa.unit() == "Jy/beam"


def test_observation_time_selects_tiles(processed: Processed) -> None:
    starts = [tile.start for tile in processed.result["measurement_sets"]]
    planned = mosaic("plan", "--name", "late", "--since", starts[1] - 1, root=processed.root)
    assert "2 tiles" in planned.stdout
    iso = mosaic("plan", "--name", "early", "--until", "2026-01-25T22:05:30", root=processed.root)
    assert "1 tiles" in iso.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("plan", "--name", "x", "--method", "median"), 2, "median"),
        (("plan", "--name", "x", "--since", "yesterday"), 1, "Unix seconds or an ISO time"),
        (("plan", "--name", "x", "--since", "2030-01-01"), 1, "no imaged tile"),
        (("build", "--name", "nobody", "--output", "/tmp/x.fits"), 1, "no plan 'nobody'"),
        (("build", "--name", "x"), 2, "--output"),
    ],
)
def test_a_wrong_request_fails_at_once_with_its_reason(
    arguments: tuple[str, ...], status: int, message: str, processed: Processed
) -> None:
    done = mosaic(*arguments, root=processed.root)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_output_is_never_overwritten_unasked(processed: Processed, tmp_path: Path) -> None:
    assert mosaic("plan", "--name", "o", root=processed.root).returncode == 0
    (tmp_path / "a.fits").write_text("mine")
    for extra in ((), ("--dry-run",)):
        done = mosaic("build", "--name", "o", "--output", tmp_path / "a.fits", *extra,
                      root=processed.root)  # fmt: skip
        assert done.returncode == 1
        assert "exists already" in done.stderr
    assert (tmp_path / "a.fits").read_text() == "mine"
    for bad, message in (("x.txt", "ends in .fits or .image"), ("no/x.fits", "not a directory")):
        done = mosaic("build", "--name", "o", "--output", tmp_path / bad, root=processed.root)
        assert (done.returncode, message in done.stderr) == (1, True)


def _obey_permissions() -> None:
    """Take from a root process the right to write where permissions forbid it."""
    drop_from_bounding_set, dac_override = 24, 1
    ctypes.CDLL(None).prctl(drop_from_bounding_set, dac_override)


def test_a_directory_without_write_permission_is_refused(
    processed: Processed, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert mosaic("plan", "--name", "p", root=processed.root).returncode == 0
    done = run(
        "dsa110-contimg-mosaic", "build", "--name", "p", "--output", closed / "a.fits",
        root=processed.root, prepare=_obey_permissions,
    )  # fmt: skip
    assert done.returncode == 1
    assert "may not be written" in done.stderr
    assert list(closed.iterdir()) == []


def test_each_stage_runs_on_explicit_files(
    small_run: SmallRun, processed: Processed, tmp_path: Path
) -> None:
    tool = "dsa110-contimg"
    root = processed.root
    small = ("--sky-catalog", "known")
    ms, cal = tmp_path / "a.ms", tmp_path / "cal.ms"
    steps = [
        ("convert", *small_run.files[1], "--output", ms),
        ("calibrate", ms, "--output", tmp_path / "set", *small),
        ("apply", ms, "--tables", tmp_path / "set", "--output", cal, *small),
        ("apply", ms, "--tables", tmp_path / "set", *small),
        ("image", cal, "--output", tmp_path / "img", "--size", "512", "--robust", "0", *small),
        ("image", ms, "--column", "CORRECTED_DATA", "--output", tmp_path / "col", "--size", "512",
         "--robust", "0", *small),
    ]  # fmt: skip
    for step in steps:
        done = run(tool, *step, root=root)
        assert done.returncode == 0, done.stderr
    one, two = (read_fits(tmp_path / f"{name}.image.fits").pixels for name in ("img", "col"))
    assert one.max() > 3
    assert np.abs(one - two).max() < 0.1 * one.max()
    again = run(tool, "convert", *small_run.files[1], "--output", ms, root=root)
    assert again.returncode == 1
    assert "exists already" in again.stderr


def test_help_and_errors_come_without_a_traceback(tmp_path: Path) -> None:
    for program in ("dsa110-contimg", "dsa110-contimg-mosaic", "dsa110-contimg-convert-stream",
                    "dsa110-contimg-streaming-mosaic"):  # fmt: skip
        done = run(program, "--help")
        assert done.returncode == 0
        assert "Usage" in done.stdout
    done = run("dsa110-contimg", "catalog", "cone", "nvss", "1", "2", root=tmp_path)
    assert done.returncode == 1
    assert "no catalogue 'nvss'" in done.stderr
    done = run("dsa110-contimg-convert-stream", "--input-dir", tmp_path / "no", root=tmp_path)
    assert done.returncode == 1
    assert "is not a directory" in done.stderr
    (tmp_path / "contimg.toml").write_text("polling = 3\n")
    done = run("dsa110-contimg", "status", root=tmp_path)
    assert done.returncode == 1
    assert "polling" in done.stderr


def test_a_catalogue_is_imported_and_searched(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(
        "name,ra,dec,s\na,10.0,20.0,500\nb,10.5,20.0,-1\nc,359.9,-5,80\n"
    )
    wrong = run("dsa110-contimg", "catalog", "import", tmp_path / "c.csv", "--name", "mine",
                root=tmp_path)  # fmt: skip
    assert wrong.returncode == 1
    assert "no known catalogue" in wrong.stderr
    done = run(
        "dsa110-contimg", "catalog", "import", tmp_path / "c.csv", "--name", "mine", "--ra", "ra",
        "--dec", "dec", "--flux", "s", "--flux-unit", "mJy", root=tmp_path,
    )  # fmt: skip
    assert "2 sources" in done.stdout, done.stderr
    cone = run("dsa110-contimg", "catalog", "cone", "mine", "0.1", "-5", "--radius", "0.5",
               root=tmp_path)  # fmt: skip
    assert cone.stdout.split() == ["359.900000", "-5.000000", "0.08000", "Jy"]


@pytest.mark.parametrize("method", ["mean", "weighted", "pbweighted"])
def test_a_plan_predicts_the_depth_that_the_mosaic_has(
    processed: Processed, tmp_path: Path, method: str
) -> None:
    registry = Registry(settings_module.load(root=processed.root).database)
    made = plans.plan(registry, f"deep_{method}", method=method)
    depth = plans.predicted_depth(made)
    assert depth is not None
    built = plans.build(made, tmp_path / "deep.fits", False)
    rms = read_fits(tmp_path / "deep_rms.fits").pixels
    assert depth.median_rms_jy == pytest.approx(built.median_rms_jy, rel=0.01)
    assert depth.best_rms_jy == pytest.approx(float(np.nanmin(rms)), rel=0.02)
    assert depth.observed_deg2 == pytest.approx(built.observed_deg2, rel=0.02)

"""Plan, build and single stages on the command line: done once, or a clear error and exit 1."""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import Processed, SmallRun
from dsa110_contimg import settings as settings_module
from dsa110_contimg.artifacts.calibration import SolvedSet
from dsa110_contimg.artifacts.mosaics import PublishedMosaic
from dsa110_contimg.artifacts.tiles import ConvertedTiles
from dsa110_contimg.batch import plans
from dsa110_contimg.batch.pipelines import run_pipeline
from dsa110_contimg.batch.selection import Selection
from dsa110_contimg.batch.tiles import choose, query_tiles
from dsa110_contimg.errors import BadInputError, PermanentError, UsageError
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.mosaicking.options import MosaicOptions
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.stage_options import PipelineOptions
from dsa110_contimg.tasks.calibration_sets import load_set

SCRIPTS = Path(sys.executable).parent


def run(
    program: str,
    *arguments: object,
    root: Path | None = None,
    prepare: Callable[[], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CONTIMG_ROOT")}
    if root is not None:
        environment["CONTIMG_ROOT"] = str(root)
    return subprocess.run(
        [str(SCRIPTS / program), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=prepare,
    )


def mosaic(*arguments: object, root: Path) -> subprocess.CompletedProcess[str]:
    return run("dsa110-contimg-mosaic", *arguments, root=root)


@pytest.mark.parametrize("method", ["mean", "weighted", "pbweighted"])
def test_plan_and_build_as_fits(method: str, processed: Processed, tmp_path: Path) -> None:
    planned = mosaic("plan", "--name", f"m_{method}", "--method", method, root=processed.root)
    assert planned.returncode == 0, planned.stderr
    assert "3 tiles" in planned.stdout
    output = tmp_path / "out.fits"
    dry = mosaic(
        "build", "--name", f"m_{method}", "--output", output, "--dry-run", root=processed.root
    )
    assert dry.returncode == 0, dry.stderr
    assert list(tmp_path.iterdir()) == []
    built = mosaic("build", "--name", f"m_{method}", "--output", output, root=processed.root)
    assert built.returncode == 0, built.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "out.fits",
        "out.json",
        "out.png",
        "out_coverage.fits",
        "out_rms.fits",
        "out_weight.fits",
    ]
    pixels = read_fits(output).pixels
    published = read_fits(processed.result[PublishedMosaic].path).pixels
    if method == "mean":
        assert pixels.tobytes() == published.tobytes(), "streaming's default, the same bytes"
    else:
        both = np.isfinite(pixels) & np.isfinite(published)
        assert np.nanmax(np.abs(pixels[both] - published[both])) > 0


def test_build_as_casa_image_equals_the_fits(processed: Processed, tmp_path: Path) -> None:
    from casacore import images

    assert mosaic("plan", "--name", "c", root=processed.root).returncode == 0
    for suffix in ("fits", "image"):
        done = mosaic(
            "build",
            "--name",
            "c",
            "--output",
            tmp_path / f"a.{suffix}",
            "--overwrite",
            root=processed.root,
        )
        assert done.returncode == 0, done.stderr
    picture = read_fits(tmp_path / "a.fits")
    casa = images.image(str(tmp_path / "a.image"))
    finite = np.isfinite(picture.pixels)
    assert np.array_equal(casa.getdata().squeeze()[finite], picture.pixels[finite])
    assert np.array_equal(casa.getmask().squeeze(), ~finite)
    assert casa.unit() == "Jy/beam"


def test_observation_time_selects_tiles(processed: Processed) -> None:
    starts = [tile.start for tile in processed.result[ConvertedTiles].tiles]
    planned = mosaic("plan", "--name", "late", "--since", starts[1] - 1, root=processed.root)
    assert "2 tiles" in planned.stdout
    iso = mosaic("plan", "--name", "early", "--until", "2026-01-25T22:05:30", root=processed.root)
    assert "plan early: 1 tile," in iso.stdout


def test_tiles_are_chosen_by_place_name_noise_and_calibration(processed: Processed) -> None:
    registry = Registry.of(settings_module.load(root=processed.root))
    tiles = choose(registry, Selection())
    ras = [tile.ra_deg for tile in tiles]
    half = tiles[0].size * tiles[0].cell_arcsec / 7200
    far_west = ras[0] - 1.1 * half
    names = [tile.tile_id for tile in tiles]
    limit_mjy = 1e3 * sorted(tile.rms_jy for tile in tiles)[1]
    (calibration,) = {tile.calibration_set_id for tile in tiles}
    for asked, expected in (
        ({"tiles": [names[2], names[0]]}, [names[0], names[2]]),
        ({"tiles": names[1]}, [names[1]]),
        ({"declination": "16,17"}, names),
        ({"declination": (20, 90)}, []),
        ({"box": (far_west, ras[0] - 0.9 * half, 16, 17)}, names[:1]),
        ({"box": f"{ras[-1] + 0.99 * half},10,-90,90"}, [names[-1]]),
        ({"box": (far_west - 5, far_west, 16, 17)}, []),
        ({"box": (0, 360, 60, 70)}, []),
        ({"max_rms_mjy": limit_mjy}, [t.tile_id for t in tiles if 1e3 * t.rms_jy <= limit_mjy]),
        ({"calibration_set": calibration}, names),
        ({"calibration_set": "another"}, []),
        ({"since": "2026-01-25T22:05:30"}, names[1:]),
    ):
        found = choose(registry, Selection(**asked))
        assert [tile.tile_id for tile in found] == expected, asked
    with pytest.raises(UsageError, match="tile nobody"):
        choose(registry, Selection(tiles=("nobody",)))


def test_the_seed_s_query_of_tiles(processed: Processed) -> None:
    registry = Registry.of(settings_module.load(root=processed.root))
    every = query_tiles(registry, time_range=(None, None), method="mean", pb_corrected_only=True)
    assert len(every) == 3
    assert query_tiles(registry, (every[1].start, every[1].start), "pbweighted") == [every[1]]
    with pytest.raises(UsageError, match="unknown mosaic method 'median'"):
        query_tiles(registry, method="median")


def test_a_stored_plan_is_shown_edited_built_and_forgotten(
    processed: Processed, tmp_path: Path
) -> None:
    root = processed.root
    planned = mosaic(
        "plan", "--name", "whole", "--method", "weighted", "--max-noise-ratio", "3", root=root
    )
    assert planned.returncode == 0, planned.stderr
    document = json.loads(mosaic("plans", "whole", "--json", root=root).stdout)
    assert (document["options"]["method"], document["options"]["max_noise_ratio"]) == (
        "weighted",
        3.0,
    )
    document["tiles"] = document["tiles"][:2]
    (tmp_path / "edited.json").write_text(json.dumps(document))
    edited = mosaic("plan", "--name", "part", "--file", tmp_path / "edited.json", root=root)
    assert "2 tiles, method weighted" in edited.stdout, edited.stderr
    assert "part" in mosaic("plans", root=root).stdout
    built = mosaic("build", "--name", "part", "--output", tmp_path / "p.fits", "--json", root=root)
    assert json.loads(built.stdout)["tile_ids"] == document["tiles"]
    for wrong, message in (
        ({"tiles": ["nobody"]}, "nobody"),
        ({"pixels": 3}, "a plan is an object with"),
        ({"tiles": document["tiles"], "options": {"method": "median"}}, "options.method"),
    ):
        (tmp_path / "wrong.json").write_text(json.dumps(wrong))
        done = mosaic("plan", "--name", "w", "--file", tmp_path / "wrong.json", root=root)
        assert (done.returncode, message in done.stderr) == (1, True), done.stderr
    assert mosaic("plans", "part", "--delete", root=root).returncode == 0
    assert "no plan 'part'" in mosaic("plans", "part", root=root).stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("plan", "--name", "x", "--method", "median"), 2, "median"),
        (("plan", "--name", "x", "--since", "yesterday"), 1, "give an ISO time such as"),
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
        done = mosaic(
            "build", "--name", "o", "--output", tmp_path / "a.fits", *extra, root=processed.root
        )
        assert done.returncode == 1
        assert "exists already" in done.stderr
    assert (tmp_path / "a.fits").read_text() == "mine"
    for bad, message in (("x.txt", "ends in .fits or .image"), ("no/x.fits", "no directory")):
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
        "dsa110-contimg-mosaic",
        "build",
        "--name",
        "p",
        "--output",
        closed / "a.fits",
        root=processed.root,
        prepare=_obey_permissions,
    )
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
        (
            "image",
            ms,
            "--column",
            "CORRECTED_DATA",
            "--output",
            tmp_path / "col",
            "--size",
            "512",
            "--robust",
            "0",
            *small,
        ),
    ]
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
    for program in (
        "dsa110-contimg",
        "dsa110-contimg-mosaic",
        "dsa110-contimg-convert-stream",
        "dsa110-contimg-streaming-mosaic",
    ):
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
    wrong = run(
        "dsa110-contimg", "catalog", "import", tmp_path / "c.csv", "--name", "mine", root=tmp_path
    )
    assert wrong.returncode == 1
    assert "no known catalogue" in wrong.stderr
    done = run(
        "dsa110-contimg",
        "catalog",
        "import",
        tmp_path / "c.csv",
        "--name",
        "mine",
        "--ra",
        "ra",
        "--dec",
        "dec",
        "--flux",
        "s",
        "--flux-unit",
        "mJy",
        root=tmp_path,
    )
    assert "2 sources" in done.stdout, done.stderr
    cone = run(
        "dsa110-contimg", "catalog", "cone", "mine", "0.1", "-5", "--radius", "0.5", root=tmp_path
    )
    assert cone.stdout.splitlines()[1].split() == ["359.900000", "-5.000000", "80.00", "717.3"]


@pytest.mark.parametrize("method", ["mean", "weighted", "pbweighted"])
def test_a_plan_predicts_the_depth_that_the_mosaic_has(
    processed: Processed, tmp_path: Path, method: str
) -> None:
    registry = Registry.of(settings_module.load(root=processed.root))
    made = plans.plan(registry, f"deep_{method}", options=MosaicOptions(method=method))
    depth = plans.predicted_depth(made)
    assert depth is not None
    built = plans.build(made, tmp_path / "deep.fits", False)
    rms = read_fits(tmp_path / "deep_rms.fits").pixels
    assert depth.median_rms_jy == pytest.approx(built.median_rms_jy, rel=0.01)
    assert depth.best_rms_jy == pytest.approx(float(np.nanmin(rms)), rel=0.02)
    assert depth.observed_deg2 == pytest.approx(built.observed_deg2, rel=0.02)


def test_a_name_that_a_mosaic_has_is_refused_before_the_work(processed: Processed) -> None:
    registry = Registry.of(settings_module.load(root=processed.root))
    used = processed.result[PublishedMosaic].name
    for name, why in ((used, "is a mosaic of this name already"), ("all_sky", "the sky survey")):
        context = PipelineContext(processed.root)
        with pytest.raises(PermanentError, match=why):
            run_pipeline(registry, [Path("not looked at")], PipelineOptions(), context, name)
    registry.close()


def test_a_table_of_casa_is_no_calibration_set(processed: Processed, tmp_path: Path) -> None:
    made = processed.result[SolvedSet]
    with pytest.raises(BadInputError, match="give a directory that 'calibrate' made; tables of"):
        load_set(made.path / "gains.g")
    with pytest.raises(BadInputError, match="is not a calibration set"):
        load_set(tmp_path)

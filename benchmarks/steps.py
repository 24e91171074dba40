"""The steps of a tile as the pipeline's workers run them, timed, in two workers that stay."""

import multiprocessing
import os
import re
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import peer_programs
from dsa110_contimg.executors.worker import WORKER_ENVIRONMENT

WORKERS = 2
CATALOGUE = "bench"


@dataclass
class Step:
    """Seconds of one step in each repetition: of one worker among two, and of the peer."""

    name: str
    peer: str = ""
    ours_s: list[float] = field(default_factory=list)
    peer_s: list[float] = field(default_factory=list)
    peak_gib: float = float("nan")
    remark: str = ""

    @property
    def ours_per_hour(self) -> float:
        """Tiles an hour on the machine."""
        return 3600 * WORKERS / min(self.ours_s)

    @property
    def peer_per_hour(self) -> float:
        """Tiles an hour on the machine."""
        return 3600 / min(self.peer_s) if self.peer_s else float("nan")


def simulate(directory: Path, antennas: int, channels: int, rfi: float = 0.02) -> None:
    """Write one group and register its catalogue; channels are a sub-band's."""
    from dsa110_contimg.simulation import hour
    from dsa110_contimg.sky import catalogues

    run = hour.prepare(hour.RunOptions(groups=1, antennas=antennas, channels=channels, rfi=rfi))
    for name in ("in", "ms"):
        (directory / name).mkdir(parents=True)
    run.write(directory / "in", 0)
    run.write_truth(directory)
    catalogues.save(directory, run.sky.catalogue(CATALOGUE))


def warm(directory: Path) -> None:
    """Read every file, so that it is in the page cache."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                while stream.read(1 << 24):
                    pass


# What a worker runs: the same functions that the pipeline's stages submit.


def convert(work: Path, output: Path) -> Any:
    from dsa110_contimg.tasks import conversion
    from dsa110_contimg.telescope import DSA110
    from dsa110_contimg.visibilities.options import ConversionOptions

    return conversion.convert(
        sorted((work / "in").glob("*.hdf5")), output, DSA110, ConversionOptions()
    )


def solve(work: Path, tile: Any, output: Path) -> Any:
    from dsa110_contimg.stage_options import CalibrationSolveOptions
    from dsa110_contimg.tasks import calibration_solve

    return calibration_solve.solve(
        tile, output, work, CalibrationSolveOptions(sky_catalog=CATALOGUE)
    )


def apply(work: Path, tile: Any, calibration_set: Any, output: Path) -> Any:
    from dsa110_contimg.stage_options import CalibrationApplyOptions
    from dsa110_contimg.tasks import calibration_apply

    options = CalibrationApplyOptions(sky_catalog=CATALOGUE)
    return calibration_apply.apply(tile, calibration_set, output, work, options)


def image(work: Path, ms_path: Path, prefix: Path, **options: Any) -> Any:
    from dsa110_contimg.stage_options import ImagingOptions
    from dsa110_contimg.tasks import imaging

    prefix.parent.mkdir(parents=True, exist_ok=True)
    return imaging.image(ms_path, prefix, work, ImagingOptions(sky_catalog=CATALOGUE, **options))


def flag(ms_path: Path) -> Any:
    """Flagging alone, as the calibration stage does it, but for an empty model."""
    from dsa110_contimg.visibilities import flagging, measurement_set

    vis = measurement_set.read(ms_path)
    nothing = np.zeros(vis.data.shape[:2], np.complex64)
    found = flagging.flag_interference(
        vis.data, vis.flags, vis.antenna1, vis.antenna2, vis.time_index, nothing
    )
    return float(found.mean())


def bandpass(work: Path, ms_path: Path) -> float:
    """Seconds to read a tile and solve its bandpass, model and flags being given, as for CASA."""
    from dsa110_contimg.calibration import bandpass, predict
    from dsa110_contimg.stage_options import CalibrationSolveOptions
    from dsa110_contimg.tasks.sky_models import sky_model
    from dsa110_contimg.visibilities import measurement_set

    options = CalibrationSolveOptions(sky_catalog=CATALOGUE)
    vis = measurement_set.read(ms_path)
    sky = predict.predict(vis, sky_model(vis, work, options))
    del vis
    begin = time.perf_counter()
    vis = measurement_set.read(ms_path)
    bandpass.solve_channels(vis, sky, np.zeros(sky.shape, bool), options)
    return time.perf_counter() - begin


def _timed(function: Any, arguments: dict[str, Any]) -> tuple[float, Any, float]:
    """Seconds, result, and the most memory of the process meanwhile (GiB)."""
    Path("/proc/self/clear_refs").write_text("5")
    begin = time.perf_counter()
    result = function(**arguments)
    seconds = time.perf_counter() - begin
    (peak_kib,) = re.findall(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    return seconds, result, int(peak_kib) / 2**20


class Ours:
    """Two workers that stay, as the pipeline's do."""

    def __init__(self) -> None:
        os.environ.update(WORKER_ENVIRONMENT)
        self.pool = ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn"))

    def run(
        self, function: Any, calls: list[dict[str, Any]], step: Step | None = None
    ) -> list[Any]:
        """Results of concurrent calls; their mean seconds and peak memory go into a step."""
        answers = [
            future.result()
            for future in [self.pool.submit(_timed, function, call) for call in calls]
        ]
        if step is not None:
            step.ours_s.append(float(np.mean([seconds for seconds, _, _ in answers])))
            step.peak_gib = max(peak for _, _, peak in answers)
        return [result for _, result, _ in answers]


def give_model(ms: Path, work: Path) -> None:
    """Give CASA the model that ours is calibrated against."""
    from dsa110_contimg.calibration import predict
    from dsa110_contimg.stage_options import CalibrationSolveOptions
    from dsa110_contimg.tasks.sky_models import sky_model
    from dsa110_contimg.visibilities import measurement_set

    vis = measurement_set.read(ms)
    model = sky_model(vis, work, CalibrationSolveOptions(sky_catalog=CATALOGUE))
    peer_programs.give_model(ms, predict.predict(vis, model))


def load_programs(ours: Ours, work: Path) -> None:
    """A first tile of small size: programs are loaded and compiled in both workers."""
    simulate(work, 24, 4)
    pair = range(WORKERS)
    tiles = ours.run(convert, [{"work": work, "output": work / f"ms/{k}.ms"} for k in pair])
    calls = [{"work": work, "tile": tiles[k], "output": work / f"cal/{k}"} for k in pair]
    sets = ours.run(solve, calls)
    calls = [
        {
            "work": work,
            "tile": tiles[k],
            "calibration_set": sets[k],
            "output": work / f"ms/cal{k}.ms",
        }
        for k in pair
    ]
    applied = ours.run(apply, calls)
    calls = [
        {"work": work, "ms_path": applied[k].ms_path, "prefix": work / f"images/{k}"} for k in pair
    ]
    ours.run(image, calls)

"""Tiles an hour against workers, measured on the machines that the settings name."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dsa110_contimg.artifacts.calibration import SolvedSet
from dsa110_contimg.durable import size_bytes
from dsa110_contimg.executors.base import Executor
from dsa110_contimg.executors.opening import open_executor
from dsa110_contimg.settings import Settings, pipeline_options
from dsa110_contimg.simulation import hour
from dsa110_contimg.sky import catalogues
from dsa110_contimg.stage_options import PipelineOptions
from dsa110_contimg.tasks import calibration_apply, calibration_solve, conversion, imaging
from dsa110_contimg.telescope import DSA110

Result = TypeVar("Result")

STAGES = ("convert", "apply", "image")
_CATALOGUE = "simulated"


@dataclass(frozen=True)
class Rate:
    """What so many workers did.

    Attributes
    ----------
    workers : int
        Calls at once.
    tiles : int
    seconds : float
        From the first call to the last answer.
    stage_s : dict of str to float
        Mean of each stage, waiting for a worker included.
    tile_gb : dict of str to float
        What a tile is on disk: its sub-band files, raw and calibrated Measurement Set, images.
    """

    workers: int
    tiles: int
    seconds: float
    stage_s: dict[str, float]
    tile_gb: dict[str, float]

    @property
    def tiles_per_hour(self) -> float:
        """Tiles that were converted, calibrated and imaged."""
        return 3600.0 * self.tiles / self.seconds


def measure(
    settings: Settings,
    directory: Path,
    workers: Sequence[int],
    tiles_a_worker: int,
    size: hour.RunOptions,
) -> Iterator[Rate]:
    """Convert, calibrate and image copies of one observation with ever more workers.

    Parameters
    ----------
    settings : Settings
        Options of the stages, and the executor.
    directory : Path
        To write into; every worker must see it under this name.
    workers : sequence of int
        Calls at once, one measurement each.
    tiles_a_worker : int
    size : RunOptions
        Of the simulated observation.

    Yields
    ------
    Rate
    """
    run = hour.prepare(size)
    store = directory / "subbands"
    store.mkdir(parents=True)
    files = [Path(path) for path in run.write(store, 0)]
    catalogues.save(directory, run.sky.catalogue(_CATALOGUE))
    known = settings.model_copy(update={"sky_catalog": _CATALOGUE, "workers": max(workers)})
    options = pipeline_options(known)
    with open_executor(known) as executor:
        chain = _Chain(executor, directory, files, options)
        # The first call of each worker loads libraries and compiles.
        with ThreadPoolExecutor(max(workers)) as threads:
            list(threads.map(chain.tile, [f"first{n}" for n in range(max(workers))]))
        first = directory / "first0"
        tile_gb = {
            name: sum(map(size_bytes, paths)) / 1e9
            for name, paths in (
                ("files", files),
                ("raw", [first / "raw.ms"]),
                ("calibrated", [first / "calibrated.ms"]),
                ("images", first.glob("tile*")),
            )
        }
        for count in workers:
            chain.spent.clear()
            names = [f"w{count}_{n}" for n in range(count * tiles_a_worker)]
            begin = time.monotonic()
            with ThreadPoolExecutor(count) as threads:
                list(threads.map(chain.tile, names))
            seconds = time.monotonic() - begin
            spent = {
                stage: sum(s for name, s in chain.spent if name == stage) / len(names)
                for stage in STAGES
            }
            yield Rate(count, len(names), seconds, spent, tile_gb)


class _Chain:
    """The stages of one tile, one after the other, on whatever worker is free."""

    def __init__(
        self, executor: Executor, directory: Path, files: list[Path], options: PipelineOptions
    ):
        self._executor = executor
        self._directory = directory
        self._files = files
        self._options = options
        self._solving = threading.Lock()
        self._solved: SolvedSet | None = None
        self.spent: list[tuple[str, float]] = []

    def tile(self, name: str) -> None:
        """Convert, calibrate and image once."""
        base = self._directory / name
        base.mkdir()
        converted = self._call(
            "convert",
            conversion.convert,
            files=self._files,
            output=base / "raw.ms",
            telescope=DSA110,
            options=self._options.convert,
        )
        with self._solving:
            if self._solved is None:
                self._solved = self._call(
                    "solve",
                    calibration_solve.solve,
                    tile=converted,
                    output=self._directory / "calibration",
                    root=self._directory,
                    options=self._options.calibrate,
                )
        calibrated = self._call(
            "apply",
            calibration_apply.apply,
            tile=converted,
            calibration_set=self._solved,
            output=base / "calibrated.ms",
            root=self._directory,
            options=self._options.apply,
        )
        self._call(
            "image",
            imaging.image,
            ms_path=calibrated.ms_path,
            prefix=base / "tile",
            root=self._directory,
            options=self._options.image,
        )

    def _call(self, stage: str, function: Callable[..., Result], **arguments: object) -> Result:
        begin = time.monotonic()
        made = self._executor.submit(function, **arguments).result()
        self.spent.append((stage, time.monotonic() - begin))
        return made

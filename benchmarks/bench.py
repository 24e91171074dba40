"""How fast every step of a tile is, beside the programs that observatories use.

Run by `make bench`. One full-size group (96 antennas, 768 channels, 24 integrations, two
polarizations, with interference) is simulated into the system's temporary folder. Each step is
run here and by its peer in turn: here by two workers of one thread each, which is how the pipeline
works, peers with both cores. Files are in the page cache for both. Needs Debian's `wsclean` and
`aoflagger`; CASA is installed into `benchmarks/.peers`.
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import peer_programs

_WORKERS = 2
_SHARED_BY = 10
"""Tiles that share one solve and one mosaic."""
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass
class Step:
    """Seconds of one step in each repetition: of one worker among two, and of the peer."""

    name: str
    peer: str = ""
    ours_s: list[float] = field(default_factory=list)
    peer_s: list[float] = field(default_factory=list)
    remark: str = ""

    @property
    def ours_per_hour(self) -> float:
        """Tiles an hour on the machine."""
        return 3600 * _WORKERS / min(self.ours_s)

    @property
    def peer_per_hour(self) -> float:
        """Tiles an hour on the machine."""
        return 3600 / min(self.peer_s) if self.peer_s else float("nan")


def simulate(directory: Path, antennas: int, channels: int) -> str:
    """Write one group and register its catalogue; returns the catalogue's name."""
    from dsa110_contimg.simulation import hour
    from dsa110_contimg.sky import catalogues

    run = hour.prepare(hour.RunOptions(groups=1, antennas=antennas, channels=channels))
    for name in ("in", "ms"):
        (directory / name).mkdir(parents=True)
    run.write(directory / "in", 0)
    run.write_truth(directory)
    catalogue = run.sky.catalogue("bench")
    catalogues.save(directory, catalogue)
    return "bench"


def warm(directory: Path) -> None:
    """Read every file, so that it is in the page cache."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                while stream.read(1 << 24):
                    pass


# What a worker runs: the same functions that the pipeline's stages submit.


def _convert(work: Path, output: Path) -> Any:
    from dsa110_contimg.stages import conversion
    from dsa110_contimg.stages.options import ConversionOptions
    from dsa110_contimg.telescope import DSA110

    return conversion.convert(
        sorted((work / "in").glob("*.hdf5")), output, DSA110, ConversionOptions()
    )


def _solve(work: Path, tile: Any, output: Path) -> Any:
    from dsa110_contimg.stages import calibration_solve
    from dsa110_contimg.stages.options import CalibrationSolveOptions

    return calibration_solve.solve(tile, output, work, CalibrationSolveOptions(sky_catalog="bench"))


def _apply(work: Path, tile: Any, calibration_set: Any, output: Path) -> Any:
    from dsa110_contimg.stages import calibration_apply
    from dsa110_contimg.stages.options import CalibrationApplyOptions

    options = CalibrationApplyOptions(sky_catalog="bench")
    return calibration_apply.apply(tile, calibration_set, output, work, options)


def _image(work: Path, ms_path: Path, prefix: Path, **options: Any) -> Any:
    from dsa110_contimg.stages import imaging
    from dsa110_contimg.stages.options import ImagingOptions

    prefix.parent.mkdir(parents=True, exist_ok=True)
    return imaging.image(ms_path, prefix, work, ImagingOptions(sky_catalog="bench", **options))


def _flag(ms_path: Path) -> Any:
    """Flagging alone, as the calibration stage does it, but for an empty model."""
    from dsa110_contimg.visibilities import flagging, measurement_set

    vis = measurement_set.read(ms_path)
    nothing = np.zeros(vis.data.shape[:2], np.complex64)
    found = flagging.flag_interference(
        vis.data, vis.flags, vis.antenna1, vis.antenna2, vis.time_index, nothing
    )
    return float(found.mean())


def _bandpass(work: Path, ms_path: Path) -> float:
    """Seconds to read a tile and solve its bandpass, model and flags being given, as for CASA."""
    from dsa110_contimg.calibration import predict, tile
    from dsa110_contimg.stages.calibration_solve import sky_model, solve_limits
    from dsa110_contimg.stages.options import CalibrationSolveOptions
    from dsa110_contimg.visibilities import measurement_set

    options = CalibrationSolveOptions(sky_catalog="bench")
    vis = measurement_set.read(ms_path)
    sky = predict.predict(vis, sky_model(vis, work, options))
    begin = time.perf_counter()
    vis = measurement_set.read(ms_path)
    tile.solve_channels(vis, sky, np.zeros(sky.shape, bool), solve_limits(options))
    return time.perf_counter() - begin


def _timed(function: Any, arguments: dict[str, Any]) -> tuple[float, Any, float]:
    begin = time.perf_counter()
    result = function(**arguments)
    seconds = time.perf_counter() - begin
    return seconds, result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class Ours:
    """Two workers that stay, as the pipeline's do."""

    def __init__(self) -> None:
        for name in _ONE_THREAD:
            os.environ[name] = "1"
        self.pool = ProcessPoolExecutor(_WORKERS, multiprocessing.get_context("spawn"))
        self.peak_gib = 0.0

    def run(self, function: Any, calls: list[dict[str, Any]]) -> tuple[float, list[Any]]:
        """Mean seconds of concurrent calls, and their results."""
        answers = [
            future.result()
            for future in [self.pool.submit(_timed, function, call) for call in calls]
        ]
        self.peak_gib = max(self.peak_gib, *(peak for _, _, peak in answers))
        print(f"    peak so far {self.peak_gib:.2f} GiB", file=sys.stderr)
        return float(np.mean([seconds for seconds, _, _ in answers])), [r for _, r, _ in answers]


def wsclean(ms: Path, work: Path, image: Any, *extra: str) -> tuple[float, float]:
    """Seconds, and rms (Jy) of the residual image, with the geometry of one of our images."""
    from dsa110_contimg.imaging.fits_image import read_fits
    from dsa110_contimg.imaging.restore import robust_rms

    seconds, _ = peer_programs.run(
        [
            "wsclean", "-quiet", "-name", work / "ws", "-size", image.size, image.size, "-scale",
            f"{image.cell_arcsec}asec", "-weight", "briggs", "0.5", "-niter", "2000", "-mgain",
            "0.8", "-auto-mask", "5", "-auto-threshold", "1.5", "-pol", "I", "-j", _WORKERS,
            "-no-update-model-required", *extra, ms,
        ],
        cwd=work,
    )  # fmt: skip
    return seconds, robust_rms(read_fits(work / "ws-residual.fits").pixels)


def _give_model(ms: Path, work: Path) -> None:
    """Give CASA the model that ours is calibrated against."""
    from dsa110_contimg.calibration import predict
    from dsa110_contimg.stages.calibration_solve import sky_model
    from dsa110_contimg.stages.options import CalibrationSolveOptions
    from dsa110_contimg.visibilities import measurement_set

    vis = measurement_set.read(ms)
    model = sky_model(vis, work, CalibrationSolveOptions(sky_catalog="bench"))
    peer_programs.give_model(ms, predict.predict(vis, model))


def main() -> int:
    """Run everything, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--antennas", type=int, default=96)
    parser.add_argument("--channels", type=int, default=48, help="a sub-band")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--without-peers", action="store_true")
    parser.add_argument("--json", type=Path, default=Path("bench.json"))
    options = parser.parse_args()
    peers = not options.without_peers
    missing = [name for name in ("wsclean", "aoflagger") if shutil.which(name) is None]
    if peers and missing:
        sys.exit(f"{' and '.join(missing)} not found: install Debian's packages of these names, "
                 "or give --without-peers")  # fmt: skip
    ours = Ours()
    with tempfile.TemporaryDirectory(prefix="contimg-bench-") as folder:
        small, work = Path(folder) / "small", Path(folder) / "full"
        # A first tile of small size: programs are loaded and compiled in both workers.
        simulate(small, 24, 4)
        _chain(ours, small, 0)
        print("simulating a full-size group", file=sys.stderr)
        simulate(work, options.antennas, options.channels)
        steps = _measure(ours, work, peers, options.repeat)
    return _report(steps, ours.peak_gib, options)


def _chain(ours: Ours, work: Path, repetition: int) -> None:
    pair = range(_WORKERS)
    _, tiles = ours.run(
        _convert,
        [{"work": work, "output": work / f"ms/warm{repetition}_{k}.ms"} for k in pair],
    )
    _, sets = ours.run(
        _solve, [{"work": work, "tile": tiles[k], "output": work / f"cal/w{k}"} for k in pair]
    )
    _, applied = ours.run(
        _apply,
        [
            {"work": work, "tile": tiles[k], "calibration_set": sets[k],
             "output": work / f"ms/wcal{k}.ms"}
            for k in pair
        ],
    )  # fmt: skip
    ours.run(
        _image,
        [
            {"work": work, "ms_path": applied[k].ms_path, "prefix": work / f"images/w{k}"}
            for k in pair
        ],
    )


def _measure(ours: Ours, work: Path, peers: bool, repeat: int) -> list[Step]:
    convert = Step("convert", "pyuvdata")
    flag = Step("flag", "aoflagger")
    bandpass = Step("bandpass", "CASA bandpass")
    solve = Step("flag, solve", "CASA bandpass and gaincal")
    apply = Step("flag and apply", "CASA applycal (and aoflagger)")
    image = Step("image, 1024 px", "WSClean")
    averaged = Step("image, 1024 px", "WSClean -baseline-averaging 5")
    large = Step("image, 2400 x 6 arcsec", "WSClean")
    pair = range(_WORKERS)

    def note(text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)

    for repetition in range(repeat):
        tag = f"{repetition}"
        warm(work / "in")
        note("convert")
        seconds, tiles = ours.run(
            _convert, [{"work": work, "output": work / f"ms/{tag}_{k}.ms"} for k in pair]
        )
        convert.ours_s.append(seconds)
        ms = tiles[0].ms_path
        if peers:
            note(convert.peer)
            seconds = peer_programs.pyuvdata_convert(work / "in", work / "pyuvdata.ms")
            convert.peer_s.append(seconds)
            shutil.rmtree(work / "pyuvdata.ms")
        note("flag")
        seconds, _ = ours.run(_flag, [{"ms_path": tiles[k].ms_path} for k in pair])
        flag.ours_s.append(seconds)
        if peers:
            note(flag.peer)
            shutil.copytree(ms, work / "ao.ms")
            warm(work / "ao.ms")
            seconds, _ = peer_programs.run(["aoflagger", "-j", _WORKERS, work / "ao.ms"])
            flag.peer_s.append(seconds)
        note("bandpass")
        _, seconds_each = ours.run(
            _bandpass, [{"work": work, "ms_path": tiles[k].ms_path} for k in pair]
        )
        bandpass.ours_s.append(float(np.mean(seconds_each)))
        note("solve")
        seconds, sets = ours.run(
            _solve,
            [{"work": work, "tile": tiles[k], "output": work / f"cal/{tag}_{k}"} for k in pair],
        )
        solve.ours_s.append(seconds)
        note("apply")
        calls = [
            {"work": work, "tile": tiles[k], "calibration_set": sets[0],
             "output": work / f"ms/cal{tag}_{k}.ms"}
            for k in pair
        ]  # fmt: skip
        seconds, applied = ours.run(_apply, calls)
        apply.ours_s.append(seconds)
        if peers:
            note(solve.peer)
            _give_model(work / "ao.ms", work)
            warm(work / "ao.ms")
            every = {"solint": "inf", "combine": "scan", "refant": sets[0].reference_antenna,
                     "minblperant": 4, "vis": str(work / "ao.ms")}  # fmt: skip
            bandpass_s, gaincal_s, applycal_s = peer_programs.casa(
                work,
                ("bandpass", {**every, "caltable": "casa.b"}),
                ("gaincal", {**every, "caltable": "casa.g", "gaintype": "G", "calmode": "p",
                             "gaintable": ["casa.b"]}),
                ("applycal", {"vis": str(work / "ao.ms"), "gaintable": ["casa.b", "casa.g"],
                              "flagbackup": False}),
            )  # fmt: skip
            bandpass.peer_s.append(bandpass_s)
            solve.peer_s.append(bandpass_s + gaincal_s)
            apply.peer_s.append(applycal_s + flag.peer_s[-1])
            shutil.rmtree(work / "ao.ms")
        for k in pair:
            shutil.rmtree(tiles[k].ms_path)
        calibrated = applied[0].ms_path
        warm(calibrated)
        for step, arguments, extra in (
            (image, {}, ()),
            (averaged, {}, ("-baseline-averaging", "5")),
            (large, {"size": 2400, "cell": 6.0}, ()),
        ):
            if step is averaged:
                step.ours_s.append(image.ours_s[-1])
            else:
                note(step.name)
                seconds, images = ours.run(
                    _image,
                    [
                        {"work": work, "ms_path": applied[k].ms_path,
                         "prefix": work / f"images/{len(arguments)}_{tag}_{k}", **arguments}
                        for k in pair
                    ],
                )  # fmt: skip
                step.ours_s.append(seconds)
            if peers:
                note(f"{step.peer}, {images[0].size} px")
                seconds, rms = wsclean(calibrated, work, images[0], *extra)
                step.peer_s.append(seconds)
                step.remark = f"rms {1e3 * images[0].rms_jy:.3f} mJy, peer {1e3 * rms:.3f} mJy"
        for k in pair:
            shutil.rmtree(applied[k].ms_path)
    whole = Step("whole tile", "the peers' chain")
    for r in range(repeat):
        whole.ours_s.append(
            convert.ours_s[r] + apply.ours_s[r] + image.ours_s[r] + solve.ours_s[r] / _SHARED_BY
        )
        if peers:
            whole.peer_s.append(
                convert.peer_s[r] + apply.peer_s[r] + image.peer_s[r] + solve.peer_s[r] / _SHARED_BY
            )
    return [convert, flag, bandpass, solve, apply, image, averaged, large, whole]


def _report(steps: list[Step], peak_gib: float, options: argparse.Namespace) -> int:
    head = f"{'step':24}{'s a worker':>12}{'tiles/h':>9}   "
    print(f"{head}{'peer':32}{'s':>8}{'tiles/h':>9}{'ratio':>8}")
    for step in steps:
        line = f"{step.name:24}{min(step.ours_s):12.1f}{step.ours_per_hour:9.0f}"
        if step.peer_s:
            ratio = step.ours_per_hour / step.peer_per_hour
            line += f"   {step.peer:32}{min(step.peer_s):8.1f}{step.peer_per_hour:9.1f}{ratio:8.1f}"
        print(f"{line}   {step.remark}")
    print(f"peak memory of a worker {peak_gib:.1f} GiB")
    options.json.write_text(
        json.dumps(
            {
                "machine": platform.processor() or platform.machine(),
                "cores": os.cpu_count(),
                "antennas": options.antennas,
                "channels": 16 * options.channels,
                "peak_gib": peak_gib,
                "steps": [
                    {"name": s.name, "peer": s.peer, "ours_s": s.ours_s, "peer_s": s.peer_s,
                     "ours_per_hour": s.ours_per_hour,
                     "peer_per_hour": s.peer_per_hour if s.peer_s else None, "remark": s.remark}
                    for s in steps
                ],
            },
            indent=1,
        )
    )  # fmt: skip
    print(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

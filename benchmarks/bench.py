"""How fast every step of a tile is, beside the programs that observatories use.

Run by `make bench`. One full-size group (96 antennas, 768 channels, 24 integrations, two
polarizations, with interference) is simulated into the system's temporary folder. Each step is
run here and by its peer in turn: here by two workers of one thread each, which is how the pipeline
works, peers with both cores. Files are in the page cache for both. Needs Debian's `wsclean` and
`aoflagger`; CASA is installed into `benchmarks/.peers`.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import flag_quality
import peer_programs
import steps
from steps import Ours, Step, warm

_SHARED_BY = 10
"""Tiles that share one solve and one mosaic."""
_PAIR = range(steps.WORKERS)


def note(text: str) -> None:
    """Say what is being timed."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


class Bench:
    """Every step of two tiles at once, and of one by the peers.

    Parameters
    ----------
    work : Path
        With the group's files and the catalogue.
    peers : bool
    """

    def __init__(self, ours: Ours, work: Path, peers: bool):
        self._ours, self._work, self._peers = ours, work, peers
        self.convert = Step("convert", "pyuvdata")
        self.flag = Step("flag", "aoflagger")
        self.bandpass = Step("bandpass", "CASA bandpass")
        self.solve = Step("flag, solve", "CASA bandpass and gaincal")
        self.apply = Step("flag and apply", "CASA applycal (and aoflagger)")
        self.image = Step("image, 1024 px", "WSClean")
        self.averaged = Step("image, 1024 px", "WSClean -baseline-averaging 5")
        self.large = Step("image, 2400 x 6 arcsec", "WSClean")

    def run(self, tag: str) -> None:
        """Time everything once."""
        work = self._work
        tiles, averaged = self._convert(tag), work / "ao.ms"
        self._flag(tiles, averaged)
        sets, applied = self._calibrate(tag, tiles)
        if self._peers:
            self._casa(averaged, sets[0].reference_antenna)
        for tile in tiles:
            shutil.rmtree(tile.ms_path)
        calibrated = [one.ms_path for one in applied]
        warm(calibrated[0])
        images = self._image(self.image, calibrated, f"small_{tag}")
        self.averaged.ours_s.append(self.image.ours_s[-1])
        self.averaged.peak_gib = self.image.peak_gib
        if self._peers:
            self._wsclean(self.image, calibrated[0], images[0])
            self._wsclean(self.averaged, calibrated[0], images[0], "-baseline-averaging", "5")
        images = self._image(self.large, calibrated, f"large_{tag}", size=2400, cell_arcsec=6.0)
        if self._peers:
            self._wsclean(self.large, calibrated[0], images[0])
        for path in calibrated:
            shutil.rmtree(path)

    def steps(self) -> list[Step]:
        """All, and the whole tile as their sum."""
        whole = Step("whole tile", "the peers' chain")
        chain = (self.convert, self.apply, self.image)
        whole.peak_gib = max(step.peak_gib for step in (*chain, self.solve))
        for r, shared in enumerate(self.solve.ours_s):
            whole.ours_s.append(sum(step.ours_s[r] for step in chain) + shared / _SHARED_BY)
        for r, shared in enumerate(self.solve.peer_s):
            whole.peer_s.append(sum(step.peer_s[r] for step in chain) + shared / _SHARED_BY)
        return [
            self.convert,
            self.flag,
            self.bandpass,
            self.solve,
            self.apply,
            self.image,
            self.averaged,
            self.large,
            whole,
        ]

    def _convert(self, tag: str) -> list[Any]:
        work = self._work
        warm(work / "in")
        note("convert")
        calls = [{"work": work, "output": work / f"ms/{tag}_{k}.ms"} for k in _PAIR]
        tiles = self._ours.run(steps.convert, calls, self.convert)
        if self._peers:
            note(self.convert.peer)
            seconds = peer_programs.pyuvdata_convert(work / "in", work / "pyuvdata.ms")
            self.convert.peer_s.append(seconds)
            shutil.rmtree(work / "pyuvdata.ms")
        return tiles

    def _flag(self, tiles: list[Any], copy: Path) -> None:
        note("flag")
        self._ours.run(steps.flag, [{"ms_path": tile.ms_path} for tile in tiles], self.flag)
        if self._peers:
            note(self.flag.peer)
            shutil.copytree(tiles[0].ms_path, copy)
            warm(copy)
            seconds, _ = peer_programs.run(["aoflagger", "-j", steps.WORKERS, copy])
            self.flag.peer_s.append(seconds)

    def _calibrate(self, tag: str, tiles: list[Any]) -> tuple[list[Any], list[Any]]:
        work, ours = self._work, self._ours
        note("bandpass")
        calls = [{"work": work, "ms_path": tile.ms_path} for tile in tiles]
        seconds = ours.run(steps.bandpass, calls, self.bandpass)
        self.bandpass.ours_s[-1] = sum(seconds) / len(seconds)
        note("solve")
        calls = [{"work": work, "tile": tiles[k], "output": work / f"cal/{tag}_{k}"} for k in _PAIR]
        sets = ours.run(steps.solve, calls, self.solve)
        note("apply")
        calls = [
            {
                "work": work,
                "tile": tiles[k],
                "calibration_set": sets[0],
                "output": work / f"ms/cal{tag}_{k}.ms",
            }
            for k in _PAIR
        ]
        return sets, ours.run(steps.apply, calls, self.apply)

    def _casa(self, ms: Path, reference_antenna: str) -> None:
        note(self.solve.peer)
        steps.give_model(ms, self._work)
        warm(ms)
        every = {
            "solint": "inf",
            "combine": "scan",
            "refant": reference_antenna,
            "minblperant": 4,
            "vis": str(ms),
        }
        bandpass_s, gaincal_s, applycal_s = peer_programs.casa(
            self._work,
            ("bandpass", {**every, "caltable": "casa.b"}),
            (
                "gaincal",
                {
                    **every,
                    "caltable": "casa.g",
                    "gaintype": "G",
                    "calmode": "p",
                    "gaintable": ["casa.b"],
                },
            ),
            ("applycal", {"vis": str(ms), "gaintable": ["casa.b", "casa.g"], "flagbackup": False}),
        )
        self.bandpass.peer_s.append(bandpass_s)
        self.solve.peer_s.append(bandpass_s + gaincal_s)
        self.apply.peer_s.append(applycal_s + self.flag.peer_s[-1])
        shutil.rmtree(ms)

    def _image(self, step: Step, paths: list[Path], name: str, **options: Any) -> list[Any]:
        note(step.name)
        work = self._work
        calls = [
            {"work": work, "ms_path": path, "prefix": work / f"images/{name}_{k}", **options}
            for k, path in enumerate(paths)
        ]
        return self._ours.run(steps.image, calls, step)

    def _wsclean(self, step: Step, ms: Path, image: Any, *extra: str) -> None:
        from dsa110_contimg.imaging.image_reader import read_map
        from dsa110_contimg.robust import robust_rms

        note(f"{step.peer}, {image.size} px")
        prefix = self._work / "ws"
        seconds = peer_programs.wsclean(
            ms,
            prefix,
            image.size,
            image.cell_arcsec,
            "-weight",
            "briggs",
            "0.5",
            "-niter",
            "2000",
            "-mgain",
            "0.8",
            "-auto-mask",
            "5",
            "-auto-threshold",
            "1.5",
            "-j",
            steps.WORKERS,
            *extra,
        )
        rms = robust_rms(read_map(Path(f"{prefix}-residual.fits")).pixels)
        step.peer_s.append(seconds)
        step.remark = f"rms {1e3 * image.rms_jy:.3f} mJy, peer {1e3 * rms:.3f} mJy"


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
        sys.exit(
            f"{' and '.join(missing)} not found: install Debian's packages of these names, "
            "or give --without-peers"
        )
    ours = Ours()
    with tempfile.TemporaryDirectory(prefix="contimg-bench-") as folder:
        full = Path(folder) / "full"
        steps.load_programs(ours, Path(folder) / "small")
        note("simulating a full-size group")
        steps.simulate(full, options.antennas, options.channels)
        bench = Bench(ours, full, peers)
        for repetition in range(options.repeat):
            bench.run(str(repetition))
        shutil.rmtree(full)
        note("quality of flags")
        flags = flag_quality.compare(
            Path(folder) / "flags", options.antennas // 2, options.channels, peers
        )
    return _report(bench.steps(), flags, options)


def _report(steps_: list[Step], flags: list[tuple[str, Any]], options: argparse.Namespace) -> int:
    head = f"{'step':24}{'s a worker':>12}{'tiles/h':>9}{'GiB':>6}   "
    print(f"{head}{'peer':32}{'s':>8}{'tiles/h':>9}{'ratio':>8}")
    for step in steps_:
        line = f"{step.name:24}{min(step.ours_s):12.1f}{step.ours_per_hour:9.0f}"
        line += f"{step.peak_gib:6.1f}"
        if step.peer_s:
            ratio = step.ours_per_hour / step.peer_per_hour
            line += f"   {step.peer:32}{min(step.peer_s):8.1f}{step.peer_per_hour:9.1f}{ratio:8.1f}"
        print(f"{line}   {step.remark}")
    for name, quality in flags:
        print(f"flags, {name}: {quality}")
    options.json.write_text(
        json.dumps(
            {
                "machine": platform.processor() or platform.machine(),
                "cores": os.cpu_count(),
                "antennas": options.antennas,
                "channels": 16 * options.channels,
                "flags": {name: asdict(quality) for name, quality in flags},
                "steps": [
                    {
                        **asdict(step),
                        "ours_per_hour": step.ours_per_hour,
                        "peer_per_hour": step.peer_per_hour if step.peer_s else None,
                    }
                    for step in steps_
                ],
            },
            indent=1,
        )
    )
    print(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

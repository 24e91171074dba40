"""How each step grows with antennas, channels and image size, and what it is bound by.

Run by `make growth`. One worker of one thread; each row is one tile of 24 integrations.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import steps

_ANTENNAS = (24, 48, 96)
_CHANNELS = (12, 24, 48)
_SIZES = (512, 1024, 2048, 4096)
_STEPS = ("convert", "solve", "apply", "image")
_INTEGRATIONS = 24


def run(ours: steps.Ours, work: Path, antennas: int, channels: int) -> dict[str, Any]:
    """Seconds and peak memory of every step of one tile."""
    steps.simulate(work, antennas, channels)
    steps.warm(work / "in")
    timed = {name: steps.Step(name) for name in _STEPS}
    (tile,) = ours.run(
        steps.convert, [{"work": work, "output": work / "ms/raw.ms"}], timed["convert"]
    )
    (solved,) = ours.run(
        steps.solve, [{"work": work, "tile": tile, "output": work / "cal"}], timed["solve"]
    )
    call = {"work": work, "tile": tile, "calibration_set": solved, "output": work / "ms/cal.ms"}
    (applied,) = ours.run(steps.apply, [call], timed["apply"])
    call = {"work": work, "ms_path": applied.ms_path, "prefix": work / "images/tile"}
    (image,) = ours.run(steps.image, [call], timed["image"])
    samples = antennas * (antennas + 1) // 2 * _INTEGRATIONS * channels * 16 * 2
    return {
        "antennas": antennas,
        "channels": 16 * channels,
        "size": image.size,
        "visibilities": samples,
        "gridded": image.n_samples,
        "input_gb": sum(path.stat().st_size for path in (work / "in").iterdir()) / 1e9,
        "seconds": {name: step.ours_s[0] for name, step in timed.items()},
        "peak_gib": {name: step.peak_gib for name, step in timed.items()},
    }


def image_sizes(ours: steps.Ours, work: Path) -> list[dict[str, Any]]:
    """Seconds of images of several sizes of one calibrated tile, at six arcseconds a pixel."""
    rows = []
    for size in _SIZES:
        step = steps.Step("image")
        call = {
            "work": work,
            "ms_path": work / "ms/cal.ms",
            "prefix": work / f"images/{size}",
            "size": size,
            "cell_arcsec": 6.0,
        }
        (image,) = ours.run(steps.image, [call], step)
        rows.append(
            {
                "asked": size,
                "size": image.size,
                "gridded": image.n_samples,
                "major_cycles": image.n_major,
                "seconds": step.ours_s[0],
                "peak_gib": step.peak_gib,
            }
        )
    return rows


def _exponent(rows: list[dict[str, Any]], name: str, along: str) -> float:
    """Of the power law between the first and the last row."""
    first, last = rows[0], rows[-1]
    return float(
        np.log(last["seconds"][name] / first["seconds"][name]) / np.log(last[along] / first[along])
    )


def main() -> int:
    """Run, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("growth.json"))
    options = parser.parse_args()
    ours = steps.Ours()
    with tempfile.TemporaryDirectory(prefix="contimg-growth-") as folder:
        steps.load_programs(ours, Path(folder) / "small")
        shapes = [(n, _CHANNELS[-1]) for n in _ANTENNAS] + [
            (_ANTENNAS[-1], n) for n in _CHANNELS[:-1]
        ]
        rows, sizes = [], []
        for antennas, channels in shapes:
            work = Path(folder) / f"{antennas}_{channels}"
            rows.append(run(ours, work, antennas, channels))
            print(f"{antennas} antennas, {16 * channels} channels done", file=sys.stderr)
            if (antennas, channels) == (_ANTENNAS[-1], _CHANNELS[-1]):
                sizes = image_sizes(ours, work)
            shutil.rmtree(work)
    by_antennas = [row for row in rows if row["channels"] == 16 * _CHANNELS[-1]]
    by_channels = sorted(
        (row for row in rows if row["antennas"] == _ANTENNAS[-1]), key=lambda row: row["channels"]
    )
    for along, chosen in (("antennas", by_antennas), ("channels", by_channels)):
        print(f"\n{along:>10}{'GB in':>8}{'gridded':>10}", *(f"{n + ' s':>11}" for n in _STEPS))
        for row in chosen:
            times = (f"{row['seconds'][name]:11.1f}" for name in _STEPS)
            print(f"{row[along]:10}{row['input_gb']:8.2f}{row['gridded']:10}", *times)
        powers = (f"{_exponent(chosen, name, along):11.2f}" for name in _STEPS)
        print(f"{'exponent':>10}{'':18}", *powers)
    print(f"\n{'pixels':>10}{'gridded':>10}{'cycles':>8}{'s':>8}{'GiB':>6}")
    for size in sizes:
        print(
            f"{size['size']:10}{size['gridded']:10}{size['major_cycles']:8}"
            f"{size['seconds']:8.1f}{size['peak_gib']:6.1f}"
        )
    options.json.write_text(json.dumps({"tiles": rows, "images": sizes}, indent=1))
    print(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

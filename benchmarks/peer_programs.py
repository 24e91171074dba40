"""How the other programs are installed and called."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_HERE = Path(__file__).parent
_CASA = ("casatools==6.7.0.31", "casatasks==6.7.0.31", "casadata==2025.9.22", "six")


def run(arguments: Sequence[object], **options: Any) -> tuple[float, str]:
    """Seconds and standard output of a command that must succeed."""
    begin = time.perf_counter()
    done = subprocess.run(
        [str(a) for a in arguments], capture_output=True, text=True, check=False, **options
    )
    if done.returncode:
        sys.exit(f"{arguments[0]} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return time.perf_counter() - begin, done.stdout


def casa(work: Path, *calls: tuple[str, dict[str, Any]]) -> list[float]:
    """Run CASA tasks one after the other; returns the seconds of each.

    CASA is installed into an environment of its own first, `benchmarks/.peers/casa`.
    """
    home = _HERE / ".peers" / "casa"
    python = home / "bin" / "python"
    if not (home / ".installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *_CASA], check=True)
        (home / ".installed").touch()
    _, out = run([python, _HERE / "programs" / "casa.py", work, json.dumps(calls)])
    return [float(s) for s in json.loads(out.split("SECONDS ")[1])]


def wsclean(ms: Path, prefix: Path, size: int, cell_arcsec: float, *extra: object) -> float:
    """Seconds that WSClean takes for `prefix`-image.fits and so on, of total intensity."""
    seconds, _ = run(
        [
            "wsclean",
            "-quiet",
            "-name",
            prefix,
            "-size",
            size,
            size,
            "-scale",
            f"{cell_arcsec}asec",
            "-pol",
            "I",
            "-no-update-model-required",
            *extra,
            ms,
        ],
        cwd=prefix.parent,
    )
    return seconds


def pyuvdata_convert(files: Path, output: Path) -> float:
    """Seconds that pyuvdata takes for sub-band files to a Measurement Set."""
    _, out = run([sys.executable, _HERE / "programs" / "pyuvdata_convert.py", files, output])
    return float(out.split()[-1])


def give_model(ms: Path, model: np.ndarray) -> None:
    """Add MODEL_DATA and CORRECTED_DATA columns; the model has shape (nrow, nchan)."""
    from casacore.tables import table

    with table(str(ms), readonly=False, ack=False) as rows:
        npol = rows.getcell("DATA", 0).shape[1]
        for name in ("MODEL_DATA", "CORRECTED_DATA"):
            description = rows.getcoldesc("DATA")
            description["name"] = name
            rows.addcols({name: description})
        rows.putcol("MODEL_DATA", np.repeat(model[:, :, None], npol, axis=2))

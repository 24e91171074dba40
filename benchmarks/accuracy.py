"""The README's figures: the independent data set through streaming, against its truth.

Run by `make accuracy CONTIMG_REAL_DATA=FOLDER`.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.sources.accuracy import against_truth

_SCRIPTS = Path(sys.executable).parent


def _run(root: Path, program: str, *arguments: object) -> None:
    subprocess.run([str(_SCRIPTS / program), *map(str, arguments), "--root", str(root)], check=True)


def main() -> int:
    """Process, compare, print."""
    real = os.environ.get("CONTIMG_REAL_DATA")
    if not real:
        sys.exit("set CONTIMG_REAL_DATA to the folder with uvh5-sample and its truth")
    data = Path(real)
    truth = json.loads((data / "uvh5-sample-truth.json").read_text())
    ra, dec, flux, listed = (
        np.array([source[name] for source in truth])
        for name in ("ra_deg", "dec_deg", "flux_jy", "catalogue_jy")
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        catalogue = data / "nvss_50mjy.fits.gz"
        _run(root, "dsa110-contimg", "catalog", "import", catalogue, "--name", "nvss")
        _run(
            root,
            "dsa110-contimg-convert-stream",
            "--once",
            "--input-dir",
            data / "uvh5-sample",
            "--output-dir",
            root / "ms",
        )
        _run(root, "dsa110-contimg-streaming-mosaic", "--once")
        mosaics = (root / "products" / "mosaics").glob("mosaic_*.fits")
        (mosaic,) = (path for path in mosaics if path.stem.count("_") == 2)
        noise = read_fits(mosaic.with_name(f"{mosaic.stem}_rms.fits")).pixels
        found = against_truth(read_fits(mosaic), noise, ra, dec, flux, min_flux_jy=0.3)
    print(found)
    best = int(flux.argmax())
    print(f"brightest, {flux[best]:.2f} Jy: ratio {found.ratio[best]:.4f}")
    changed = (np.abs(listed / flux - 1) > 0.05) & np.isfinite(found.ratio)
    print("sources unlike the catalogue:", *(f"{ratio:.3f}" for ratio in found.ratio[changed]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

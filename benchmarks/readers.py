"""Do other programs read the products? fitsverify, STILTS and Aladin Lite on the demo's mosaic.

Run by `make readers`; needs Debian's `fitsverify`, `stilts` and `chromium`, and npm for Aladin.
With a folder as argument, the root of a demo that has run.
"""

import functools
import http.server
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from scipy import ndimage

_HERE = Path(__file__).parent
_ALADIN = "aladin-lite@3.8.2"
_FIELD_DEG = 0.5
_SHOWN_S = 30.0
_PLACE_ARCSEC = 6.0


def _need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            sys.exit(f"{program} not found: install the package of this name")


def check_fits(mosaic: Path) -> Iterator[tuple[str, bool, str]]:
    """HEASARC's verifier on every FITS file of a mosaic."""
    for path in sorted(mosaic.parent.glob(f"{mosaic.stem}*.fits")):
        done = subprocess.run(["fitsverify", path], capture_output=True, text=True, check=False)
        found = [line.strip(" *") for line in done.stdout.splitlines() if "Verification" in line]
        summary = " ".join(found)
        yield f"fitsverify {path.name}", "0 warning(s) and 0 error(s)" in summary, summary


def _catalogue(mosaic: Path) -> Path:
    return mosaic.parent.with_name("catalogues") / f"{mosaic.stem}_sources.fits"


def check_catalogues(mosaic: Path) -> Iterator[tuple[str, bool, str]]:
    """Another library reads the same sources from every form of the catalogue."""
    stem = _catalogue(mosaic).with_suffix("")
    votable = stem.with_suffix(".vot")
    lint = subprocess.run(
        ["stilts", "votlint", f"votable={votable}"], capture_output=True, text=True, check=False
    )
    yield f"votlint {votable.name}", not lint.stdout.strip() and lint.returncode == 0, lint.stdout
    expected = Table.read(stem.with_suffix(".fits"), hdu=1)
    for suffix in (".fits", ".vot"):
        read = subprocess.run(
            [
                "stilts",
                "tpipe",
                f"in={stem.with_suffix(suffix)}",
                "omode=out",
                "out=-",
                "ofmt=csv",
                "cmd=keepcols 'ra_deg dec_deg peak_jy'",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if read.returncode:
            yield f"STILTS {stem.name}{suffix}", False, read.stderr[-300:]
            continue
        found = np.atleast_2d(np.loadtxt(io.StringIO(read.stdout), delimiter=",", skiprows=1))
        wanted = np.column_stack(
            [np.asarray(expected[n]) for n in ("ra_deg", "dec_deg", "peak_jy")]
        )
        same = found.shape == wanted.shape and bool(np.allclose(found, wanted, rtol=1e-6))
        yield f"STILTS {stem.name}{suffix}", same, f"{len(found)} sources"


def _aladin() -> Path:
    """Aladin Lite's file, fetched once."""
    home = _HERE / ".peers" / "aladin"
    script = home / "aladin.js"
    if not script.exists():
        home.mkdir(parents=True, exist_ok=True)
        packed = subprocess.run(
            ["npm", "pack", _ALADIN, "--json"], cwd=home, check=True, capture_output=True
        )
        with tarfile.open(home / json.loads(packed.stdout)[0]["filename"]) as archive:
            content = archive.extractfile("package/dist/aladin.js")
            assert content is not None
            script.write_bytes(content.read())
    return script


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine; gives its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _brightness(page: Page) -> np.ndarray:
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        return np.asarray(picture.convert("L"), float)


def check_sky(root: Path, mosaic: Path, picture: Path) -> Iterator[tuple[str, bool, str]]:
    """Aladin Lite shows the bright sources of the mosaic where the catalogue has them."""
    sources = Table.read(_catalogue(mosaic), hdu=1)
    sources.sort("peak_jy", reverse=True)
    products = root / "products"
    surveys = [p.parent for p in products.rglob("properties")]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        site = Path(folder)
        (site / "aladin.js").symlink_to(_aladin())
        (site / "sky_page.html").symlink_to(_HERE / "programs" / "sky_page.html")
        (site / "products").symlink_to(products)
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
        )
        with _served(site) as address:
            for survey in surveys:
                yield from _shown(browser, address, survey.relative_to(products), sources, picture)
        browser.close()


def _shown(
    browser: Any, address: str, survey: Path, sources: Table, picture: Path
) -> Iterator[tuple[str, bool, str]]:
    """Every one of the ten brightest sources is a bright spot where it should be."""
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    asked = urllib.parse.urlencode({"hips": f"/products/{survey}", "fov": _FIELD_DEG})
    page.goto(f"{address}/sky_page.html?{asked}")
    page.wait_for_function("window.aladin !== undefined", timeout=_SHOWN_S * 1e3)
    bad = []
    offsets = []
    for source in sources[:10]:
        ra_deg, dec_deg = float(source["ra_deg"]), float(source["dec_deg"])
        page.evaluate("([a, d]) => window.aladin.gotoRaDec(a, d)", [ra_deg, dec_deg])
        spot = _settled_spot(page, ra_deg, dec_deg)
        if spot is None:
            bad.append(f"{ra_deg:.4f} {dec_deg:.4f}")
        else:
            offsets.append(spot)
    page.screenshot(path=picture / f"aladin_{survey.name}.png")
    page.close()
    told = f"{len(offsets)} of 10 seen, within {max(offsets, default=np.nan):.1f} arcsec"
    told += f"; not seen: {bad}" if bad else ""
    yield f"Aladin Lite {survey}", not bad and max(offsets) < _PLACE_ARCSEC, told


def _settled_spot(page: Page, ra_deg: float, dec_deg: float) -> float | None:
    """The spot when the picture stands still: what was drawn can only be looked at."""
    deadline = time.monotonic() + _SHOWN_S
    before = None
    while time.monotonic() < deadline:
        spot = _spot(page, ra_deg, dec_deg)
        if spot is not None and spot == before:
            return spot
        before = spot
        page.wait_for_timeout(300)
    return None


def _spot(page: Page, ra_deg: float, dec_deg: float) -> float | None:
    """How far from its place the light near it is (arcsec); None if there is none."""
    x, y = page.evaluate("([a, d]) => Array.from(window.aladin.world2pix(a, d))", [ra_deg, dec_deg])
    arcsec_a_pixel = _FIELD_DEG * 3600 / 1000
    half = 100
    light = _brightness(page)[
        round(y) - half : round(y) + half + 1, round(x) - half : round(x) + half + 1
    ]
    dark = float(np.median(light))
    if light.max() < dark + 60:
        return None
    spots, count = ndimage.label(light > (light.max() + dark) / 2)
    centres = np.array(ndimage.center_of_mass(spots > 0, spots, range(1, count + 1))) - half
    offsets = centres - (y - round(y), x - round(x))
    return float(np.hypot(*offsets.T).min()) * arcsec_a_pixel


def main() -> int:
    """Compare, print, and return 0 if all programs read everything."""
    _need("fitsverify", "stilts", "chromium", "npm")
    good = True
    with tempfile.TemporaryDirectory(prefix="contimg-readers-") as folder:
        root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "demo"
        if not root.exists():
            command = Path(sys.executable).parent / "dsa110-contimg"
            subprocess.run([command, "demo", "--directory", root], check=True)
        mosaics = (root / "products" / "mosaics").glob("*_rms.fits")
        mosaic = next(p.with_name(p.name.replace("_rms.fits", ".fits")) for p in mosaics)
        picture = Path(tempfile.gettempdir())
        sky = check_sky(root, mosaic, picture)
        for checks in (check_fits(mosaic), check_catalogues(mosaic), sky):
            for what, holds, told in checks:
                good &= holds
                print("ok  " if holds else "BAD ", f"{what}: {told}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

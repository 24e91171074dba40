"""How soon the dashboard shows what was asked: pages, and a large mosaic that is moved about.

Run by `make dashboard`; needs a Chromium. The demo's root with 5,000 tiles, 100,000 sources and a
mosaic of 10,000 x 2,500 pixels more, drawn as HiPS too. Each page is opened five times and the
median of its first content counts, beside that of a page with nothing in it; each move of the
mosaic is timed until what it asked for is drawn. Exits with 1 if a page takes more than 300 ms,
the mosaic more than 2 s, a move more than 200 ms.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from playwright.sync_api import Browser, Page, Playwright, Request, sync_playwright
from sqlalchemy import insert, select

from daemons import PROGRAMS, conclude, free_port, until
from dsa110_contimg import settings as settings_module
from dsa110_contimg.executors.inline import InlineExecutor
from dsa110_contimg.imaging.fits_image import write_fits
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.operations import sky_survey
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Mosaic, Product, Source, Tile

TILES, SOURCES = 5_000, 100_000
_SIZE = (2500, 10_000)
_NAME = "mosaic_large"
_PAGE_MS, _SEEN_MS, _MOVE_MS = 300.0, 2000.0, 200.0
_TIMES = 5
_MOVES = (
    "ArrowLeft",
    "ArrowRight",
    "ArrowUp",
    "ArrowDown",
    "+",
    "+",
    "+",
    "ArrowLeft",
    "ArrowUp",
    "-",
    "-",
    "-",
)


def fill(registry: Registry) -> None:
    """Rows beside those of the demo."""
    rng = np.random.default_rng(1)
    now = time.time()
    with registry.write() as session:
        session.execute(
            insert(Tile),
            [
                {
                    "id": f"t{n:06d}",
                    "time_key": float(n),
                    "start": now - 309.24 * n,
                    "state": "converted",
                    "apparent_dec_deg": 16.2,
                    "last_arrival": now,
                    "n_subbands": 16,
                    "converted_at": now,
                    "ms_path": "",
                    "converted": {"dead_antennas": ["33"]},
                }
                for n in range(TILES)
            ],
        )
        session.execute(
            insert(Source),
            [
                {
                    "name": f"DSA T{n:06d}",
                    "ra_deg": float(ra),
                    "dec_deg": float(dec),
                    "origin": "nvss",
                    "eta": float(eta),
                    "modulation": float(size),
                    "n_epochs": 100,
                    "mean_jy": 0.1,
                    "behaviour": "constant",
                    "dip": False,
                }
                for n, (ra, dec, eta, size) in enumerate(
                    zip(
                        rng.uniform(0, 360, SOURCES),
                        rng.uniform(14, 18.5, SOURCES),
                        rng.exponential(size=SOURCES),
                        rng.exponential(0.05, SOURCES),
                        strict=True,
                    )
                )
            ],
        )


def enlarge(registry: Registry, root: Path) -> None:
    """A mosaic as large as one of the telescope, made of copies of the demo's."""
    with registry.read() as session:
        demo = session.scalars(select(Mosaic)).one()
        products = select(Product.kind, Product.path).where(Product.name == demo.name)
        paths = {row.kind: row.path for row in session.execute(products)}
    folder = root / "products" / "mosaics"
    rows = []
    for kind in ("mosaic", "rms"):
        image = read_fits(Path(paths[kind]))
        ny, nx = image.pixels.shape
        copies = tuple(-(-wanted // have) for wanted, have in zip(_SIZE, (ny, nx), strict=True))
        pixels = np.tile(image.pixels, copies)[: _SIZE[0], : _SIZE[1]]
        middle = (_SIZE[1] / 2, image.reference_pixel[1])
        path = folder / f"{_NAME}{'' if kind == 'mosaic' else '_rms'}.fits"
        write_fits(
            path, replace(image, pixels=np.ascontiguousarray(pixels), reference_pixel=middle)
        )
        rows.append(
            Product(
                path=str(path),
                kind=kind,
                name=_NAME,
                sha256="0" * 64,
                size=path.stat().st_size,
                published=time.time(),
            )
        )
    record = json.loads(json.dumps(demo.record))
    record["mosaic"]["name"] = _NAME
    with registry.write() as session:
        session.add(
            Mosaic(
                name=_NAME,
                start=demo.start + 1,
                method=demo.method,
                record=record,
                state="published",
                verdict="passed",
                crossmatch="done",
            )
        )
        session.add_all(rows)
    sky_survey.start_update(registry, root, InlineExecutor()).result()


_WITH_WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
"""Graphics by the processor, which makes everything else slower: for Aladin alone."""
_PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"


@contextmanager
def _browser(play: Playwright, *more: str) -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    browser = play.chromium.launch(executable_path=path, args=["--no-sandbox", *more])
    yield browser
    browser.close()


def _median_ms(browser: Browser, url: str) -> float:
    return round(statistics.median(first_content_ms(browser, url) for _ in range(_TIMES)), 1)


def first_content_ms(browser: Browser, url: str) -> float:
    """From asking for a page to its first content, in a fresh browser window."""
    context = browser.new_context()
    page = context.new_page()
    asked: set[Request] = set()
    page.on("request", lambda request: asked.add(request))
    page.on("requestfinished", lambda request: asked.discard(request))
    page.on("requestfailed", lambda request: asked.discard(request))
    page.goto(url, wait_until="load")
    until(lambda: page.evaluate(_PAINTED) > 0, 10.0, 0.02)
    told = float(page.evaluate(_PAINTED))
    # What the page asked for after its first content must not slow the next one. Playwright tells
    # of requests while it waits for something.
    until(lambda: page.evaluate("1") and _all_live(asked), 30.0, 0.05)
    context.close()
    return told


def _all_live(asked: set[Request]) -> bool:
    return all(request.resource_type == "eventsource" for request in asked)


def _when_drawn(page: Page) -> None:
    condition = "document.getElementById('viewer')?.dataset.missing === '0'"
    until(lambda: page.evaluate(condition), 30.0, 0.005)


_MOVE = """async (key) => {
  const viewer = document.getElementById("viewer");
  const before = Number(viewer.dataset.drawn), began = performance.now();
  viewer.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const at_once = performance.now() - began;
  const frame = () => new Promise((go) => requestAnimationFrame(go));
  do await frame(); while (Number(viewer.dataset.drawn) === before);
  const drawn = performance.now() - began;
  while (viewer.dataset.missing !== "0") await frame();
  return [at_once, drawn, performance.now() - began];
}"""


def plain_viewer(browser: Browser, url: str) -> dict[str, float]:
    """First sight of the mosaic, and the slowest move, drawn and with its finest squares."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    begin = time.monotonic()
    page.goto(f"{url}/mosaics/{_NAME}?viewer=plain", wait_until="commit")
    _when_drawn(page)
    seen = time.monotonic() - begin
    moves = [page.evaluate(_MOVE, key) for key in _MOVES]
    context.close()
    return {
        "seen_ms": round(1e3 * seen, 1),
        "slowest_move_drawn_ms": round(max(move[1] for move in moves), 1),
        "slowest_move_finest_ms": round(max(move[2] for move in moves), 1),
    }


def aladin(browser: Browser, url: str) -> dict[str, float]:
    """First sight in Aladin Lite on a processor without graphics."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    begin = time.monotonic()
    page.goto(f"{url}/mosaics/{_NAME}", wait_until="commit")
    ready = "document.getElementById('viewer')?.dataset.ready === 'aladin'"
    until(lambda: page.evaluate(ready), 30.0, 0.02)
    seen = time.monotonic() - begin
    context.close()
    return {"ready_ms": round(1e3 * seen, 1)}


def main() -> int:
    """Fill, serve, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, help="root of a demo that has run; it is copied")
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="dashboard_"))
    root = base / "root"
    if options.demo:
        shutil.copytree(options.demo, root, ignore=shutil.ignore_patterns("ms", "incoming"))
    else:
        subprocess.run([PROGRAMS / "dsa110-contimg", "demo", "--directory", root], check=True)
    registry = Registry.of(settings_module.load(root=root))
    fill(registry)
    enlarge(registry, root)
    port = free_port()
    server = subprocess.Popen(
        [PROGRAMS / "dsa110-contimg", "serve", "--port", str(port), "--root", root],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    found: dict[str, Any] = {}
    try:
        until(lambda: _answers(url), 60.0, 0.1)
        with registry.read() as session:
            tile, source = (session.scalars(select(table.id)).first() for table in (Tile, Source))
        pages = (
            "/",
            "/night",
            f"/tiles/{tile}",
            "/groups",
            "/mosaics",
            f"/mosaics/{_NAME}",
            "/sources",
            f"/sources/{source}",
            "/sources?q=180+16",
            "/calibration",
            "/jobs",
            "/jobs/new/pipeline",
            "/health",
        )
        with sync_playwright() as play, _browser(play) as browser:
            first_content_ms(browser, f"{url}/login")
            found["nothing_ms"] = _median_ms(browser, "data:text/html,<p>nothing</p>")
            found["pages_ms"] = {path: _median_ms(browser, f"{url}{path}") for path in pages}
            found["plain"] = plain_viewer(browser, url)
        with sync_playwright() as play, _browser(play, *_WITH_WEBGL) as browser:
            found["aladin"] = aladin(browser, url)
    finally:
        server.terminate()
        server.wait(30)
        registry.close()
        shutil.rmtree(base, ignore_errors=True)
    print(json.dumps(found, indent=1))
    faults = [f"{path} takes {ms} ms" for path, ms in found["pages_ms"].items() if ms > _PAGE_MS]
    if found["plain"]["seen_ms"] > _SEEN_MS:
        faults.append("the mosaic is seen late")
    if found["plain"]["slowest_move_drawn_ms"] > _MOVE_MS:
        faults.append("a move is drawn late")
    return conclude(faults)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/status").status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    sys.exit(main())

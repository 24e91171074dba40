"""The dashboard in a real Chromium, against a real server."""

import http.client
import http.server
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from sqlalchemy import select, update

from conftest import SmallRun, make_root
from dsa110_contimg import settings as settings_module
from dsa110_contimg.constants import UNIX_EPOCH_JD
from dsa110_contimg.executors.inline import InlineExecutor
from dsa110_contimg.operations import sky_survey
from dsa110_contimg.registry import tokens
from dsa110_contimg.registry.calibration_sets import (
    get_calibration_set,
    list_calibration_sets,
    set_standing,
)
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import (
    Event,
    Job,
    Mosaic,
    MosaicGroup,
    Source,
    SubbandFile,
    Tile,
)
from dsa110_contimg.registry.states import GroupState, TileState
from dsa110_contimg.sky import astrometry
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.web import words
from dsa110_contimg.web.assets import has_aladin
from servers import Server

pytestmark = pytest.mark.xdist_group("dashboard")
_LOADED = "document.querySelector('[data-load]:not([data-loaded])') === null"
LIVE_MS = 2000
"""Within which an open page shows a change."""
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
HOSTILE = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>{{ 70007*3 }}"


@dataclass
class Site:
    """A server, its root and database."""

    server: Server
    root: Path
    registry: Registry

    @property
    def url(self) -> str:
        return self.server.url

    def first(self, table: Any) -> Any:
        with self.registry.read() as session:
            return session.scalars(select(table).order_by(table.start)).first()

    def change(self, table: Any, row_id: str, **values: Any) -> None:
        with self.registry.write() as session:
            session.execute(update(table).where(table.id == row_id).values(**values))


def _site(root: Path, *options: str) -> Iterator[Site]:
    registry = Registry.of(settings_module.load(root=root))
    with Server(root, *options) as server:
        yield Site(server, root, registry)
    registry.close()


@pytest.fixture(scope="module")
def filled(streamed_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root after both daemons, with its HiPS."""
    root = tmp_path_factory.mktemp("dashboard") / "root"
    shutil.copytree(streamed_once, root)
    registry = Registry.of(settings_module.load(root=root))
    sky_survey.start_update(registry, root, InlineExecutor()).result()
    registry.close()
    return root


@pytest.fixture(scope="module")
def shared(filled: Path) -> Iterator[Site]:
    """For tests that change nothing, or nothing that others look at."""
    yield from _site(filled)


@pytest.fixture
def site(streamed: Path) -> Iterator[Site]:
    """For tests that change things."""
    yield from _site(streamed)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    with sync_playwright() as play:
        browser = play.chromium.launch(
            # Without one on this machine Playwright's own, where it was installed.
            executable_path=next(filter(None, map(shutil.which, names)), None),
            args=["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
        )
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page, and what went wrong on it."""

    page: Page
    url: str
    troubles: list[str] = field(default_factory=list)

    def go(self, path: str) -> Page:
        self.page.goto(f"{self.url}{path}")
        return self.page

    def forgive(self, pattern: str) -> None:
        """Forget what the browser said of answers that are meant to be refusals."""
        self.troubles[:] = [text for text in self.troubles if not re.search(pattern, text)]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Any]:
    """Opens watched pages; at the end none may have complained or asked anybody else."""
    opened: list[tuple[BrowserContext, Watched]] = []

    def make(url: str, **options: Any) -> Watched:
        context = browser.new_context(**{"viewport": DESK, **options})
        watched = Watched(context.new_page(), url)
        page, troubles = watched.page, watched.troubles
        page.on("console", lambda m: m.type == "error" and troubles.append(f"console: {m.text}"))
        page.on("pageerror", lambda error: troubles.append(f"script: {error}"))
        page.on(
            "request",
            lambda r: (
                None
                if r.url.startswith((url, "data:", "blob:"))
                else troubles.append(f"asked {r.url}")
            ),
        )
        opened.append((context, watched))
        return watched

    yield make
    for context, watched in opened:
        context.close()
        assert watched.troubles == []


def _paths(site: Site) -> dict[str, str]:
    """Every kind of page by its name."""
    group, tile, mosaic = site.first(MosaicGroup), site.first(Tile), site.first(Mosaic)
    (made,) = list_calibration_sets(site.registry, 1)
    with site.registry.read() as session:
        source = session.scalars(select(Source).order_by(Source.id)).first()
    assert source is not None
    return {
        "now": "/",
        "night": "/night",
        "night_by_noise": "/night?by=noise",
        "tile": f"/tiles/{tile.id}",
        "groups": "/groups",
        "group": f"/groups/{group.id}",
        "mosaics": "/mosaics",
        "mosaic": f"/mosaics/{mosaic.name}",
        "mosaic_plain": f"/mosaics/{mosaic.name}?viewer=plain",
        "sources": "/sources",
        "source": f"/sources/{source.id}",
        "calibration": "/calibration",
        "calibration_set": f"/calibration/{made.id}",
        "antennas": "/antennas?by=gain",
        "jobs": "/jobs",
        "new_job": "/jobs/new/reprocess",
        "health": "/health",
        "token": "/login",
        "rest": "/docs",
        "refusal": "/tiles/none",
    }


def _until(page: Page, condition: str, seconds: float = 30.0) -> None:
    """Wait for something to be true; the pages forbid the script that Playwright waits with."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(50)


def _settled(page: Page) -> None:
    """Wait until everything on a page is there."""
    _until(page, _LOADED)
    if page.locator("#viewer").count():
        _until(page, "document.getElementById('viewer').dataset.ready")
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    _until(page, "[...document.images].every((image) => image.complete)")
    page.evaluate("window.scrollTo(0, 0)")


_CUT = """() => [...document.querySelectorAll("main *, header *")]
  .filter((e) => !e.closest("#viewer, pre, svg, .scroll, .hidden, details:not([open])"))
  .filter((e) => e.getClientRects().length)
  .filter((e) => {
    const box = e.getBoundingClientRect();
    return box.right > innerWidth + 1 || box.left < -1;
  })
  .map((e) => e.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize(("screen", "theme"), [("desk", "light"), ("phone", "dark")])
def test_every_page_is_whole_in_both_themes_and_on_a_phone(
    shared: Site, open_page: Any, theme: str, screen: str
) -> None:
    """With CONTIMG_SCREENSHOTS the pictures of the documentation are made here."""
    wanted = os.environ.get("CONTIMG_SCREENSHOTS")
    watched = open_page(
        shared.url, viewport=DESK if screen == "desk" else PHONE, color_scheme=theme
    )
    for name, path in _paths(shared).items():
        page = watched.go(path)
        _settled(page)
        assert page.evaluate(_CUT) == [], f"{name} is cut"
        serious = [
            f"{found['id']}: {found['nodes'][0]['html'][:150]}"
            for found in Axe().run(page).response["violations"]
            if found["impact"] in ("serious", "critical")
        ]
        assert serious == [], name
        if wanted and name != "refusal":
            picture = Path(wanted) / f"{name}_{screen}_{theme}.jpeg"
            page.screenshot(path=picture, full_page=True, type="jpeg", quality=55)
        if name == "refusal":
            expect(page.get_by_role("alert")).to_contain_text("no tile 'none'")
            # What is not there is told with its status, which the browser notes.
            watched.forgive("404")


def test_pages_lead_to_each_other(shared: Site, open_page: Any) -> None:
    page = open_page(shared.url).go("/")
    page.get_by_role("link", name="Night").click()
    page.locator(".strip a").last.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Tile")
    last = page.get_by_role("heading", level=1).inner_text()
    page.wait_for_load_state()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("heading", level=1)).not_to_have_text(last)
    # A page hears keys when its script is there, which is after its heading.
    page.wait_for_load_state()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", level=1)).to_have_text(last)
    page.get_by_role("link", name=re.compile(r"^20\d{6}T\d{6}$")).first.click()
    page.get_by_role("link", name=re.compile("^mosaic_")).first.click()
    expect(page.locator("#viewer")).to_be_visible()


def test_a_change_shows_on_an_open_page(site: Site, open_page: Any) -> None:
    page = open_page(site.url).go("/")
    troubles = page.locator("#troubles")
    expect(troubles).to_contain_text("Nothing.")
    tile = site.first(Tile)
    site.change(Tile, tile.id, state=TileState.QUARANTINED, reason="the dish fell off")
    expect(troubles).to_contain_text("the dish fell off", timeout=LIVE_MS)
    site.change(Tile, tile.id, state=TileState.CONVERTED, reason="")
    expect(troubles).to_contain_text("Nothing.", timeout=LIVE_MS)


def test_a_page_tells_that_its_server_is_gone_and_goes_on_when_it_is_back(
    site: Site, open_page: Any
) -> None:
    watched = open_page(site.url)
    with watched.page.expect_response(lambda answer: answer.url.endswith("/live")):
        page = watched.go("/")
    lost = page.locator("#lost")
    expect(lost).to_be_hidden()
    site.server.kill()
    expect(lost).to_be_visible(timeout=15_000)
    site.change(Tile, site.first(Tile).id, state=TileState.FAILED, reason="meanwhile")
    site.server.start()
    expect(lost).to_be_hidden(timeout=15_000)
    expect(page.locator("#troubles")).to_contain_text("meanwhile", timeout=15_000)
    # The browser notes each question that nobody answered.
    watched.forgive("ERR_")


def test_tiles_and_groups_are_tried_again_and_set_aside(site: Site, open_page: Any) -> None:
    tile, group = site.first(Tile), site.first(MosaicGroup)
    site.change(Tile, tile.id, state=TileState.QUARANTINED, reason="bad")
    page = open_page(site.url).go(f"/tiles/{tile.id}")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#state .lead")).to_contain_text("ready")
    page.get_by_label("Reason").fill("a test of the dish")
    page.get_by_role("button", name="Quarantine").click()
    expect(page.locator("#state")).to_contain_text("by hand: a test of the dish")
    assert site.first(Tile).state == TileState.QUARANTINED
    site.change(MosaicGroup, group.id, state=GroupState.HELD, reason="no calibration")
    page.goto(f"{site.url}/groups/{group.id}")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#state .lead")).to_contain_text("ready")
    assert site.first(MosaicGroup).state == GroupState.READY


def test_a_converted_tile_is_converted_again(site: Site, open_page: Any) -> None:
    tile = site.first(Tile)
    page = open_page(site.url).go(f"/tiles/{tile.id}")
    page.get_by_role("button", name="Convert again").click()
    expect(page.locator("#state .lead")).not_to_contain_text("converted")
    expect(page.locator("#events")).to_contain_text("to be converted again, by hand")


def test_a_mosaic_is_held_and_published(site: Site, open_page: Any) -> None:
    mosaic = site.first(Mosaic)
    page = open_page(site.url).go(f"/mosaics/{mosaic.name}")
    page.get_by_label("Reason").fill("a satellite")
    page.get_by_role("button", name="Hold").click()
    expect(page.locator("#state .lead")).to_contain_text("held")
    expect(page.locator("#state")).to_contain_text("by hand (on the dashboard): a satellite")
    assert not list((site.root / "products" / "mosaics").glob(f"{mosaic.name}.fits"))
    page.get_by_label("Reason").fill("it was none")
    page.get_by_role("button", name="Publish").click()
    expect(page.locator("#state")).to_contain_text("published")
    assert list((site.root / "products" / "mosaics").glob(f"{mosaic.name}.fits"))


def test_a_calibration_set_is_rejected_preferred_and_accepted(site: Site, open_page: Any) -> None:
    (made,) = list_calibration_sets(site.registry, 1)
    page = open_page(site.url).go(f"/calibration/{made.id}")
    for button, standing in (("Reject", "rejected"), ("Prefer", "preferred")):
        page.get_by_label("Reason").fill("because")
        page.get_by_role("button", name=button).click()
        expect(page.locator("#state .lead")).to_contain_text(standing)
    page.get_by_role("button", name="Back to normal").click()
    expect(page.locator("#state .lead")).to_contain_text("normal")
    assert get_calibration_set(site.registry, made.id).standing == "normal"


def test_a_job_is_submitted_followed_repeated_and_cancelled(site: Site, open_page: Any) -> None:
    watched = open_page(site.url)
    page = watched.go("/jobs")
    page.get_by_role("link", name="mosaic", exact=True).click()
    page.get_by_label("name (needed)").fill("by_form")
    page.get_by_label("method").first.select_option("pbweighted")
    page.get_by_label("max rms (mJy)").fill("not a number")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_contain_text("max_rms_mjy")
    expect(page.get_by_label("name (needed)")).to_have_value("by_form")
    page.get_by_label("max rms (mJy)").fill("900")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#state .lead")).to_contain_text("done", timeout=60_000)
    expect(page.locator("#log")).to_contain_text("done")
    expect(page.locator("#state")).to_contain_text("by_form_rms.fits")
    page.get_by_role("link", name="Repeat with changes").click()
    expect(page.get_by_label("max rms (mJy)")).to_have_value("900.0")
    page.get_by_label("name (needed)").fill("again")
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#state .lead")).to_contain_text("cancelled", timeout=10_000)
    with site.registry.read() as session:
        jobs = session.scalars(select(Job).order_by(Job.id)).all()
    assert [job.state for job in jobs] == ["done", "cancelled"]
    assert jobs[0].params["method"] == "pbweighted"
    assert jobs[0].params["max_rms_mjy"] == 900
    watched.forgive("422")


def test_sources_are_found_by_name_and_by_position(shared: Site, open_page: Any) -> None:
    with shared.registry.read() as session:
        source = session.scalars(select(Source).order_by(Source.id)).first()
    assert source is not None
    page = open_page(shared.url).go("/sources")
    for asked in (source.name[4:12], f"{source.ra_deg:.3f} {source.dec_deg:+.3f}"):
        page.get_by_label("Name or position").fill(asked)
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_role("link", name=source.name)).to_be_visible()
    page.get_by_role("link", name=source.name).click()
    expect(page.locator("svg.chart circle, svg.chart .limit").first).to_be_visible()
    expect(page.get_by_text("known").first).to_be_visible()


def _viewer(page: Page, kind: str) -> None:
    expect(page.locator("#viewer")).to_have_attribute("data-ready", kind, timeout=30_000)


def test_the_plain_viewer_zooms_and_tells_values(shared: Site, open_page: Any) -> None:
    mosaic = shared.first(Mosaic)
    page = open_page(shared.url).go(f"/mosaics/{mosaic.name}?viewer=plain")
    _viewer(page, "plain")
    viewer = page.locator("#viewer")
    _until(page, "document.getElementById('viewer').dataset.missing === '0'")
    before = int(viewer.get_attribute("data-drawn") or 0)
    viewer.focus()
    for key in ("+", "+", "ArrowLeft", "-"):
        page.keyboard.press(key)
    assert int(viewer.get_attribute("data-drawn") or 0) >= before + 4
    viewer.hover()
    expect(page.locator("#under")).to_contain_text("mJy/beam")
    expect(page.locator("#under")).to_contain_text("Dec 16")
    page.get_by_label("our sources").uncheck()
    page.get_by_label("catalogue known").check()


def test_the_sky_shows_in_aladin_lite(shared: Site, open_page: Any) -> None:
    assert has_aladin(), "install again where npm is: pip install --editable '.[dev]'"
    mosaic = shared.first(Mosaic)
    page = open_page(shared.url).go(f"/mosaics/{mosaic.name}")
    _viewer(page, "aladin")
    box = page.locator("#viewer").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(box["x"] + box["width"] / 2 + 3, box["y"] + box["height"] / 2 + 2)
    expect(page.locator("#under")).to_contain_text("mJy/beam")


def test_an_empty_database_has_pages_too(
    tmp_path: Path, small_run: SmallRun, open_page: Any
) -> None:
    root = make_root(tmp_path / "root", small_run)
    for site in _site(root):
        watched = open_page(site.url)
        for path in (
            "/",
            "/night",
            "/groups",
            "/mosaics",
            "/sources",
            "/calibration",
            "/jobs",
            "/health",
        ):
            page = watched.go(path)
            _settled(page)
            expect(page.locator("main")).to_be_visible()
        expect(watched.go("/").locator("#newest")).to_contain_text("No mosaic is published yet.")
        watched.page.close()


def test_five_thousand_tiles(tmp_path: Path, small_run: SmallRun, open_page: Any) -> None:
    root = make_root(tmp_path / "root", small_run)
    begin = 1.7e9 // 86400 * 86400
    for site in _site(root):
        with site.registry.write() as session:
            session.add_all(
                Tile(
                    id=f"tile{n:05d}",
                    time_key=begin + 309.0 * n,
                    start=begin + 309.0 * n,
                    apparent_dec_deg=16.2,
                    last_arrival=begin,
                    state=TileState.CONVERTED,
                )
                for n in range(5000)
            )
        watched = open_page(site.url)
        page = watched.go("/night")
        day = (begin + 309.0 * 4999) // 86400 * 86400
        seen = sum(day <= begin + 309.0 * n < day + 86400 for n in range(5000))
        expect(page.get_by_role("heading", level=1)).to_contain_text(f"{seen} tiles")
        page.get_by_role("link", name="←").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(re.compile("279|280"))
        assert page.locator(".strip a").count() >= 279
        expect(watched.go("/").locator("#work")).to_contain_text("converted 5000")
        watched.page.close()


def test_a_token_opens_the_pages_and_a_wrong_one_does_not(streamed: Path, open_page: Any) -> None:
    for site in _site(streamed, "--require-token"):
        reader = tokens.create(site.registry, "reader", tokens.Scope.READ)
        writer = tokens.create(site.registry, "writer", tokens.Scope.WRITE)
        watched = open_page(site.url)
        page = watched.go("/mosaics")
        assert page.url.endswith("/login?next=%2Fmosaics")
        page.get_by_label("Token").fill("contimg_1_wrong")
        page.get_by_role("button", name="Enter").click()
        expect(page.get_by_role("alert")).to_contain_text("wrong or was revoked")
        page.get_by_label("Token").fill(reader)
        page.get_by_role("button", name="Enter").click()
        expect(page).to_have_url(f"{site.url}/mosaics")
        (cookie,) = page.context.cookies()
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Strict"
        assert page.evaluate("document.cookie") == ""
        made = list_calibration_sets(site.registry, 1)[0]
        watched.go(f"/calibration/{made.id}")
        page.get_by_label("Reason").fill("because")
        page.get_by_role("button", name="Reject").click()
        expect(page.get_by_role("alert")).to_contain_text("may only read")
        watched.go("/login")
        page.get_by_label("Token").fill(writer)
        page.get_by_role("button", name="Enter").click()
        watched.go(f"/calibration/{made.id}")
        page.get_by_label("Reason").fill("because")
        page.get_by_role("button", name="Reject").click()
        expect(page.locator("#state .lead")).to_contain_text("rejected")
        tokens.revoke(site.registry, "writer")
        expect(page).to_have_url(re.compile("/login"), timeout=5 * LIVE_MS)
        page.close()
        watched.forgive("40[13]")


def test_sidereal_times_are_those_of_the_astrometry(rng: np.random.Generator) -> None:
    times_s = rng.uniform(1.6e9, 1.9e9, 50)
    site = astrometry.Site.of(DSA110)
    frame = astrometry.EarthFrame(UNIX_EPOCH_JD + times_s / 86400.0, site)
    expected = np.rad2deg(frame.local_sidereal_time_rad()) / 15
    found = np.array([words.sidereal_hours(float(t)) for t in times_s])
    apart_s = 3600 * ((found - expected + 12) % 24 - 12)
    assert np.abs(apart_s).max() < 0.2


def test_nobody_is_sent_elsewhere_after_the_token(shared: Site) -> None:
    secret = tokens.create(shared.registry, "elsewhere", tokens.Scope.READ)
    for target in ("//evil.example", "https://evil.example", "/\\evil.example", "javascript:x"):
        answer = httpx.post(
            f"{shared.url}/login", params={"next": target}, content=f"token={secret}"
        )
        assert answer.headers["location"] == "/"


def test_nothing_that_comes_from_outside_ever_runs(site: Site, open_page: Any) -> None:
    tile, group = site.first(Tile), site.first(MosaicGroup)
    now = time.time()
    with site.registry.write() as session:
        session.add(
            SubbandFile(
                path=f"/in/{HOSTILE}",
                size=1,
                mtime_ns=1,
                first_seen=now,
                state="rejected",
                reason=HOSTILE,
                tile_id=tile.id,
            )
        )
        session.add(Event(at=now, level="warning", subject=group.id, message=HOSTILE))
        session.add(
            Job(
                type="mosaic",
                params={"name": HOSTILE, "method": "mean"},
                state="failed",
                created=now,
                started=now,
                ended=now,
                error=HOSTILE,
                message=HOSTILE,
                result={HOSTILE: HOSTILE},
            )
        )
        session.add(
            Source(
                name=HOSTILE[:32],
                ra_deg=1.0,
                dec_deg=16.0,
                origin=HOSTILE[:64],
                behaviour="unknown",
                mean_jy=1.0,
                modulation=0.5,
                eta=9.0,
            )
        )
        session.flush()
        job = session.scalars(select(Job.id)).one()
        source = session.scalars(select(Source.id).where(Source.ra_deg == 1.0)).one()
    logs = site.root / "state" / "jobs"
    logs.mkdir(parents=True, exist_ok=True)
    (logs / f"{job}.log").write_text(f"{HOSTILE}\n")
    made = list_calibration_sets(site.registry, 1)[0]
    set_standing(site.registry, made.id, "rejected", HOSTILE)
    site.change(Tile, tile.id, state=TileState.QUARANTINED, reason=HOSTILE)
    site.change(MosaicGroup, group.id, state=GroupState.HELD, reason=HOSTILE)
    watched = open_page(site.url)
    for path in (
        "/",
        f"/tiles/{tile.id}",
        f"/groups/{group.id}",
        "/groups",
        "/jobs",
        f"/jobs/{job}",
        f"/jobs/new/mosaic?like={job}",
        "/sources",
        f"/sources/{source}",
        "/calibration",
        f"/calibration/{made.id}",
        "/health",
        f"/sources?q={HOSTILE[:40]}",
    ):
        page = watched.go(path)
        _until(page, _LOADED)
        assert page.evaluate("window.hacked") is None, path
        assert "onerror" in page.content(), f"{path}: it shows as text"
        assert page.locator("main img[src=x]").count() == 0, path
        assert "210021" not in page.content()


def test_another_sites_page_changes_nothing(site: Site, browser: Browser) -> None:
    """A page of another origin posts a form that would reject the calibration set."""
    made = list_calibration_sets(site.registry, 1)[0]
    target = f"{site.url}/calibration/{made.id}"
    document = (
        f"<form method=post action='{target}'><input name=action value=reject>"
        "<input name=reason value=x></form><script>document.forms[0].submit()</script>"
    ).encode()

    class Evil(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(document)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Evil) as evil:
        threading.Thread(target=evil.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(f"http://localhost:{evil.server_port}/")
        page.wait_for_url(target)
        expect(page.get_by_role("alert")).to_contain_text("another site")
        page.close()
        evil.shutdown()
    assert get_calibration_set(site.registry, made.id).standing == "normal"


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}],
)
def test_changes_need_our_own_page(shared: Site, headers: dict[str, str]) -> None:
    answer = httpx.post(f"{shared.url}/jobs/new/mosaic", headers=headers, content="name=forged")
    assert answer.status_code == 403
    with shared.registry.read() as session:
        assert session.scalars(select(Job)).all() == []


def test_a_mosaic_is_previewed_before_it_is_asked_for(shared: Site, open_page: Any) -> None:
    page = open_page(shared.url).go("/jobs/new/mosaic")
    assert page.locator("[name=method], [name='options.method']").count() == 1
    page.get_by_role("button", name="Preview the tiles").click()
    boxes = page.locator("[data-tile]")
    names = [box.get_attribute("data-tile") for box in boxes.all()]
    assert len(names) == 3
    boxes.first.uncheck()
    assert page.locator("#f-tiles").input_value() == ",".join(map(str, names[1:]))


def test_found_sources_are_sorted_by_a_click(shared: Site, open_page: Any) -> None:
    mosaic = shared.first(Mosaic)
    page = open_page(shared.url).go(f"/mosaics/{mosaic.name}")
    table = page.locator("table.sortable")
    table.wait_for()

    def fluxes() -> list[float]:
        return [float(cell) for cell in table.locator("tbody td:nth-child(2)").all_inner_texts()]

    brightest_first = fluxes()
    assert len(brightest_first) > 3
    assert brightest_first == sorted(brightest_first, reverse=True)
    table.get_by_text("flux density (mJy)").click()
    assert fluxes() == brightest_first[::-1]


def test_lists_are_had_as_csv(shared: Site) -> None:
    table = httpx.get(f"{shared.url}/api/sources", params={"format": "csv", "limit": 2})
    assert table.headers["content-type"].startswith("text/csv")
    header, *rows = table.text.splitlines()
    assert header.startswith("id,name,ra_deg,dec_deg")
    assert len(rows) == 2
    number = rows[0].split(",")[0]
    curve = httpx.get(f"{shared.url}/api/sources/{number}/lightcurve", params={"format": "csv"})
    assert curve.text.splitlines()[0] == "observed,mjd,flux_jy,error_jy,upper_limit_jy,image"


def test_a_page_that_is_not_there_is_a_page(shared: Site) -> None:
    answer = httpx.get(f"{shared.url}/nosuch", headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert "There is no page /nosuch" in answer.text
    assert httpx.get(f"{shared.url}/api/nosuch").json() == {"detail": "Not Found"}


def test_files_outside_the_hips_are_not_served(shared: Site) -> None:
    place = urlsplit(shared.url)
    for path in (
        "../mosaics",
        "%2e%2e/%2e%2e/contimg.toml",
        "all_sky/../../../contimg.toml",
        "..%2f..%2fcontimg.toml",
        "/etc/passwd",
    ):
        # As it is: other clients would shorten it.
        connection = http.client.HTTPConnection(str(place.hostname), place.port)
        connection.request("GET", f"/hips/{path}")
        assert connection.getresponse().status == 404, path
        connection.close()

"""What operators are told: alerts, the night's summary, metrics, status."""

import asyncio
import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select
from typer.testing import CliRunner

from dsa110_contimg import settings as settings_module
from dsa110_contimg.api.app import create_app
from dsa110_contimg.cli.main import app
from dsa110_contimg.constants import DAY_S
from dsa110_contimg.registry import night
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Event, Tile
from dsa110_contimg.registry.states import TileState
from dsa110_contimg.settings import AlertRule, Settings
from dsa110_contimg.sky.astrometry import orientation_table_end, orientation_warning
from dsa110_contimg.streaming import alerts


def _add_tile(registry: Registry, name: str, start: float, state: str, reason: str = "") -> None:
    with registry.write() as session:
        session.add(
            Tile(
                id=name,
                time_key=start,
                start=start,
                apparent_dec_deg=16.0,
                last_arrival=start,
                state=state,
                reason=reason,
                converted_at=start + 60 if state == TileState.CONVERTED else None,
            )
        )


@pytest.fixture
def registry(database_url: str) -> Iterator[Registry]:
    registry = Registry(database_url, None)
    yield registry
    registry.close()


def _settings(tmp_path: Path, registry: Registry, *rules: dict[str, object]) -> Settings:
    return settings_module.load(
        root=tmp_path, database_url=registry.url, alerts=[AlertRule(**rule) for rule in rules]
    )


def test_a_broken_rule_is_told_once_again_after_its_time_and_when_it_is_over(
    tmp_path: Path, registry: Registry
) -> None:
    rule = {"name": "no data", "when": "data_age_s", "limit": 600, "repeat_h": 1}
    settings = _settings(tmp_path, registry, rule)
    now = time.time()
    assert alerts.due(registry, settings, now) == [], "there never was a tile"
    _add_tile(registry, "old", now - 1000, TileState.CONVERTED)
    (first,) = alerts.due(registry, settings, now)
    assert first.state == "raised"
    assert "more than 600 s" in first.text
    assert alerts.due(registry, settings, now + 1) == [], "the other daemon is telling it"
    alerts.tell(registry, first)
    assert alerts.due(registry, settings, now + 60) == []
    (second,) = alerts.due(registry, settings, now + 3700)
    assert (second.state, second.since) == ("again", now)
    alerts.tell(registry, second)
    _add_tile(registry, "new", time.time(), TileState.CONVERTED)
    (last,) = alerts.due(registry, settings, now + 3800)
    assert last.state == "over"
    assert alerts.due(registry, settings, now + 3900) == []


def test_an_alert_whose_teller_was_killed_is_told_by_the_next_look(
    tmp_path: Path, registry: Registry
) -> None:
    settings = _settings(tmp_path, registry, {"name": "a", "when": "data_age_s", "limit": 600})
    now = time.time()
    _add_tile(registry, "old", now - 1000, TileState.CONVERTED)
    assert len(alerts.due(registry, settings, now)) == 1
    (again,) = alerts.due(registry, settings, now + 60)
    assert again.state == "raised"


@pytest.mark.parametrize(
    ("when", "limit"), [("lag_s", 100.0), ("failing", 0.0), ("disk_free_gb", 1e9)]
)
def test_every_kind_of_rule_breaks(
    tmp_path: Path, registry: Registry, when: str, limit: float
) -> None:
    settings = _settings(tmp_path, registry, {"name": "a", "when": when, "limit": limit})
    now = time.time()
    _add_tile(registry, "t0", now - 900, TileState.READY)
    _add_tile(registry, "t1", now - 500, TileState.QUARANTINED, "broken")
    (found,) = alerts.due(registry, settings, now)
    assert found.state == "raised"


def test_a_command_gets_its_facts_as_environment_and_never_through_a_shell(
    tmp_path: Path, registry: Registry
) -> None:
    out = tmp_path / "told.json"
    program = (
        "import json, os, sys; json.dump([sys.argv[2:], dict(os.environ)], open(sys.argv[1], 'w'))"
    )
    command = [sys.executable, "-c", program, str(out), "$HOME; touch hacked"]
    rule = AlertRule(name="a; b", when="failing", command=command)
    alerts.tell(registry, alerts.Message(rule, "raised", "3 tiles `failed`\0", 0.0))
    arguments, environment = json.loads(out.read_text())
    assert arguments == ["$HOME; touch hacked"]
    assert environment["CONTIMG_ALERT_TEXT"] == "3 tiles `failed`"
    assert environment["CONTIMG_ALERT_STATE"] == "raised"
    assert environment["CONTIMG_ALERT_SINCE"].startswith("1970-01-01T00:00:00")


def test_a_webhook_gets_its_facts_as_json(registry: Registry) -> None:
    got = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/hook"
        rule = AlertRule(name="a", when="failing", webhook=url)
        alerts.tell(registry, alerts.Message(rule, "over", "over: x", 0.0))
        thread.join(10)
    assert got[0]["name"] == "a"
    assert got[0]["state"] == "over"


@pytest.mark.parametrize(
    "given",
    [
        {"command": ["/nonexistent/program"]},
        {"command": [sys.executable, "-c", "raise SystemExit('no mail today')"]},
        {"webhook": "http://127.0.0.1:9/closed"},
    ],
)
def test_an_alert_that_cannot_be_told_is_an_event(
    registry: Registry, given: dict[str, object]
) -> None:
    rule = AlertRule(name="a", when="failing", **given)
    alerts.tell(registry, alerts.Message(rule, "raised", "x", 0.0))
    with registry.read() as session:
        event = session.scalars(select(Event)).one()
    assert event.level == "error"
    assert event.message.startswith(("command", "webhook"))


def test_the_night_is_summed_up_once_a_day(tmp_path: Path, registry: Registry) -> None:
    settings = _settings(tmp_path, registry, {"name": "n", "when": "night", "limit": 16})
    midnight = 20000 * DAY_S
    for k in range(3):
        _add_tile(registry, f"t{k}", midnight + 3600 * k, TileState.CONVERTED)
    with registry.write() as session:
        for _ in range(4):
            session.add(Event(at=midnight + 5, level="warning", subject="ant", message="dead"))
    assert alerts.due(registry, settings, midnight + 15 * 3600) == []
    (message,) = alerts.due(registry, settings, midnight + 16.1 * 3600)
    assert message.state == "summary"
    assert "converted: 3 tiles" in message.text
    assert "warning ant: dead (4 times)" in message.text
    alerts.tell(registry, message)
    assert alerts.due(registry, settings, midnight + 17 * 3600) == []
    (following,) = alerts.due(registry, settings, midnight + 40.1 * 3600)
    assert "no warnings, no errors" in following.text


def test_the_night_of_a_real_run_names_its_mosaic(streamed: Path) -> None:
    registry = Registry.of(settings_module.load(root=streamed))
    found = night.summary(registry, time.time() - DAY_S, time.time() + 60)
    registry.close()
    assert len(found.mosaics) == 1
    assert found.files_arrived == 48
    assert found.tiles_converted == 3
    assert found.mosaic_rms_mjy is not None
    assert 0 < found.mosaic_rms_mjy < 100
    shown = CliRunner().invoke(app, ["night", "--root", str(streamed)])
    assert "published: 1 mosaic," in shown.stdout


def test_prometheus_reads_the_metrics(streamed: Path) -> None:
    application = create_app(settings_module.load(root=streamed))

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/metrics")

    answer = asyncio.run(get())
    application.state.registry.close()
    assert answer.status_code == 200
    figures = {
        (sample.name, sample.labels.get("state", "")): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert figures["contimg_tiles", "converted"] == 3
    assert figures["contimg_groups", "published"] == 1
    assert figures["contimg_lag_seconds", ""] == 0
    assert figures["contimg_disk_free_gigabytes", ""] > 0
    assert figures["contimg_tiles_last_hour", ""] == 3


def test_status_says_when_dates_outrun_the_earth_orientation(streamed: Path) -> None:
    shown = CliRunner().invoke(app, ["status", "--root", str(streamed)]).stdout
    assert "3 tiles and 1 mosaic in the last hour" in shown
    assert "Earth-orientation" not in shown
    registry = Registry.of(settings_module.load(root=streamed))
    _add_tile(registry, "future", orientation_table_end() + 5 * DAY_S, TileState.CONVERTING)
    registry.close()
    shown = CliRunner().invoke(app, ["status", "--root", str(streamed)]).stdout
    assert "5 days after the installed Earth-orientation table ends" in shown
    assert orientation_warning(None) == ""

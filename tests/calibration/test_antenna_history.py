"""What happens to antennas over a night is recorded, named and shown."""

import json
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from dsa110_contimg import settings as settings_module
from dsa110_contimg.api.app import create_app
from dsa110_contimg.calibration.antenna_history import AntennaEvent, TileAntennas, find_events
from dsa110_contimg.calibration.antenna_state import AntennaHealth, AntennaState
from dsa110_contimg.cli.main import app
from dsa110_contimg.errors import UsageError
from dsa110_contimg.registry.antennas import add_antennas, recorded_antennas, tile_antennas_beside
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.settings import AlertRule
from dsa110_contimg.streaming import alerts, housekeeping
from dsa110_contimg.times import iso
from dsa110_contimg.web.app import add_dashboard

T0, TILE_S = 1769378721.0, 309.24


def _health(
    antenna: str,
    polarization: int,
    state: AntennaState = AntennaState.STEADY,
    amplitude: float = 1.0,
    delay_ns: float = 0.0,
    noise: float = 1.0,
) -> AntennaHealth:
    return AntennaHealth(antenna, polarization, state, amplitude, 0.01, delay_ns, 0.02, noise=noise)


def _night(
    changes: dict[int, list[AntennaHealth]], n_tiles: int = 6, sets: str = "aaaaaa"
) -> list[TileAntennas]:
    """Tiles of two antennas that are steady but for what changes in each tile."""
    tiles = []
    for i in range(n_tiles):
        other = {(one.antenna, one.polarization): one for one in changes.get(i, [])}
        antennas = tuple(
            other.get((name, p), _health(name, p)) for name in ("24", "103") for p in (0, 1)
        )
        tiles.append(TileAntennas(f"tile{i}", T0 + i * TILE_S, TILE_S, sets[i], antennas))
    return tiles


def _jumped(amplitude: float, delay_ns: float = 0.0) -> list[AntennaHealth]:
    return [_health("24", p, AntennaState.CHANGED, amplitude, delay_ns) for p in (0, 1)]


def _silent(antenna: str) -> list[AntennaHealth]:
    return [_health(antenna, p, AntennaState.NO_SIGNAL) for p in (0, 1)]


def test_a_steady_night_has_no_events() -> None:
    assert find_events(_night({})) == ()
    assert find_events([]) == ()


def test_a_jump_is_dated_before_and_after_the_reference_tile() -> None:
    (after,) = find_events(_night({i: _jumped(1.5) for i in (4, 5)}))
    assert (after.antenna, after.polarizations, after.state) == ("24", "XY", "changed")
    assert after.what == "gain x 1.50, delay +0.0 ns"
    assert (after.since, after.n_tiles) == (T0 + 4 * TILE_S, 2)
    assert after.jumped_at == T0 + 4 * TILE_S
    assert "jumped at 2026-01-25 22:25:5" in str(after)
    (before,) = find_events(_night({i: _jumped(0.67) for i in (0, 1)}))
    assert before.jumped_at == T0 + 2 * TILE_S
    assert before.until == pytest.approx(T0 + 2 * TILE_S)


def test_a_second_jump_is_an_event_of_its_own_and_a_wobble_is_not() -> None:
    changes = {1: _jumped(1.5), 2: _jumped(1.53), 3: _jumped(1.5, 8.0), 4: _jumped(1.5, 8.1)}
    one, two = find_events(_night(changes))
    assert (one.n_tiles, two.n_tiles) == (2, 2)
    assert two.what == "gain x 1.50, delay +8.1 ns"
    assert two.jumped_at == T0 + 5 * TILE_S


def test_a_change_of_the_reference_tile_is_no_jump() -> None:
    changes = {i: _jumped(1.5) for i in (0, 1, 2)}
    (event,) = find_events(_night(changes, sets="aaabbb"))
    assert event.jumped_at is None


def test_hands_that_differ_are_told_apart() -> None:
    changes = {i: [_health("103", 1, AntennaState.FAILED)] for i in range(6)} | {
        2: [_health("103", 1, AntennaState.FAILED), _health("24", 0, AntennaState.NOISY, noise=9.0)]
    }
    noisy, failed = find_events(_night(changes))
    assert (noisy.antenna, noisy.polarizations, noisy.what) == ("24", "X", "noise x 3.0")
    assert (failed.antenna, failed.polarizations, failed.n_tiles) == ("103", "Y", 6)
    assert (noisy.jumped_at, failed.jumped_at) == (None, None)


def test_an_antenna_without_signal_is_one_event() -> None:
    (event,) = find_events(_night({3: _silent("103"), 4: _silent("103")}))
    assert (event.antenna, event.polarizations, event.state) == ("103", "XY", "no signal")
    assert (event.n_tiles, event.jumped_at) == (2, T0 + 3 * TILE_S)


def test_the_tiles_beside_some_are_the_next_ones(database_url: str) -> None:
    registry = Registry(database_url, None)
    tiles = _night({})
    for tile in tiles:
        with registry.write() as session:
            add_antennas(session, tile)
    starts = [tile.start for tile in tiles]
    beside = tile_antennas_beside(registry, starts[2], starts[2], 2)
    assert beside == (starts[1], starts[4])
    assert tile_antennas_beside(registry, starts[0], starts[-1], 2) == (None, None)


def test_what_is_recorded_is_what_is_read(database_url: str) -> None:
    registry = Registry(database_url, None)
    tiles = _night({4: _jumped(1.5), 5: _silent("103")})
    for tile in tiles:
        with registry.write() as session:
            add_antennas(session, tile)
    assert recorded_antennas(registry) == tuple(tiles)
    assert recorded_antennas(registry, limit=2) == tuple(tiles[-2:])
    assert recorded_antennas(registry, tiles[1].start, tiles[2].start) == tuple(tiles[1:3])
    again = replace(tiles[2], calibration_set_id="b")
    with registry.write() as session:
        add_antennas(session, again)
    assert recorded_antennas(registry)[2] == again


def test_the_history_covers_as_many_days_as_are_wished(tmp_path: Path, database_url: str) -> None:
    settings = settings_module.load(root=tmp_path, database_url=database_url, keep_antennas_d=2.0)
    registry = Registry.of(settings)
    (tile,) = _night({}, n_tiles=1)
    for days in (0.0, 1.5, 3.0):
        with registry.write() as session:
            add_antennas(session, replace(tile, tile_id=str(days), start=T0 + days * 86400))
    housekeeping.remove(registry, settings, [])
    assert [one.tile_id for one in recorded_antennas(registry)] == ["1.5", "3.0"]


def test_a_rule_tells_of_too_many_antennas_that_depart(tmp_path: Path, database_url: str) -> None:
    rule = AlertRule(name="antennas", when="antennas", limit=1)
    settings = settings_module.load(root=tmp_path, database_url=database_url, alerts=[rule])
    registry = Registry.of(settings)
    tiles = _night({4: _jumped(1.5), 5: _jumped(1.5) + _silent("103")})
    assert tiles[5].departing == ("24", "103")
    for tile in tiles[:5]:
        with registry.write() as session:
            add_antennas(session, tile)
    assert alerts.due(registry, settings, time.time()) == [], "one may"
    with registry.write() as session:
        add_antennas(session, tiles[5])
    (message,) = alerts.due(registry, settings, time.time())
    assert "2 antennas" in message.text
    assert "24, 103" in message.text


@pytest.fixture
def troubled(streamed: Path) -> Path:
    """A streamed root whose last tile an antenna jumped in."""
    registry = Registry.of(settings_module.load(root=streamed))
    last = recorded_antennas(registry)[-1]
    name = next(one.antenna for one in last.antennas if one.state is AntennaState.STEADY)
    antennas = tuple(
        replace(one, state=AntennaState.CHANGED, amplitude=1.5) if one.antenna == name else one
        for one in last.antennas
    )
    with registry.write() as session:
        add_antennas(session, replace(last, antennas=antennas))
    return streamed


def _run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def _jumps(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    return [row for row in rows if row["state"] == "changed"]


def test_streaming_records_every_tile_and_all_faces_tell_of_a_jump(troubled: Path) -> None:
    registry = Registry.of(settings_module.load(root=troubled))
    tiles = recorded_antennas(registry)
    assert len(tiles) == 3
    assert {len(tile.antennas) for tile in tiles} == {2 * 24}
    (event,) = [one for one in find_events(tiles) if one.state == "changed"]
    printed = _run("antennas", "--root", troubled)
    (row,) = [line for line in printed.splitlines() if line.endswith(event.what)]
    assert row.split()[:2] == [event.antenna, event.polarizations]
    assert row.count(iso(event.jumped_at)) == 2
    (told,) = _jumps(json.loads(_run("antennas", "--json", "--root", troubled)))
    assert AntennaEvent(**told) == event  # type: ignore[arg-type]
    rows = json.loads(_run("antennas", event.antenna, "--json", "--root", troubled))
    assert len(rows) == 2 * len(tiles)
    assert " 1.500 " in _run("antennas", event.antenna, "--root", troubled)
    with pytest.raises(UsageError, match="no tile in this time has an antenna 'none'"):
        _run("antennas", "none", "--root", troubled)
    with pytest.raises(UsageError, match="--since"):
        _run("antennas", "--until", "2002-01-01", "--root", troubled)
    application = create_app(settings_module.load(root=troubled))
    add_dashboard(application)
    local = {"base_url": "http://localhost", "client": ("127.0.0.1", 50000)}
    with TestClient(application, **local) as client:  # type: ignore[arg-type]
        assert _jumps(client.get("/api/antennas").json()) == [told]
        assert client.get(f"/api/antennas/{event.antenna}").json() == rows
        assert client.get("/api/antennas/none").status_code == 404
        for by in ("state", "gain"):
            page = client.get(f"/antennas?by={by}", headers={"accept": "text/html"})
            assert _cells(page, event.antenna) == 2
        assert _cells(client.get("/antennas?by=noise"), event.antenna) == 0
        assert client.get("/antennas?by=colour").status_code == 422


def _cells(page: httpx.Response, antenna: str) -> int:
    """Drawn marks of an antenna that has changed."""
    assert page.status_code == 200
    return page.text.count(f"<title>{antenna} X, ") + page.text.count(f"<title>{antenna} Y, ")

"""Claims fence: whoever lost a lease changes nothing."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from dsa110_contimg import records
from dsa110_contimg import settings as settings_module
from dsa110_contimg.artifacts.mosaics import Validation
from dsa110_contimg.errors import BadInputError, OutageError, RetryableError, StaleClaimError
from dsa110_contimg.quality.gates import Gate, Verdict
from dsa110_contimg.registry import claims, groups
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Mosaic, Source, Tile
from dsa110_contimg.registry.mosaics import set_crossmatch
from dsa110_contimg.registry.sources import SourceFilter, query_sources
from dsa110_contimg.registry.states import TRANSITIONS, CrossmatchState, JobState, TileState
from dsa110_contimg.sky.cones import Cone
from dsa110_contimg.streaming import daemon
from dsa110_contimg.streaming.disk import DiskGuard
from dsa110_contimg.streaming.work import InFlight


@pytest.fixture
def registry(database_url: str) -> Iterator[Registry]:
    registry = Registry(database_url, None)
    with registry.write() as session:
        for k in range(3):
            session.add(
                Tile(
                    id=f"t{k}",
                    time_key=float(k),
                    start=float(k),
                    apparent_dec_deg=16.0,
                    last_arrival=0.0,
                    state=TileState.READY,
                )
            )
    yield registry
    registry.close()


def _tile(registry: Registry, name: str = "t0") -> Tile:
    with registry.read() as session:
        return session.get_one(Tile, name)


def test_the_oldest_is_claimed_first_and_only_once(registry: Registry) -> None:
    taken = [claims.claim_next(registry, claims.TILES, f"w{k}", 60) for k in range(4)]
    assert [claim.id if claim else None for claim in taken] == ["t0", "t1", "t2", None]


def test_a_lease_that_ran_out_passes_on_and_the_old_owner_changes_nothing(
    registry: Registry,
) -> None:
    frozen = claims.claim_next(registry, claims.TILES, "frozen", 0.0)
    time.sleep(0.01)
    heir = claims.claim_next(registry, claims.TILES, "heir", 60)
    assert frozen is not None
    assert heir is not None
    assert heir.id == frozen.id
    assert heir.attempt == frozen.attempt + 1
    with pytest.raises(StaleClaimError), registry.write() as session:
        claims.change(session, frozen, state=TileState.CONVERTED, ms_path="wrong")
    with pytest.raises(StaleClaimError):
        claims.heartbeat(registry, frozen, 60)
    with pytest.raises(StaleClaimError):
        claims.fail(registry, frozen, RetryableError("x"), 3, 0.0)
    assert _tile(registry).ms_path == ""
    with registry.write() as session:
        claims.change(session, heir, state=TileState.CONVERTED, ms_path="right")
    assert _tile(registry).ms_path == "right"


def test_a_committed_claim_has_nothing_left_to_hold(registry: Registry) -> None:
    claim = claims.claim_next(registry, claims.TILES, "w", 60)
    assert claim is not None
    assert claims.heartbeat(registry, claim, 60)
    with registry.write() as session:
        claims.change(session, claim, state=TileState.CONVERTED, lease_until=0.0)
    assert not claims.heartbeat(registry, claim, 60)
    assert _tile(registry).lease_until == 0.0


def test_a_stale_commit_takes_back_everything_in_its_transaction(registry: Registry) -> None:
    frozen = claims.claim_next(registry, claims.TILES, "frozen", 0.0)
    assert frozen is not None
    time.sleep(0.01)
    claims.claim_next(registry, claims.TILES, "heir", 60)
    with pytest.raises(StaleClaimError), registry.write() as session:
        session.get_one(Tile, "t2").ms_path = "written before the check"
        claims.change(session, frozen, state=TileState.CONVERTED)
    assert _tile(registry, "t2").ms_path == ""


def test_failures_are_retried_with_a_pause_then_quarantined(registry: Registry) -> None:
    for attempt in range(1, 4):
        claim = claims.claim_next(registry, claims.TILES, "w", 60)
        assert claim is not None
        assert claim.id == "t0"
        state = claims.fail(registry, claim, RetryableError(f"try {attempt}"), 3, 0.0)
    assert state == TileState.QUARANTINED
    assert _tile(registry).reason == "try 3"
    following = claims.claim_next(registry, claims.TILES, "w", 60)
    assert following is not None
    assert following.id == "t1", "a failing item never blocks the next"
    assert claims.retry(registry, claims.TILES, "t0")
    assert _tile(registry).state == TileState.READY


def test_a_pause_keeps_failed_work_from_being_claimed(registry: Registry) -> None:
    claim = claims.claim_next(registry, claims.TILES, "w", 60)
    assert claim is not None
    claims.fail(registry, claim, RetryableError("busy"), 3, 1000.0)
    following = claims.claim_next(registry, claims.TILES, "w", 60)
    assert following is not None
    assert following.id == "t1"


def test_bad_input_is_quarantined_at_once(registry: Registry) -> None:
    claim = claims.claim_next(registry, claims.TILES, "w", 60)
    assert claim is not None
    assert claims.fail(registry, claim, BadInputError("broken"), 3, 0.0) == TileState.QUARANTINED


def test_an_outage_is_nobodys_failure(registry: Registry) -> None:
    for _ in range(5):
        claim = claims.claim_next(registry, claims.TILES, "w", 60)
        assert claim is not None
        assert claim.id == "t0"
        state = claims.fail(registry, claim, OutageError("disk full"), 3, 0.0, pause=True)
        assert state == TileState.FAILED
    assert _tile(registry).failures == 0


def test_what_the_dead_held_is_taken_back_and_what_the_living_hold_is_not(
    registry: Registry,
) -> None:
    dead = claims.claim_next(registry, claims.TILES, "here:1", 1000)
    claims.claim_next(registry, claims.TILES, "here:2", 1000)
    assert dead is not None
    assert claims.take_back(registry, claims.TILES, lambda owner: owner == "here:1") == ["t0"]
    time.sleep(0.01)
    heir = claims.claim_next(registry, claims.TILES, "here:3", 60)
    assert heir is not None
    assert (heir.id, heir.attempt) == ("t0", 2)
    with pytest.raises(StaleClaimError):
        claims.heartbeat(registry, dead, 60)


def test_only_processes_of_this_machine_are_known_to_be_dead() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host, own = daemon.owner_name().rsplit(":", 1)
    assert daemon.is_dead(f"{host}:{ended.pid}")
    assert daemon.is_dead(f"{host}:{own}"), "one before us had our number"
    assert not daemon.is_dead(f"{host}:1")
    assert not daemon.is_dead(f"elsewhere:{ended.pid}")
    assert not daemon.is_dead("")


def test_the_newest_goes_first_while_the_oldest_is_far_behind(registry: Registry) -> None:
    order = [
        claims.claim_next(registry, claims.TILES, "w", 60, newest_first_behind_s=1.5)
        for _ in range(3)
    ]
    assert [claim.id if claim else "" for claim in order] == ["t2", "t0", "t1"]


def test_a_database_that_stays_locked_is_an_outage(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dsa110_contimg.registry.database as database

    monkeypatch.setattr(database, "_BUSY_TIMEOUT_S", 0.05)
    impatient = Registry(registry.url, None)
    with registry.write():
        with pytest.raises(OutageError, match="does not answer"), impatient.write():
            pass
        with pytest.raises(OutageError, match="does not answer"):
            claims.claim_next(impatient, claims.TILES, "impatient", 60)
    # The connection that was refused is good for the next one.
    claim = claims.claim_next(impatient, claims.TILES, "impatient", 60)
    assert claim is not None
    assert (claim.id, claim.attempt) == ("t0", 1)


def test_values_that_json_does_not_have_are_kept_and_come_back(database_url: str) -> None:
    """PostgreSQL's JSON refuses NaN, infinity and zero bytes."""
    gate = Gate("flux ratio", float("nan"), "x", Verdict.WARNING, "only 2\0 sources")
    other = Gate("rms", float("inf"), "x", Verdict.FAILED)
    registry = Registry(database_url, None)
    validation = Validation(Verdict.WARNING, (gate, other), "nvss", ())
    with registry.write() as session:
        session.add(
            Mosaic(
                name="m",
                start=0.0,
                method="mean",
                state="held",
                verdict="warning",
                record={"validation": records.to_json(validation)},
            )
        )
    with registry.read() as session:
        back = records.from_json(Validation, session.get_one(Mosaic, "m").record["validation"])
    assert np.isnan(back.gates[0].value)
    assert back.gates[1].value == float("inf")
    assert back.gates[0].note == "only 2 sources"
    registry.close()


def test_one_result_that_cannot_be_recorded_holds_up_no_other(database_url: str) -> None:
    registry = Registry(database_url, None)
    settings = settings_module.load(database_url=database_url)
    work = InFlight(registry, settings, DiskGuard(registry, settings.root, settings))
    with registry.write() as session:
        for number in range(2):
            session.add(
                Tile(
                    id=f"t{number}",
                    time_key=float(number),
                    start=0.0,
                    apparent_dec_deg=16.0,
                    last_arrival=0.0,
                    state=TileState.READY,
                )
            )
    kept = []
    for _ in range(2):
        claim = claims.claim_next(registry, claims.TILES, "me", 60.0)
        assert claim is not None
        future: Future[str] = Future()
        future.set_result(claim.id)
        work.add(claim, future, 0.0)

    def commit(claim: claims.Claim, result: str) -> None:
        if result == "t0":
            raise RuntimeError("nobody expected this")
        kept.append(result)

    assert work.collect(commit) == 2
    assert kept == ["t1"]
    assert len(work) == 0
    with registry.read() as session:
        failed = session.get_one(Tile, "t0")
        assert (failed.state, failed.failures) == (TileState.FAILED, 1)
        assert "nobody expected this" in failed.reason
    registry.close()


def test_a_state_is_followed_only_by_what_may_follow(registry: Registry) -> None:
    with registry.write() as session:
        tile = session.get_one(Tile, "t0")
        with pytest.raises(ValueError, match="converted may not follow ready"):
            tile.state = TileState.CONVERTED
        tile.state = TileState.CONVERTING
    assert _tile(registry).state is TileState.CONVERTING
    claim = claims.claim_next(registry, claims.TILES, "a", 60.0)
    assert claim is not None
    with (
        pytest.raises(ValueError, match="rejected may not follow converting"),
        registry.write() as session,
    ):
        claims.change(session, claim, state=TileState.REJECTED)
    with registry.read() as session:
        stored = session.connection().exec_driver_sql("SELECT state FROM tiles ORDER BY id")
        assert sorted({row.state for row in stored}) == ["converting", "ready"]


def test_a_cross_match_that_fails_after_its_mosaic_was_held_changes_nothing(
    registry: Registry,
) -> None:
    with registry.write() as session:
        values = {"start": 0.0, "method": "mean", "state": "held", "verdict": "warning"}
        session.add(Mosaic(name="m", crossmatch="done", record={}, **values))
        set_crossmatch(session, "m", CrossmatchState.FAILED)
    with registry.read() as session:
        assert session.get_one(Mosaic, "m").crossmatch is CrossmatchState.DONE


def test_states_are_drawn_as_they_may_follow_each_other() -> None:
    drawings = (Path(__file__).parents[2] / "docs/states.md").read_text().split("## ")[1:]
    drawn = [set(re.findall(r"^    (\w+) --> (\w+)", text, re.MULTILINE)) for text in drawings]
    allowed = [
        {(before, after) for before, following in table.items() for after in following}
        for table in TRANSITIONS.values()
    ]
    assert drawn == allowed


def test_claims_make_only_changes_that_may_be() -> None:
    for kind in (claims.TILES, claims.GROUPS):
        table = TRANSITIONS[type(kind.ready)]
        ends = {kind.failed, kind.quarantined, kind.held}
        assert table[kind.working] >= {kind.ready, *ends}
        assert all(kind.ready in table[state] for state in ends)
        assert all(kind.working in table[state] for state in (kind.ready, kind.failed))
    assert {state for state, after in TRANSITIONS[JobState].items() if not after} == {
        JobState.DONE,
        JobState.FAILED,
        JobState.CANCELLED,
    }


def test_sources_of_a_cone_are_found_on_all_of_the_sky(database_url: str) -> None:
    registry = Registry(database_url, None)
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(0, 360, 2000), np.rad2deg(np.arcsin(rng.uniform(-1, 1, 2000)))
    with registry.write() as session:
        for i in range(ra.size):
            session.add(
                Source(
                    id=i + 1,
                    name=f"s{i}",
                    ra_deg=ra[i],
                    dec_deg=dec[i],
                    origin="nvss",
                    eta=rng.exponential(),
                    n_epochs=1,
                )
            )
        session.flush()
        for cone in (
            Cone(0.5, 20, 12.0),
            Cone(358, -60, 12.0),
            Cone(180, 85, 12.0),
            Cone(90, -90, 12.0),
            Cone(120, 0, 12.0),
            Cone(0, 0, 30.0),
        ):
            found = query_sources(session, SourceFilter(cone), limit=2000)
            near = separation_deg(ra, dec, cone.ra_deg, cone.dec_deg) <= cone.radius_deg
            assert {row.id for row in found.sources} == set((np.flatnonzero(near) + 1).tolist())
            etas = [row.eta for row in found.sources]
            assert found.n_total == len(etas) > 5
            assert etas == sorted(etas, reverse=True)
            few = query_sources(session, SourceFilter(cone), limit=3)
            assert few.sources == found.sources[:3]
            assert few.n_total == found.n_total
        assert query_sources(session, SourceFilter(Cone(0, 0, 1e-6))).n_total == 0
        faint = query_sources(session, SourceFilter(min_eta=1.0), limit=2)
        assert len(faint.sources) == 2 < faint.n_total
    registry.close()


def separation_deg(ra: np.ndarray, dec: np.ndarray, ra0: float, dec0: float) -> np.ndarray:
    """Angular distances, by another formula than the query's."""
    a, d, d0 = np.deg2rad(ra - ra0), np.deg2rad(dec), np.deg2rad(dec0)
    h = np.sin((d - d0) / 2) ** 2 + np.cos(d) * np.cos(d0) * np.sin(a / 2) ** 2
    return np.rad2deg(2 * np.arcsin(np.sqrt(h)))


def test_tiles_after_the_newest_group_are_counted(registry: Registry) -> None:
    for _ in range(3):
        claim = claims.claim_next(registry, claims.TILES, "me", 60.0)
        assert claim is not None
        with registry.write() as session:
            claims.change(session, claim, state=TileState.CONVERTED, ms_path="x.ms")
    with registry.write() as session:
        assert groups.count_after_groups(session) == 3
        groups.form_group(session, ["t0", "t1"])
        assert groups.count_after_groups(session) == 1

"""The second daemon: groups of tiles to published mosaics."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import structlog

from dsa110_contimg.artifacts.calibration import KnownSets
from dsa110_contimg.artifacts.mosaics import PublishedMosaic
from dsa110_contimg.artifacts.tiles import ConvertedTile, ConvertedTiles, ManualFlags
from dsa110_contimg.constants import DAY_S
from dsa110_contimg.durable import size_bytes
from dsa110_contimg.errors import BadInputError, LostHostError, NotYetError
from dsa110_contimg.executors.base import Executor
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.pipeline.orchestrator import PipelineOrchestrator, PipelineResult
from dsa110_contimg.registry import claims, manual_flags
from dsa110_contimg.registry.calibration_sets import known_sets
from dsa110_contimg.registry.claims import Claim
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.file_check import give_up
from dsa110_contimg.registry.groups import (
    earlier_are_finished,
    first_unsettled_tile,
    form_group,
    group_and_tiles,
    group_tiles_since,
    has_undecided_group,
    newest_group_start,
    next_waiting_group,
    tiles_since,
)
from dsa110_contimg.registry.models import Tile
from dsa110_contimg.registry.states import TileState
from dsa110_contimg.registry.tiles import converted_tile, find_tile
from dsa110_contimg.settings import Settings, pipeline_options
from dsa110_contimg.stages import graphs
from dsa110_contimg.streaming import bell, daemon, groups, housekeeping
from dsa110_contimg.streaming.alerts import Alerts
from dsa110_contimg.streaming.clock import ClockWatch
from dsa110_contimg.streaming.disk import DiskGuard
from dsa110_contimg.streaming.journal import GroupJournal
from dsa110_contimg.streaming.owed import OwedCrossmatches
from dsa110_contimg.streaming.sky import SkyKeeper
from dsa110_contimg.streaming.work import InFlight
from dsa110_contimg.telescope import DSA110, Telescope

log = structlog.get_logger()

_PROSPECTS = {
    TileState.CONVERTED: groups.Prospect.CONVERTED,
    TileState.REJECTED: groups.Prospect.NEVER,
    TileState.QUARANTINED: groups.Prospect.NEVER,
}


_CALIBRATED_OVER_RAW = 1.6
"""Size of a calibrated Measurement Set, which has weights of every sample, over a raw one's."""
_IMAGE_PLANES = 8
_LOOK_BACK_S = 600.0
_SETTLED_S, _BEFORE_S = 7 * DAY_S, DAY_S
"""Of tiles that came and were converted longer ago nothing new is to be expected."""


def _check_converted(rows: Sequence[Tile]) -> None:
    """A tile may be converted again after its group was formed."""
    for row in rows:
        if row.state in (TileState.REJECTED, TileState.QUARANTINED):
            raise BadInputError(f"its tile {row.id} is {row.state}: {row.reason}")
        if row.state != TileState.CONVERTED:
            raise NotYetError(f"its tile {row.id} is to be converted again first")
        if not row.ms_path:
            raise BadInputError(
                f"the Measurement Set of its tile {row.id} is gone; 'retry --convert {row.id}' "
                "makes it again while its sub-band files are there"
            )


def _tell_of_own_disk(cleared: "Future[int]") -> None:
    if (error := cleared.exception()) is not None:
        log.warning("a machine's own disk was not cleared", reason=str(error))


class StreamingMosaicManager:
    """Forms mosaic groups and takes each through stages 2 to 9.

    Parameters
    ----------
    registry : Registry
    settings : Settings
    executor : Executor
        Does the computing; this process only decides and commits.
    telescope : Telescope
    once : bool
        Finish every complete group, then end.
    """

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        executor: Executor,
        telescope: Telescope = DSA110,
        once: bool = False,
    ):
        self._registry = registry
        self._settings = settings
        self._executor = executor
        self._telescope = telescope
        self._once = once
        self._options = pipeline_options(settings)
        self._threads = ThreadPoolExecutor(settings.parallel_groups, "group")
        self._disk = DiskGuard(registry, settings.root, settings)
        self._in_flight = InFlight[PipelineResult](registry, settings, self._disk)
        # Walking and removing trees takes long; claims and groups must not wait for it.
        self._cleaner = ThreadPoolExecutor(1, "housekeeping")
        self._cleaning: Future[None] | None = None
        self._cleaned: float | None = None
        self._looked: float | None = None
        self._clock = ClockWatch(registry, settings)
        self._alerts = Alerts(registry, settings)
        self.stop = daemon.Stop()
        self._owed = OwedCrossmatches(
            registry, settings, self._options.crossmatch, executor, self.stop.wake
        )
        self._sky = SkyKeeper(registry, settings, executor, self.stop.wake)
        self.finished: list[PublishedMosaic] = []

    @property
    def n_failed(self) -> int:
        """Pieces of work that failed since the start."""
        return self._in_flight.n_failed

    def get_next_complete_groups(
        self, n_ms: int = 10, sliding_window: bool = True
    ) -> list[list[str]]:
        """Tile ids of the groups that can be formed now, in order of time."""
        return self._complete_groups(n_ms, sliding_window, since=0.0)

    def _complete_groups(self, n_ms: int, sliding_window: bool, since: float) -> list[list[str]]:
        """The same of tiles observed since some moment, at which a group began."""
        with self._registry.read() as session:
            tiles = [
                groups.GroupableTile(
                    row.id,
                    row.start,
                    row.apparent_dec_deg,
                    _PROSPECTS.get(row.state, groups.Prospect.PENDING),
                    row.last_arrival,
                )
                for row in tiles_since(session, since)
            ]
            formed = group_tiles_since(session, since)
        return groups.next_complete_groups(
            tiles,
            formed,
            n_ms=n_ms,
            sliding_window=sliding_window,
            overlap=self._settings.group_overlap,
            max_gap_s=self._settings.max_gap_s,
            min_tiles=self._settings.min_group_tiles,
            quiet_since=time.time() - self._settings.leftover_s,
        )

    def cycle(self) -> bool:
        """One pass: form groups, submit, commit; True while there is work."""
        self._in_flight.collect(self._commit)
        self._clock.look()
        self._alerts.look()
        for tile_ids in self._complete_groups(self._settings.group_size, True, self._horizon()):
            self._form(tile_ids)
        self._owed.look({claim.id for claim in self._in_flight.claims})
        self._sky.look()
        self._keep_house()
        while len(self._in_flight) < self._settings.parallel_groups and not self.stop:
            need = self._next_bytes()
            if not self._disk.room_for(need * (1 + len(self._in_flight))):
                break
            claim = claims.claim_next(
                self._registry,
                claims.GROUPS,
                daemon.owner_name(),
                self._settings.lease_s,
                self._settings.newest_first_behind_s,
            )
            if claim is None:
                break
            future = self._threads.submit(self._process, claim)
            self._in_flight.add(claim, future, need)
            future.add_done_callback(lambda _: self.stop.wake())
        busy = len(self._in_flight) + len(self._owed) + len(self._sky)
        return busy > 0 or self._waiting()

    def _horizon(self) -> float:
        """From when on tiles are looked at: the newest group, and now and then all that may change.

        A year has a hundred thousand tiles, and what an old one may still bring can wait.
        """
        now = time.monotonic()
        latest = None
        if self._once or self._looked is None or now - self._looked >= _LOOK_BACK_S:
            self._looked = now
            with self._registry.read() as session:
                first = first_unsettled_tile(session, time.time() - _SETTLED_S)
            # A group's start: whoever began in the middle of one would not know its tiles.
            latest = (first or 0.0) - _BEFORE_S
        with self._registry.read() as session:
            return newest_group_start(session, latest) or 0.0

    def _keep_house(self) -> None:
        now, every_s = time.monotonic(), self._settings.housekeeping_interval_s
        if self._cleaned is None:
            self._cleaned = now
        elif now - self._cleaned >= every_s and (self._cleaning is None or self._cleaning.done()):
            self._cleaned = now
            self._cleaning = self._cleaner.submit(self._clean)

    def _clean(self) -> None:
        try:
            self._remove()
        except Exception:
            log.exception("housekeeping failed; next try in the next round")

    def _remove(self) -> None:
        removals = housekeeping.find(self._registry, self._settings)
        total = housekeeping.remove(self._registry, self._settings, removals)
        own_disks = self._executor.own_disks
        for clearing in housekeeping.clearings(self._registry, self._settings, own_disks):
            cleared = self._executor.submit(clearing.function, **clearing.arguments)
            cleared.add_done_callback(_tell_of_own_disk)
        log.info("housekeeping", removed=len(removals), gigabytes=round(total / 1e9, 2))

    def _next_bytes(self) -> float:
        """What the next group will write: calibrated Measurement Sets and images."""
        with self._registry.read() as session:
            group = next_waiting_group(session)
            first = find_tile(session, group.tile_ids[0]) if group is not None else None
        if group is None:
            return 0.0
        path = first.ms_path if first is not None else ""
        raw = size_bytes(Path(path)) * _CALIBRATED_OVER_RAW if path else 0.0
        image = _IMAGE_PLANES * 4 * self._options.image.size**2
        return len(group.tile_ids) * (raw + image)

    def _waiting(self) -> bool:
        """True if a group waits for earlier ones."""
        with self._registry.read() as session:
            return has_undecided_group(session)

    def _form(self, tile_ids: list[str]) -> None:
        with self._registry.write() as session:
            formed = form_group(session, tile_ids)
        if not formed:
            return
        log.info("group formed", group=tile_ids[0], tiles=len(tile_ids))

    def _process(self, claim: Claim) -> PipelineResult:
        """Stages 2 to 9 of one group, in a thread that only waits for the executor."""
        with self._registry.read() as session:
            group, rows = group_and_tiles(session, claim.id)
            _check_converted(rows)
            first, last = rows[0], rows[-1]
            by_hand = manual_flags.during(
                session, first.start, last.start + self._telescope.tile_length_s
            )
            # Whoever wants the newest first cannot wait for what is older.
            newest_first = self._settings.newest_first_behind_s is not None
            known = KnownSets(
                known_sets(session, first.start),
                complete=newest_first or earlier_are_finished(session, group),
            )
        tiles = tuple(map(converted_tile, rows))
        context = PipelineContext(
            root=self._settings.root,
            inputs=(ConvertedTiles(tiles), known, ManualFlags(tuple(by_hand))),
            executor=self._executor,
            journal=GroupJournal(self._registry, claim.id),
            own_disks=True,
            progress=lambda stage, fraction, message: log.info(
                message, group=claim.id, stage=stage
            ),
        )
        stages = graphs.from_measurement_sets(self._options, self._registry, claim)
        result = PipelineOrchestrator(stages).run(context)
        if isinstance(result.error, LostHostError):
            self._give_up(claim, tiles, result.error)
        # Cross-matching is optional: once the mosaic is published the group is done.
        return result if result.get(PublishedMosaic) else result.raise_on_failure()

    def _give_up(self, claim: Claim, tiles: Sequence[ConvertedTile], error: LostHostError) -> None:
        """What was lost with a machine, or with its disk, is made again."""
        lost = [
            tile for tile in tiles if tile.host == error.host and error.path in (None, tile.ms_path)
        ]
        # Its steps may name files there.
        GroupJournal(self._registry, claim.id).clear()
        count = give_up(self._registry, lost)
        raise NotYetError(f"{error}; {count} tiles are converted again")

    def _commit(self, claim: Claim, result: PipelineResult) -> None:
        """The publishing stage has committed the group; say what became of it."""
        published = result[PublishedMosaic]
        GroupJournal(self._registry, claim.id).clear()
        if result.error is not None:
            # It stays owed and is tried again.
            self._registry.record_event(claim.id, f"cross-match failed: {result.error}", "error")
        self.finished.append(published)
        log.info(
            "mosaic published" if published.published else "mosaic held",
            group=claim.id,
            mosaic=str(published.path),
            reason=published.reason,
        )

    def run(self) -> None:
        """Cycle until stopped, or with `once` until every complete group is finished."""
        self._in_flight.take_back(claims.GROUPS)
        self.stop.listen(bell.listen(self._settings.root))
        try:
            daemon.run(self.cycle, self.stop, self._settings.mosaic_interval_s, self._once)
        finally:
            self.stop.close()
            self._in_flight.release()
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._cleaner.shutdown(wait=True, cancel_futures=True)
            self._owed.close()
            self._alerts.close()

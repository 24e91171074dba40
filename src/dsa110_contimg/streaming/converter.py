"""The first daemon: sub-band files to Measurement Sets."""

import time
from pathlib import Path

import structlog

from dsa110_contimg import records
from dsa110_contimg.artifacts.tiles import ConvertedTile
from dsa110_contimg.errors import UsageError
from dsa110_contimg.executors.base import Executor
from dsa110_contimg.executors.fresh import fresh_path
from dsa110_contimg.executors.inline import InlineExecutor
from dsa110_contimg.registry import claims
from dsa110_contimg.registry.claims import Claim
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.states import TileState
from dsa110_contimg.settings import Settings, pipeline_options
from dsa110_contimg.streaming import bell, daemon, ingest
from dsa110_contimg.streaming.alerts import Alerts
from dsa110_contimg.streaming.clock import ClockWatch
from dsa110_contimg.streaming.disk import DiskGuard
from dsa110_contimg.streaming.headers import HeaderReader
from dsa110_contimg.streaming.work import InFlight
from dsa110_contimg.tasks.conversion import convert
from dsa110_contimg.telescope import DSA110, Telescope

log = structlog.get_logger()


class StreamingConverter:
    """Watches a directory and converts each complete observation.

    Parameters
    ----------
    input_dir, output_dir : Path
    registry : Registry
    settings : Settings
    executor : Executor
    telescope : Telescope
    once : bool
        Treat the input as final: what has not arrived counts as absent, without a grace time.
    header_executor : Executor, optional
        Reads headers; default: this process, which a damaged file may then hold up.
    """

    def __init__(
        self,
        input_dir: Path,
        output_dir: Path,
        registry: Registry,
        settings: Settings,
        executor: Executor,
        telescope: Telescope = DSA110,
        once: bool = False,
        header_executor: Executor | None = None,
    ):
        self._input_dir = input_dir
        self._output_dir = output_dir
        self._registry = registry
        self._settings = settings
        self._executor = executor
        self._telescope = telescope
        self._once = once
        self._options = pipeline_options(settings).convert
        self._read_headers = HeaderReader(header_executor or InlineExecutor(), telescope)
        self._watch = ingest.Watch(registry, input_dir)
        self._disk = DiskGuard(registry, output_dir, settings)
        self._in_flight = InFlight[ConvertedTile](registry, settings, self._disk)
        self._clock = ClockWatch(registry, settings)
        self._alerts = Alerts(registry, settings)
        self.stop = daemon.Stop()
        if not input_dir.is_dir():
            raise UsageError(f"{input_dir}: is not a directory; give the right --input-dir")
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{output_dir}: cannot be made ({error.strerror}); give another --output-dir"
            ) from error

    @property
    def n_failed(self) -> int:
        """Pieces of work that failed since the start."""
        return self._in_flight.n_failed

    def cycle(self) -> bool:
        """One pass: look, decide, submit, commit; True while there is work."""
        settings = self._settings
        self._in_flight.collect(self._commit)
        self._clock.look()
        self._alerts.look()
        new = self._watch.new_files(0.0 if self._once else settings.settle_s)
        if new:
            count = ingest.register(
                self._registry, new, self._read_headers, settings.grace_s, self._once
            )
            log.info("files registered", new=len(new), registered=count)
        ingest.decide(
            self._registry,
            self._telescope,
            self._options.min_subbands,
            settings.grace_s,
            self._once,
        )
        while len(self._in_flight) < self._executor.capacity and not self.stop:
            # What runs already has yet to write its own.
            need = ingest.next_bytes(self._registry)
            if not self._disk.room_for(need * (1 + len(self._in_flight))):
                break
            claim = claims.claim_next(
                self._registry,
                claims.TILES,
                daemon.owner_name(),
                settings.lease_s,
                settings.newest_first_behind_s,
            )
            if claim is None:
                break
            future = self._executor.submit(
                convert,
                files=ingest.files_of(self._registry, claim.id),
                output=fresh_path(
                    self._output_dir, claim.id, ".ms", own_disk_of=self._settings.root
                ),
                telescope=self._telescope,
                options=self._options,
            )
            self._in_flight.add(claim, future, need)
            future.add_done_callback(lambda _: self.stop.wake())
        # Without a worker nothing can be claimed, and so nothing is known to be done.
        return len(self._in_flight) > 0 or not self._executor.capacity

    def _commit(self, claim: Claim, tile: ConvertedTile) -> None:
        with self._registry.write() as session:
            claims.change(
                session,
                claim,
                state=TileState.CONVERTED,
                ms_path=str(tile.ms_path),
                ms_host=tile.host,
                owner="",
                lease_until=0.0,
                reason="",
                converted=records.to_json(tile),
                converted_at=time.time(),
            )
        bell.ring(self._settings.root)
        for warning in tile.warnings:
            self._registry.record_event(claim.id, warning, "warning")
        log.info(
            "tile converted",
            tile=claim.id,
            subbands=tile.n_subbands,
            absent=list(tile.absent_subbands),
            dead_antennas=list(tile.dead_antennas),
            ms=str(tile.ms_path),
            host=tile.host or None,
        )

    def run(self) -> None:
        """Cycle until stopped, or with `once` until everything there is converted."""
        self._in_flight.take_back(claims.TILES)
        try:
            daemon.run(self.cycle, self.stop, self._settings.poll_interval_s, self._once)
        finally:
            self._in_flight.release()
            self._alerts.close()

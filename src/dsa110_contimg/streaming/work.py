"""Claimed work in flight: heartbeats while it runs, and what to do when it comes back."""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Generic, TypeVar

import structlog

from dsa110_contimg.errors import ContimgError, OutageError, RetryableError, StaleClaimError
from dsa110_contimg.registry import claims
from dsa110_contimg.registry.claims import Claim, Kind
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.settings import Settings
from dsa110_contimg.streaming import daemon
from dsa110_contimg.streaming.disk import DiskGuard

log = structlog.get_logger()

Result = TypeVar("Result")


class InFlight(Generic[Result]):
    """Futures with the claims they run under.

    Parameters
    ----------
    registry : Registry
    settings : Settings
        Lease and retry rules.
    disk : DiskGuard
        Where the work writes: what fails while that is full is a pause, not a failure.
    """

    def __init__(self, registry: Registry, settings: Settings, disk: DiskGuard):
        self._registry = registry
        self._settings = settings
        self._disk = disk
        self._work: dict[Claim, Future[Result]] = {}
        self._need_bytes: dict[Claim, float] = {}
        self._beat_at = 0.0
        self.n_failed = 0

    def __len__(self) -> int:
        return len(self._work)

    @property
    def claims(self) -> list[Claim]:
        """Claims of the work that runs."""
        return list(self._work)

    def take_back(self, kind: Kind) -> None:
        """At the start: what dead processes of this machine left need not wait for its lease."""
        for row_id in claims.take_back(self._registry, kind, daemon.is_dead):
            log.info("left by a process that is gone, taken back", id=row_id)

    def add(self, claim: Claim, future: "Future[Result]", need_bytes: float) -> None:
        """Watch over a future, whose work writes so much."""
        self._work[claim] = future
        self._need_bytes[claim] = need_bytes

    def collect(self, commit: Callable[[Claim, Result], None]) -> int:
        """Commit what is finished, record what failed, prolong the rest.

        Parameters
        ----------
        commit : callable
            Called with claim and result; may raise StaleClaimError.

        Returns
        -------
        int
            Pieces of work that came back.
        """
        done = [claim for claim, future in self._work.items() if future.done()]
        outage: OutageError | None = None
        for claim in done:
            try:
                self._finish(claim, self._work[claim], commit)
            except StaleClaimError as error:
                log.warning("result thrown away", id=claim.id, reason=str(error))
            except OutageError as error:
                # It stays, for the next cycle to record.
                outage = error
                continue
            except Exception as error:
                log.exception("result cannot be recorded", id=claim.id)
                self._give_up(claim, error)
            self._forget(claim)
        self._heartbeat()
        if outage is not None:
            raise outage
        return len(done)

    def _give_up(self, claim: Claim, error: Exception) -> None:
        """Count as a failure what came back and could not be recorded."""
        with contextlib.suppress(StaleClaimError):
            claims.fail(
                self._registry,
                claim,
                RetryableError(f"its result cannot be recorded: {type(error).__name__}: {error}"),
                self._settings.max_attempts,
                self._settings.retry_delay_s,
            )

    def _finish(
        self, claim: Claim, future: "Future[Result]", commit: Callable[[Claim, Result], None]
    ) -> None:
        error = future.exception()
        if isinstance(error, CancelledError | StaleClaimError):
            raise StaleClaimError(str(error))
        if isinstance(error, Exception):
            pause = isinstance(error, OutageError) or self._disk.is_short(self._need_bytes[claim])
            state = claims.fail(
                self._registry,
                claim,
                error,
                self._settings.max_attempts,
                self._settings.retry_delay_s,
                pause=pause,
            )
            self.n_failed += 1
            self._registry.record_event(claim.id, f"{state}: {error}", "error")
            unforeseen = None if isinstance(error, ContimgError) else error
            log.error(
                "work failed", id=claim.id, state=state, error=str(error), exc_info=unforeseen
            )
            return
        commit(claim, future.result())

    def _heartbeat(self) -> None:
        if time.monotonic() - self._beat_at < self._settings.lease_s / 4:
            return
        self._beat_at = time.monotonic()
        for claim in list(self._work):
            try:
                claims.heartbeat(self._registry, claim, self._settings.lease_s)
            except StaleClaimError as error:
                log.warning("claim lost", id=claim.id, reason=str(error))
                self._work[claim].cancel()
                self._forget(claim)

    def _forget(self, claim: Claim) -> None:
        del self._work[claim], self._need_bytes[claim]

    def release(self) -> None:
        """Give everything back on a clean stop, so that the next start need not wait."""
        for claim, future in self._work.items():
            future.cancel()
            try:
                claims.release(self._registry, claim)
            except StaleClaimError:
                continue
        self._work.clear()
        self._need_bytes.clear()

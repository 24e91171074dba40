"""Both daemons over a small simulated run, for programs that disturb them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import func, select

from dsa110_contimg import settings as settings_module
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import MosaicGroup, Product, Tile
from dsa110_contimg.registry.states import GroupState, TileState
from dsa110_contimg.simulation import hour
from dsa110_contimg.sky import catalogues

PROGRAMS = Path(sys.executable).parent
CONVERT, MOSAIC = "dsa110-contimg-convert-stream", "dsa110-contimg-streaming-mosaic"
_SETTINGS: dict[str, object] = {
    "sky_catalog": "known",
    "workers": 2,
    "lease_s": 20.0,
    "retry_delay_s": 1.0,
    "poll_interval_s": 0.5,
    "settle_s": 0.5,
    "grace_s": 20.0,
    "mosaic_interval_s": 1.0,
    "group_size": 5,
    "group_overlap": 1,
    "leftover_s": 60.0,
    "keep_leftovers_h": 0.0,
    "disk_stop_gb": 0.0,
    "disk_resume_gb": 0.0,
}
_TABLES = """
[image]
size = 512
"""
_FINISHED_TILES = (TileState.CONVERTED, TileState.REJECTED, TileState.QUARANTINED)
_FINISHED_GROUPS = (GroupState.PUBLISHED, GroupState.HELD, GroupState.QUARANTINED)


def simulate(directory: Path, tiles: int, antennas: int = 24) -> tuple[hour.Run, list[list[Path]]]:
    """Small observations, and their files."""
    directory.mkdir(parents=True, exist_ok=True)
    options = hour.RunOptions(
        groups=tiles, antennas=antennas, channels=1, integrations=8, seed=5, rfi=0.0
    )
    run = hour.prepare(options)
    return run, [run.write(directory, number) for number in range(tiles)]


@dataclass
class Installation:
    """A root with its daemons.

    Attributes
    ----------
    root, incoming : Path
    running : dict of str to Popen
        Daemons by the name of their program.
    """

    root: Path
    incoming: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(
        cls, directory: Path, run: hour.Run, tables: str = _TABLES, **more: object
    ) -> "Installation":
        """A new root that knows the run's sky, with other settings than the usual ones."""
        root, incoming = directory / "root", directory / "incoming"
        root.mkdir(parents=True)
        incoming.mkdir()
        lines = [f"{name} = {json.dumps(value)}" for name, value in {**_SETTINGS, **more}.items()]
        (root / "contimg.toml").write_text("\n".join([*lines, tables]))
        catalogues.save(root, run.sky.catalogue("known"))
        return cls(root, incoming)

    def settings(self) -> settings_module.Settings:
        """What holds here."""
        return settings_module.load(root=self.root)

    @contextmanager
    def registry(self) -> Iterator[Registry]:
        """The database, opened for a moment."""
        registry = Registry.of(self.settings())
        try:
            yield registry
        finally:
            registry.close()

    def start(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        """Start a daemon; its log grows in the root."""
        arguments = {
            CONVERT: ["--input-dir", str(self.incoming), "--output-dir", str(self.root / "ms")],
            MOSAIC: ["--loop"],
        }[name]
        with (self.root / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [PROGRAMS / name, *arguments, "--root", str(self.root), *options],
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
            )
        self.running[name] = process
        return process

    def stop(self) -> None:
        """End what runs, kindly first."""
        for process in self.running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running.clear()

    def tile_states(self) -> dict[str, int]:
        """Tiles by state."""
        return self._states(Tile)

    def group_states(self) -> dict[str, int]:
        """Groups by state."""
        return self._states(MosaicGroup)

    def reasons(self) -> list[str]:
        """Why groups are held or quarantined."""
        with self.registry() as registry, registry.read() as session:
            query = select(MosaicGroup.id, MosaicGroup.state, MosaicGroup.reason)
            return [
                f"{group} {state}: {reason}"
                for group, state, reason in session.execute(query)
                if state not in ("published", "ready", "processing")
            ]

    def _states(self, table: type[Tile] | type[MosaicGroup]) -> dict[str, int]:
        with self.registry() as registry, registry.read() as session:
            rows = session.execute(select(table.state, func.count()).group_by(table.state))
            return {str(state): int(count) for state, count in rows}

    def is_finished(self, tiles: int, last_group_start: float) -> bool:
        """True when so many tiles are decided, the last group exists, and all groups are done."""
        states, groups = self.tile_states(), self.group_states()
        if sum(states.get(state, 0) for state in _FINISHED_TILES) < tiles:
            return False
        if sum(groups.values()) != sum(groups.get(state, 0) for state in _FINISHED_GROUPS):
            return False
        with self.registry() as registry, registry.read() as session:
            members = [
                tile
                for ids in session.scalars(select(MosaicGroup.tile_ids).order_by(MosaicGroup.start))
                for tile in ids
            ]
            starts = session.scalars(select(Tile.start).where(Tile.id.in_(members[-10:])))
            return max(starts, default=0.0) >= last_group_start - 1.0

    def products(self) -> dict[str, tuple[str, str]]:
        """Checksum and kind of each product, by file name."""
        with self.registry() as registry, registry.read() as session:
            return {
                Path(row.path).name: (row.sha256, row.kind)
                for row in session.scalars(select(Product))
            }


def children(pid: int) -> list[int]:
    """Processes that a process has started, and theirs."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found += [int(entry.name), *children(int(entry.name))]
    return found


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as free:
        free.bind((host, 0))
        number: int = free.getsockname()[1]
    return number


def until(condition: Callable[[], bool], seconds: float, every_s: float = 0.5) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not after {seconds:g} s")
        time.sleep(every_s)


def conclude(faults: list[str]) -> int:
    """Say what is wrong, and whether all holds; the exit status."""
    for fault in faults:
        print(f"WRONG: {fault}")
    print("failed" if faults else "all holds")
    return int(bool(faults))

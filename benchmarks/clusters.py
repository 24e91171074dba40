"""A scheduler and workers on this machine, each a program of its own that can be killed."""

import os
import signal
import socket
import subprocess
from pathlib import Path

from daemons import PROGRAMS, until

from dsa110_contimg import settings as settings_module


class Cluster:
    """A cluster of one root.

    Parameters
    ----------
    root : Path
        Its keys are there.
    environment : dict of str to str, optional
        Of its programs.
    """

    def __init__(self, root: Path, environment: dict[str, str] | None = None):
        self.root = root
        self.workers: list[subprocess.Popen[bytes]] = []
        self._environment = environment or {}
        self._scheduler: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]

    @property
    def address(self) -> str:
        """Of the scheduler; it stays the same when it is started again."""
        return f"tls://127.0.0.1:{self._port}"

    def start_scheduler(self) -> None:
        """Start it, and wait until it listens."""
        self._scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", str(self._port))
        until(self._listens, 60.0, 0.05)

    def start_worker(self, *options: str) -> "subprocess.Popen[bytes]":
        """Start one; it joins when it is ready."""
        worker = self._start("worker", "--scheduler", self.address, *options)
        self.workers.append(worker)
        return worker

    def kill_scheduler(self) -> None:
        """End it without a word."""
        assert self._scheduler is not None
        _kill(self._scheduler)

    def kill_worker(self, worker: "subprocess.Popen[bytes]") -> None:
        """End one without a word."""
        self.workers.remove(worker)
        _kill(worker)

    def close(self) -> None:
        """End everything."""
        for process in [*self.workers, self._scheduler]:
            if process is not None:
                _kill(process)

    def settings(self) -> settings_module.Settings:
        """Of programs that compute on it."""
        return settings_module.load(root=self.root, executor={"scheduler": self.address})

    def _start(self, program: str, *options: str) -> "subprocess.Popen[bytes]":
        with (self.root / f"{program}.log").open("ab") as log:
            return subprocess.Popen(
                [PROGRAMS / "dsa110-contimg", program, *options, "--root", str(self.root)],
                stdout=log, stderr=log, env={**os.environ, **self._environment},
            )  # fmt: skip

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


def _kill(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
        process.wait()

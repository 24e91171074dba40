"""`dsa110-contimg serve` as a real process."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import httpx

from daemons import free_port

SERVE = [str(Path(sys.executable).parent / "dsa110-contimg"), "serve"]


class Server:
    """A server of a root, on a port that stays its own.

    Parameters
    ----------
    root : Path
    *options : str
        Further options of `serve`.
    """

    def __init__(self, root: Path, *options: str):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._command = [*SERVE, "--port", str(port), "--root", str(root), *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(
            self._command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(os.environ),
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{self.url}/api/status", timeout=30)
            except httpx.TransportError:
                assert self._process.poll() is None, "the server ended"
                assert time.monotonic() < deadline
                time.sleep(0.1)
            else:
                return

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def kill(self) -> None:
        """End it without a warning."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

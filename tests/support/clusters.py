"""A scheduler and workers on this machine, each a program of its own that can be killed."""

import os
import signal
import socket
import subprocess
from pathlib import Path

from daemons import PROGRAMS, free_port, until
from dsa110_contimg import settings as settings_module


class Hosts:
    """Network namespaces joined by a bridge: each has an address and a name of its own.

    Needs root and iproute2.

    Parameters
    ----------
    count : int
    """

    def __init__(self, count: int):
        # Programs that make some at the same time must not meet.
        tag, network = f"ci{os.getpid()}", f"10.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 250}"
        self.gateway = f"{network}.1"
        self._bridge = tag
        self._names = [f"{tag}w{number}" for number in range(count)]
        self._ip("link", "add", tag, "type", "bridge")
        self._ip("addr", "add", f"{self.gateway}/24", "dev", tag)
        self._ip("link", "set", tag, "up")
        for number, name in enumerate(self._names):
            self._ip("netns", "add", name)
            self._ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            self._ip("link", "set", name, "master", tag, "up")
            self._ip("-n", name, "addr", "add", f"{network}.{number + 10}/24", "dev", "eth0")
            self._ip("-n", name, "link", "set", "eth0", "up")
            self._ip("-n", name, "link", "set", "lo", "up")

    def on(self, number: int) -> list[str]:
        """What to write before a command, to run it on a host."""
        name = self._names[number]
        return ["ip", "netns", "exec", name, *_named(name, [])]

    def close(self) -> None:
        """Take them away."""
        for name in self._names:
            self._ip("netns", "delete", name)
        self._ip("link", "delete", self._bridge)

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)


class Names:
    """Hosts that differ by name only."""

    gateway = "127.0.0.1"

    def on(self, number: int) -> list[str]:
        """What to write before a command, to run it on a host."""
        return _named(f"host{number}", [] if os.geteuid() == 0 else ["--user", "--map-root-user"])


def _named(name: str, more: list[str]) -> list[str]:
    return ["unshare", "--uts", *more, "sh", "-c", 'hostname "$0" && exec "$@"', name]


class Cluster:
    """A cluster of one root.

    Parameters
    ----------
    root : Path
        Its keys are there.
    environment : dict of str to str, optional
        Of its programs.
    hosts : Hosts or Names, optional
        Where its workers run; default: this host.
    """

    def __init__(
        self,
        root: Path,
        environment: dict[str, str] | None = None,
        hosts: Hosts | Names | None = None,
    ):
        self.root = root
        self.workers: list[subprocess.Popen[bytes]] = []
        self._environment = environment or {}
        self._hosts = hosts
        self._host = hosts.gateway if hosts else "127.0.0.1"
        self._scheduler: subprocess.Popen[bytes] | None = None
        self._port = free_port(self._host)

    @property
    def address(self) -> str:
        """Of the scheduler; it stays the same when it is started again."""
        return f"tls://{self._host}:{self._port}"

    def start_scheduler(self) -> None:
        """Start it, and wait until it listens."""
        where = "--host", self._host, "--port", str(self._port)
        self._scheduler = self._start([], "scheduler", *where)
        until(self._listens, 60.0, 0.05)

    def start_worker(self, *options: str) -> "subprocess.Popen[bytes]":
        """Start one; it joins when it is ready."""
        worker = self._worker(len(self.workers), options)
        self.workers.append(worker)
        return worker

    def replace_worker(self, number: int, *options: str) -> None:
        """End one without a word, and start another in its place."""
        _kill(self.workers[number])
        self.workers[number] = self._worker(number, options)

    @property
    def has_hosts(self) -> bool:
        """True if its workers run on hosts of their own."""
        return self._hosts is not None

    def kill_worker_at(self, number: int) -> None:
        """End one without a word; its place stays."""
        _kill(self.workers[number])

    def kill_worker(self, worker: "subprocess.Popen[bytes]") -> None:
        """End one without a word."""
        self.workers.remove(worker)
        _kill(worker)

    def kill_scheduler(self) -> None:
        """End it without a word."""
        assert self._scheduler is not None
        _kill(self._scheduler)

    def close(self) -> None:
        """End everything."""
        for process in [*self.workers, self._scheduler]:
            if process is not None:
                _kill(process)

    def settings(self) -> settings_module.Settings:
        """Of programs that compute on it."""
        return settings_module.load(root=self.root, executor={"scheduler": self.address})

    def _worker(self, number: int, options: tuple[str, ...]) -> "subprocess.Popen[bytes]":
        where = self._hosts.on(number) if self._hosts else []
        return self._start(where, "worker", "--scheduler", self.address, *options)

    def _start(self, where: list[str], program: str, *options: str) -> "subprocess.Popen[bytes]":
        with (self.root / f"{program}.log").open("ab") as log:
            return subprocess.Popen(
                [*where, PROGRAMS / "dsa110-contimg", program, *options, "--root", self.root],
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment},
            )

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self._host, self._port)) == 0


def _kill(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
        process.wait()

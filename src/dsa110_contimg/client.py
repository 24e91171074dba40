"""Use the REST interface from Python: `Client(url).submit("mosaic", name="mine").wait()`.

Needs nothing but the standard library; copy it where the pipeline is not installed.
"""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsa110_contimg.records import JsonObject

_ENDED = ("done", "failed", "cancelled")


class ClientError(Exception):
    """The server refused; `status` is its HTTP status, or 0 if there was no answer."""

    def __init__(self, status: int, detail: str):
        super().__init__(f"{detail} (HTTP {status})" if status else detail)
        self.status = status


class JobFailedError(Exception):
    """A job ended without a result."""


class Client:
    """A server.

    Parameters
    ----------
    url : str
    token : str, optional
        Made by `dsa110-contimg token create`; from the server's own machine none is needed.
    timeout_s : float
        Of one request; one that comes too soon after others is sent again until then.
    """

    def __init__(
        self, url: str = "http://localhost:8000", token: str | None = None, timeout_s: float = 60.0
    ):
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout_s = timeout_s

    def submit(self, kind: str, idempotency_key: str | None = None, **params: Any) -> "RemoteJob":
        """Queue a job.

        Parameters
        ----------
        kind : str
            convert, calibrate, apply, image, validate, crossmatch, mosaic, pipeline or reprocess.
        idempotency_key : str, optional
            The same key gives the same job.
        **params
            Of that type.

        Raises
        ------
        ClientError
            If a parameter is wrong or may not be.
        """
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        made = self.ask("POST", "/api/jobs/", {"type": kind, "params": params}, headers)
        return RemoteJob(self, int(made["id"]))

    def job(self, number: int) -> "RemoteJob":
        """A job that was submitted earlier."""
        return RemoteJob(self, number)

    def get(self, path: str, **query: Any) -> Any:
        """Whatever the interface tells: `get("/api/sources", ra=10, dec=16, radius=1)`."""
        given = {name: value for name, value in query.items() if value is not None}
        return self.ask("GET", f"{path}?{urllib.parse.urlencode(given)}" if given else path)

    def download(self, file: str, target: str | Path) -> Path:
        """Fetch a published file by its name."""
        return self.fetch(f"/api/files/{urllib.parse.quote(file)}", target)

    def fetch(self, path: str, target: str | Path) -> Path:
        """Write what the interface answers into a file."""
        target = Path(target)
        with self._open("GET", path) as answer, target.open("wb") as out:
            while block := answer.read(2**20):
                out.write(block)
        return target

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Any:
        """One request; the answer as Python values if it is JSON, as text, or as bytes.

        Raises
        ------
        ClientError
        """
        with self._open(method, path, body, headers) as answer:
            content = answer.read()
            kind = answer.headers.get_content_type()
            if kind == "application/json":
                return json.loads(content)
            return content.decode(errors="replace") if kind.startswith("text/") else content

    def _open(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._url + path, data, {**self._headers, **(headers or {})}, method=method
        )
        if data is not None:
            request.add_header("Content-Type", "application/json")
        until = time.monotonic() + self._timeout_s
        while True:
            try:
                return urllib.request.urlopen(request, timeout=self._timeout_s)
            except urllib.error.HTTPError as error:
                with error:
                    wait_s = _retry_after_s(error)
                    if wait_s is None or time.monotonic() + wait_s > until:
                        raise ClientError(error.code, _detail(error.read())) from error
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                reason = getattr(error, "reason", error)
                raise ClientError(0, f"{self._url} does not answer ({reason})") from error
            time.sleep(wait_s)


def _retry_after_s(error: urllib.error.HTTPError) -> float | None:
    """How long to wait where the server only asks to be asked less often."""
    given = error.headers.get("Retry-After", "")
    return float(given) if error.code == 429 and given.isdecimal() else None


def _detail(content: bytes) -> str:
    try:
        return str(json.loads(content)["detail"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace")[:200]


@dataclass(frozen=True)
class RemoteJob:
    """A job on a server.

    Attributes
    ----------
    client : Client
    id : int
    """

    client: Client
    id: int

    def status(self) -> "JsonObject":
        """How far it is."""
        return dict(self.client.get(f"/api/jobs/{self.id}/status"))

    def files(self) -> list[str]:
        """Names of the files that it made."""
        return [str(one["name"]) for one in self.client.get(f"/api/jobs/{self.id}/files")]

    def download(self, file: str, target: str | Path) -> Path:
        """Fetch one of them."""
        return self.client.fetch(f"/api/jobs/{self.id}/files/{urllib.parse.quote(file)}", target)

    def logs(self) -> str:
        """The end of what it printed."""
        return str(self.client.get(f"/api/jobs/{self.id}/logs"))

    def cancel(self) -> None:
        """Stop it, or take it out of the queue."""
        self.client.ask("DELETE", f"/api/jobs/{self.id}")

    def wait(self, timeout_s: float | None = None, every_s: float = 1.0) -> "JsonObject":
        """Wait for the end and return the result.

        Raises
        ------
        JobFailedError
            With the job's reason.
        TimeoutError
            If it has not ended by then; it goes on.
        """
        begin = time.monotonic()
        while (status := self.status())["status"] not in _ENDED:
            if timeout_s is not None and time.monotonic() - begin > timeout_s:
                raise TimeoutError(f"job {self.id} has not ended after {timeout_s:g} s")
            time.sleep(every_s)
        if status["status"] != "done":
            raise JobFailedError(f"job {self.id} {status['status']}: {status['error']}")
        return dict(self.client.get(f"/api/jobs/{self.id}")["result"])

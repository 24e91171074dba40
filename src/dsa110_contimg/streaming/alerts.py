"""Tell people when a rule is broken, and when it is over.

What is broken is a row of the database, so that two daemons tell once, and a restart does not tell
again. People are notified as soon as a row is committed; what was cut short is done by the next
look.
"""

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from dsa110_contimg.constants import DAY_S
from dsa110_contimg.registry import night
from dsa110_contimg.registry.alerts import end_alert, find_alert, keep_alert, mark_sent
from dsa110_contimg.registry.antennas import departing_antennas
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.events import record_event
from dsa110_contimg.registry.status import Pulse, pulse
from dsa110_contimg.settings import AlertRule, Settings

log = structlog.get_logger()

_PATIENCE_S = 30.0
_PASSED_ON = ("PATH", "HOME", "LANG", "TZ")


@dataclass(frozen=True)
class Message:
    """A notification.

    Attributes
    ----------
    rule : AlertRule
    state : str
        raised, again, over or summary.
    text : str
    since : float
        Unix seconds.
    """

    rule: AlertRule
    state: str
    text: str
    since: float


class Alerts:
    """Looks at the rules every so often.

    Parameters
    ----------
    registry : Registry
    settings : Settings
    """

    def __init__(self, registry: Registry, settings: Settings):
        self._registry = registry
        self._settings = settings
        self._looked: float | None = None
        # A webhook that hangs must not hold up the loop.
        self._threads = ThreadPoolExecutor(1, "alerts")
        self._telling: Future[None] | None = None

    def look(self) -> None:
        """Look at the rules if it is time to."""
        now = time.monotonic()
        if not self._settings.alerts or (self._telling and not self._telling.done()):
            return
        if self._looked is not None and now - self._looked < self._settings.alert_interval_s:
            return
        self._looked = now
        messages = due(self._registry, self._settings)
        if messages:
            self._telling = self._threads.submit(self._tell, messages)

    def _tell(self, messages: list[Message]) -> None:
        for message in messages:
            tell(self._registry, message)

    def close(self) -> None:
        """Wait for the notifications that are being sent."""
        self._threads.shutdown(wait=True)


def due(registry: Registry, settings: Settings, now: float | None = None) -> list[Message]:
    """Notifications that are due now; the rows are changed before they are returned."""
    now = time.time() if now is None else now
    measured, antennas = pulse(registry, settings.root), departing_antennas(registry)
    messages = []
    for rule in settings.alerts:
        with registry.write() as session:
            row = find_alert(session, rule.name)
            if rule.when == "night":
                moment = now // DAY_S * DAY_S + rule.limit * 3600
                if now < moment or (row is not None and row.since >= moment and row.notified):
                    continue
                state, since = "summary", moment
                text = night.summary(registry, moment - DAY_S, moment).text()
            else:
                text = _broken(rule, measured, antennas)
                if not text and row is None:
                    continue
                if not text:
                    assert row is not None
                    state, since, text = "over", row.since, f"over: {row.message}"
                elif row is None:
                    state, since = "raised", now
                elif not row.notified or now - row.notified >= rule.repeat_h * 3600:
                    state, since = "again" if row.notified else "raised", row.since
                else:
                    continue
            if (
                row is not None
                and row.since == since
                and not row.notified
                and now - since < _PATIENCE_S
            ):
                continue  # another daemon is telling it
            if state == "over":
                assert row is not None
                end_alert(session, row)
            else:
                keep_alert(session, rule.name, since, text)
            level = "info" if state in ("over", "summary") else "error"
            record_event(session, rule.name, text, level, at=now)
        messages.append(Message(rule, state, text, since))
    return messages


def _broken(rule: AlertRule, measured: Pulse, antennas: Sequence[str]) -> str:
    """What is wrong, or an empty text."""
    if rule.when == "disk_free_gb":
        if measured.disk_free_gb < rule.limit:
            return f"{measured.disk_free_gb:.1f} GB are free, less than {rule.limit:g}"
        return ""
    if rule.when == "failing":
        if measured.failing > rule.limit:
            return (
                f"{measured.failing} tiles and groups failed or are held, more than "
                f"{rule.limit:g}; see 'dsa110-contimg status'"
            )
        return ""
    if rule.when == "antennas":
        if len(antennas) > rule.limit:
            return (
                f"{len(antennas)} antennas of the newest tile have no signal or are not as in "
                f"their reference tile, more than {rule.limit:g}: {', '.join(antennas)}; see "
                "'dsa110-contimg antennas'"
            )
        return ""
    value = measured.data_age_s if rule.when == "data_age_s" else measured.lag_s
    if value is None or value <= rule.limit:
        return ""
    if rule.when == "data_age_s":
        return f"the newest tile was observed {value:.0f} s ago, more than {rule.limit:g} s"
    return f"{value:.0f} s of sky wait to be processed, more than {rule.limit:g} s"


def tell(registry: Registry, message: Message) -> None:
    """Run the rule's command and call its webhook; what fails is an event, not an error."""
    facts = {
        "name": message.rule.name,
        "state": message.state,
        "when": message.rule.when,
        "text": message.text,
        "since": datetime.fromtimestamp(message.since, UTC).isoformat(),
    }
    log.warning("alert", **facts)
    failures = []
    if message.rule.command:
        failures += _run(message.rule.command, facts)
    if message.rule.webhook:
        failures += _post(message.rule.webhook, facts)
    for failure in failures:
        registry.record_event(message.rule.name, failure, "error")
        log.error("alert could not be sent", name=message.rule.name, why=failure)
    if message.state != "over":
        with registry.write() as session:
            mark_sent(session, message.rule.name)


def _run(command: list[str], facts: dict[str, str]) -> list[str]:
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    # A zero byte cannot be in an environment.
    environment |= {f"CONTIMG_ALERT_{k.upper()}": v.replace("\0", "") for k, v in facts.items()}
    try:
        done = subprocess.run(
            command,
            env=environment,
            timeout=_PATIENCE_S,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"command {command[0]}: {error}"]
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-300:]
        return [f"command {command[0]}: exit status {done.returncode} {said}"]
    return []


def _post(url: str, facts: dict[str, str]) -> list[str]:
    request = urllib.request.Request(
        url, json.dumps(facts).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE_S / 3):
            return []
    except (OSError, ValueError) as error:
        return [f"webhook {url}: {error}"]

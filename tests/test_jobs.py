"""A server that is killed again and again loses no job and does none twice."""

from pathlib import Path

import job_chaos

from dsa110_contimg import settings as settings_module
from dsa110_contimg.registry.database import Registry


def test_of_fifty_jobs_only_those_that_ran_at_a_kill_are_failed_with_that_reason(
    streamed: Path,
) -> None:
    registry = Registry(settings_module.load(root=streamed).database)
    figures, faults = job_chaos.run(
        streamed, registry, jobs=50, kills=4, pace_s=6.0, parallel=2, seed=1
    )
    registry.close()
    assert faults == []
    assert figures["kills"] >= 2
    assert sum(figures["states"].values()) == 50

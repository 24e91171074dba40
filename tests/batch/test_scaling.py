"""How many tiles an hour more workers make, and what saturates first."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import scaling
from dsa110_contimg.cli.main import app


def test_bench_scale_measures_each_number_of_workers_and_leaves_nothing(tmp_path: Path) -> None:
    root, place = tmp_path / "root", tmp_path / "place"
    root.mkdir()
    done = CliRunner().invoke(
        app,
        [
            "bench",
            "scale",
            "--workers",
            "1,2",
            "--tiles",
            "1",
            "--antennas",
            "12",
            "--channels",
            "1",
            "--directory",
            str(place),
            "--root",
            str(root),
            "--json",
        ],
    )
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [(row["workers"], row["tiles"]) for row in rows] == [(1, 1), (2, 2)]
    assert all(row["tiles_per_hour"] > 0 and row["stage_s"]["image"] > 0 for row in rows)
    assert all(min(row["tile_gb"].values()) > 0 for row in rows)
    assert list(place.iterdir()) == []


def test_a_wrong_number_of_workers_is_told(tmp_path: Path) -> None:
    for given in ("0", "two", "1,,2"):
        done = CliRunner().invoke(
            app, ["bench", "scale", "--workers", given, "--root", str(tmp_path)]
        )
        assert done.exit_code != 0
        assert "whole numbers" in str(done.exception)


PLACE = scaling.Installation(
    "test",
    worker_s=10.0,
    coordinator_s=0.01,
    scheduler_s=0.001,
    gigabytes=1.0,
    storage_gb_s=100.0,
    network_gb_s=100.0,
)


def test_few_workers_are_what_limits() -> None:
    one, two = scaling.follow(PLACE, 1, 200), scaling.follow(PLACE, 2, 200)
    assert one["computing"] == pytest.approx(1.0, abs=0.01)
    assert two["tiles_per_hour"] == pytest.approx(2 * one["tiles_per_hour"], rel=0.01)
    assert one["tiles_per_hour"] == pytest.approx(3600 / 10.031, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "name", "rate"),
    [
        ({}, "coordinator", 360_000),
        ({"storage_gb_s": 10.0}, "storage", 36_000),
        ({"network_gb_s": 5.0}, "network", 18_000),
        ({"scheduler_s": 0.5}, "scheduler", 7_200),
    ],
)
def test_with_many_workers_the_slowest_shared_thing_limits(
    change: dict[str, float], name: str, rate: float
) -> None:
    found = scaling.follow(replace(PLACE, **change), 5000, 50_000)
    busiest = max(("coordinator", "scheduler", "storage", "network"), key=found.__getitem__)
    assert busiest == name
    assert found["tiles_per_hour"] == pytest.approx(rate, rel=0.03)

"""Whatever is asked of the interface, its answer is one that its description promises."""

from collections.abc import Callable
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from dsa110_contimg import settings as settings_module
from dsa110_contimg.api.app import create_app
from dsa110_contimg.api.limits import Receive, Scope, Send
from dsa110_contimg.registry import tokens
from dsa110_contimg.registry.database import Registry

_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
_TOKEN: list[str] = []


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> schemathesis.BaseSchema:
    root = tmp_path_factory.mktemp("openapi")
    (root / "state").mkdir()
    limits = {"api_requests_per_s": 1e6, "api_max_queued_jobs": 50}
    held = settings_module.load(root=root, **limits)
    registry = Registry.of(held)
    _TOKEN[:] = [tokens.create(registry, "robot", tokens.Scope.WRITE)]
    registry.close()
    app = create_app(held, require_token=True)

    async def without_life(scope: Scope, receive: Receive, send: Send) -> None:
        # Jobs are queued but never run, and no call begins a server of its own.
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await app(scope, receive, send)

    # Who may not read learns nothing of the interface either.
    bearer = {"Authorization": f"Bearer {_TOKEN[0]}"}
    schema = schemathesis.openapi.from_asgi("/openapi.json", without_life, headers=bearer)
    # What waits for a job's end has a test of its own.
    return schema.exclude(path_regex="/stream$")


_SOME = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def _each(
    described: schemathesis.BaseSchema, check: Callable[[schemathesis.Case], None]
) -> list[str]:
    """Ask every operation many things; returns the operations."""
    asked = []
    for found in described.get_all_operations():
        operation = found.ok()
        asked.append(operation.label)
        _SOME(given(operation.as_strategy())(check))()
    return asked


def test_every_answer_is_described(described: schemathesis.BaseSchema) -> None:
    def check(case: schemathesis.Case) -> None:
        answer = case.call(headers={"Authorization": f"Bearer {_TOKEN[0]}"})
        case.validate_response(answer, checks=_CHECKS)

    asked = _each(described, check)
    assert "POST /api/jobs/" in asked
    assert len(asked) > 15


def test_without_a_token_nothing_is_told(described: schemathesis.BaseSchema) -> None:
    def check(case: schemathesis.Case) -> None:
        answer = case.call()
        case.validate_response(answer, checks=_CHECKS)
        assert answer.status_code in (400, 401, 413, 422)

    _each(described, check)


def test_the_description_names_every_route_with_an_example_job(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    described = create_app(settings_module.load(root=tmp_path)).openapi()
    routes = {(method, path) for path, item in described["paths"].items() for method in item}
    for wanted in (
        ("post", "/api/jobs/"),
        ("get", "/api/jobs/{job_id}/status"),
        ("get", "/metrics"),
        ("get", "/api/sources/{source}/lightcurve"),
        ("get", "/api/mosaics/{name}/cutout"),
    ):
        assert wanted in routes
    body = described["components"]["schemas"]["JobRequest"]
    assert body["examples"][0]["type"] == "mosaic"

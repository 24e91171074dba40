"""The strip of a night, and the pages of a tile and of a mosaic group."""

import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import Depends, Query, Request, Response
from pydantic import BeforeValidator

from dsa110_contimg.api.security import may_read, may_write
from dsa110_contimg.artifacts.tiles import ImagedTile
from dsa110_contimg.constants import DAY_S
from dsa110_contimg.errors import UsageError
from dsa110_contimg.mosaicking.gates import TileFacts, strains
from dsa110_contimg.registry import claims
from dsa110_contimg.registry.groups import get_group, list_groups
from dsa110_contimg.registry.tiles import TileSummary, get_tile, newest_observation, tiles_of_night
from dsa110_contimg.settings import pipeline_options
from dsa110_contimg.telescope import DSA110, SAME_ICRS_STRIP_DEG
from dsa110_contimg.web import assets, charts, words
from dsa110_contimg.web.site import Form, needed, none_if_empty, page, page_router, to

if TYPE_CHECKING:
    from dsa110_contimg.reports.tile import TileHistory

router = page_router(dependencies=[Depends(may_read)])
GATES = ("noise", "dynamic range", "beam", "flux ratio", "astrometry", "stripes", "rings")


@router.get("/night")
def night(
    request: Request,
    day: Annotated[
        date | None,
        BeforeValidator(none_if_empty),
        Query(description="UTC; default: the newest tile's"),
    ] = None,
    by: Annotated[str, Query(pattern=f"^(state|{'|'.join(GATES)})$")] = "state",
) -> Response:
    """A day of tiles, coloured by state or by how near each is to a limit."""
    registry = request.app.state.registry
    if day is not None and not 1970 < day.year < 2100:
        raise UsageError("give a day between 1971 and 2099")
    if day is None:
        newest = newest_observation(registry)
        day = datetime.fromtimestamp(time.time() if newest is None else newest, UTC).date()
    since = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
    rows = tiles_of_night(registry, since, since + DAY_S)
    strain = _strains([made for _, made in rows if made])
    marks, counts = [], dict[str, int]()
    for row, _ in rows:
        tone, word = _judged(row, strain.get(row.id), by)
        counts[word] = counts.get(word, 0) + 1
        marks.append(
            (
                row.start,
                charts.Mark(
                    0.0, 0.0, tone, f"{row.id}: {word}", f"/tiles/{row.id}", DSA110.tile_length_s
                ),
            )
        )
    return page(
        request,
        "night.html",
        title=f"Night of {day}",
        day=day,
        by=by,
        gates=("state", *GATES),
        hours=charts.strip(marks, since, since + DAY_S),
        counts=counts,
        n_tiles=len(rows),
        earlier=_day(since - DAY_S),
        later=_day(since + DAY_S),
        tones={word: _tone_of(word, by) for word in counts},
    )


def _strains(images: Sequence[ImagedTile]) -> dict[str, dict[str, float]]:
    """How near tiles are to each limit, from the records of their images."""
    from dsa110_contimg.tasks.tile_selection import facts

    found: dict[str, dict[str, float]] = {}
    strips: dict[int, list[TileFacts]] = {}
    for image in images:
        tile = facts(image)
        strips.setdefault(round(tile.dec_deg / SAME_ICRS_STRIP_DEG / 2), []).append(tile)
    for strip in strips.values():
        found |= strains(strip)
    return found


def _day(unix_s: float) -> date:
    return datetime.fromtimestamp(unix_s, UTC).date()


_NEAR, _OVER, _UNKNOWN = "near the limit", "over the limit", "not imaged"


def _judged(row: TileSummary, strain: dict[str, float] | None, by: str) -> tuple[str, str]:
    """Colour and word of a tile."""
    if by == "state":
        return words.tone(row.state), str(row.state)
    value = math.nan if strain is None else strain.get(by, math.nan)
    word = (
        _UNKNOWN
        if not math.isfinite(value)
        else "passed"
        if value <= 0.6
        else _NEAR
        if value <= 1
        else _OVER
    )
    return _tone_of(word, by), word


def _tone_of(word: str, by: str) -> str:
    return (
        words.tone(word)
        if by == "state"
        else {_NEAR: "warn", _OVER: "bad"}.get(word, words.tone(word))
    )


@router.get("/tiles/{tile_id}")
def tile(tile_id: str, request: Request) -> Response:
    """Files, conversion, images, gates, events of one tile."""
    known = get_tile(request.app.state.registry, tile_id)
    images = known.images[::-1]
    found = _history_of(request, tile_id) if images else None
    return page(
        request,
        "tile.html",
        title=f"Tile {tile_id}",
        tile=known,
        images=images,
        found=found,
        strain=_strains(images[:1]).get(tile_id, {}),
    )


def _history_of(request: Request, tile_id: str) -> "TileHistory":
    from dsa110_contimg.reports.tile import history_of

    return history_of(request.app.state.registry, tile_id)


@router.get("/tiles/{tile_id}/report")
def report(tile_id: str, request: Request) -> Response:
    """The page of evidence, made now."""
    from dsa110_contimg.reports.tile import tile_report

    settings = request.app.state.settings
    content = tile_report(
        _history_of(request, tile_id), settings.root, pipeline_options(settings).validate
    )
    return assets.self_contained(content)


@router.get("/tiles/{tile_id}/{kind}.png")
def picture(tile_id: str, kind: Literal["image", "residual"], request: Request) -> Response:
    """Image or residual of a tile as a picture."""
    from dsa110_contimg.reports.tile import tile_picture

    tile = _history_of(request, tile_id).image
    content = assets.picture(tile.file(kind), kind, lambda _: tile_picture(tile, kind))
    return Response(content, media_type="image/png", headers=assets.ASK)


@router.get("/groups")
def groups(
    request: Request,
    state: Annotated[str | None, Query(max_length=16)] = None,
    before: float | None = None,
) -> Response:
    """Mosaic groups, the newest observation first."""
    found = list_groups(request.app.state.registry, state or None, before)
    return page(request, "groups.html", title="Mosaic groups", groups=found, state=state or "")


@router.get("/groups/{group_id}")
def group(group_id: str, request: Request) -> Response:
    """Tiles, stages, attempts and mosaics of one group."""
    known = get_group(request.app.state.registry, group_id)
    return page(request, "group.html", title=f"Mosaic group {group_id}", group=known)


@router.post("/tiles/{tile_id}", dependencies=[Depends(may_write)])
def change_tile(tile_id: str, request: Request, filled: Form) -> Response:
    """Try a tile again, convert it again, or set it aside."""
    if filled.get("action") == "convert":
        from dsa110_contimg.registry.file_check import convert_again

        convert_again(request.app.state.registry, tile_id)
    else:
        _change(request, claims.TILES, tile_id, filled)
    return to(f"/tiles/{tile_id}")


@router.post("/groups/{group_id}", dependencies=[Depends(may_write)])
def change_group(group_id: str, request: Request, filled: Form) -> Response:
    """Try a group again, or set it aside."""
    _change(request, claims.GROUPS, group_id, filled)
    return to(f"/groups/{group_id}")


def _change(request: Request, kind: claims.Kind, row_id: str, filled: Mapping[str, str]) -> None:
    registry = request.app.state.registry
    match needed(filled, "action"):
        case "retry":
            if not claims.retry(registry, kind, row_id):
                raise UsageError(f"{row_id}: is no failed, held or quarantined work")
        case "quarantine":
            claims.quarantine(registry, kind, row_id, needed(filled, "reason"))
        case other:
            raise UsageError(f"no action {other!r}")

"""Publish by hand what was held, and hold what was published."""

import time
from pathlib import Path

from dsa110_contimg import layout
from dsa110_contimg.artifacts.mosaics import MosaicImage, PublishedMosaic
from dsa110_contimg.errors import UsageError
from dsa110_contimg.products.publish import publish_file
from dsa110_contimg.registry import queries, records
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Event, GroupState, Mosaic, MosaicGroup, Product
from dsa110_contimg.reports.evidence import evidence_of
from dsa110_contimg.stages import light_curves
from dsa110_contimg.stages.publishing import publish_files, set_state


def publish_by_hand(registry: Registry, root: Path, name: str, reason: str) -> PublishedMosaic:
    """Publish a mosaic that was held; its cross-match is owed from then on.

    Parameters
    ----------
    registry : Registry
    root : Path
    name : str
    reason : str
        Kept with the decision.

    Raises
    ------
    UsageError
        If there is no such mosaic, or it is published already.
    """
    row = queries.mosaic(registry, name)
    if row["state"] == "published":
        raise UsageError(f"{name}: is published already")
    staged = Path(str(row["record"]["mosaic"]["path"]))
    target = layout.published_mosaics(root)
    rows = publish_files(registry, evidence_of(staged), name, target)
    with registry.write() as session:
        set_state(session, name, rows, published=True)
        group = session.get(MosaicGroup, row["group_id"])
        if group is not None and group.state == GroupState.HELD:
            group.state, group.reason = GroupState.PUBLISHED, f"by hand: {reason}"
        session.add(
            Event(
                at=time.time(),
                level="warning",
                subject=row["group_id"] or name,
                message=f"published {target / staged.name} by hand: {reason}",
            )
        )
    return PublishedMosaic.at(target / staged.name)


def hold_by_hand(registry: Registry, root: Path, name: str, reason: str) -> PublishedMosaic:
    """Take a published mosaic back: its files move out of the public directory.

    Its measurements leave the light curves.

    Parameters
    ----------
    registry : Registry
    root : Path
    name : str
    reason : str
        Kept with the decision.

    Raises
    ------
    UsageError
        If there is no such mosaic, or it is not published.
    """
    row = queries.mosaic(registry, name)
    if row["state"] != "published":
        raise UsageError(f"{name}: is {row['state']}, not published")
    withdrawn = layout.images(root) / f"{name}_withdrawn"
    public = [Path(product["path"]) for product in row["products"]]
    for path in public:
        publish_file(path, withdrawn / path.name)
    staged = withdrawn / f"{name}.fits"
    mosaic = records.from_json(MosaicImage, row["record"]["mosaic"])
    record = row["record"] | {"mosaic": row["record"]["mosaic"] | {"path": str(staged)}}
    with registry.write() as session:
        held = session.get_one(Mosaic, name)
        held.state, held.crossmatch, held.record = "held", "done", record
        group = session.get(MosaicGroup, row["group_id"])
        if group is not None and group.state == GroupState.PUBLISHED:
            group.state, group.reason = GroupState.HELD, f"by hand: {reason}"
        for product in row["products"]:
            session.delete(session.get_one(Product, product["path"]))
        touched = light_curves.withdraw(session, mosaic)
        session.add(
            Event(
                at=time.time(),
                level="warning",
                subject=row["group_id"] or name,
                message=f"held {staged} by hand: {reason}",
            )
        )
    light_curves.judge(registry, touched)
    # A crash here leaves files that no row names: `db check --files` puts them aside.
    for path in public:
        path.unlink(missing_ok=True)
    return PublishedMosaic.at(staged, False, reason)

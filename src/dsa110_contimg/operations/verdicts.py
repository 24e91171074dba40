"""Publish by hand what was held, and hold what was published."""

from pathlib import Path

from dsa110_contimg import layout
from dsa110_contimg.artifacts.mosaics import PublishedMosaic
from dsa110_contimg.errors import UsageError
from dsa110_contimg.light_curves.following import withdraw
from dsa110_contimg.light_curves.judging import judge
from dsa110_contimg.products.publish import publish_file
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.events import record_event
from dsa110_contimg.registry.groups import decide_by_hand
from dsa110_contimg.registry.mosaics import BY_HAND, get_mosaic, hold_mosaic, set_state
from dsa110_contimg.registry.products import publish_files
from dsa110_contimg.registry.states import GroupState, MosaicState
from dsa110_contimg.reports.evidence import evidence_of


def publish_by_hand(
    registry: Registry, root: Path, name: str, reason: str, person: str
) -> PublishedMosaic:
    """Publish a mosaic that was held; its cross-match is owed from then on.

    Parameters
    ----------
    registry : Registry
    root : Path
    name : str
    reason, person : str
        Kept with the decision.

    Raises
    ------
    UsageError
        If there is no such mosaic, or it is published already.
    """
    row = get_mosaic(registry, name)
    if row.state == MosaicState.PUBLISHED:
        raise UsageError(f"{name}: is published already")
    staged = row.record.mosaic.path
    target = layout.published_mosaics(root)
    rows = publish_files(registry, evidence_of(staged).files, name, target)
    with registry.write() as session:
        set_state(session, name, rows, published=True)
        decide_by_hand(session, row.group_id, GroupState.PUBLISHED, reason)
        message = f"published {target / staged.name} {BY_HAND} ({person}): {reason}"
        record_event(session, row.group_id or name, message, "warning")
    return PublishedMosaic.at(target / staged.name)


def hold_by_hand(
    registry: Registry, root: Path, name: str, reason: str, person: str
) -> PublishedMosaic:
    """Take a published mosaic back: its files move out of the public directory.

    Its measurements leave the light curves.

    Parameters
    ----------
    registry : Registry
    root : Path
    name : str
    reason, person : str
        Kept with the decision.

    Raises
    ------
    UsageError
        If there is no such mosaic, or it is not published.
    """
    row = get_mosaic(registry, name)
    if row.state != MosaicState.PUBLISHED:
        raise UsageError(f"{name}: is {row.state}, not published")
    withdrawn = layout.images(root) / f"{name}_withdrawn"
    public = [product.path for product in row.products]
    for path in public:
        publish_file(path, withdrawn / path.name)
    staged = withdrawn / f"{name}.fits"
    mosaic = row.record.mosaic
    with registry.write() as session:
        hold_mosaic(session, name, staged, public)
        decide_by_hand(session, row.group_id, GroupState.HELD, reason)
        touched = withdraw(session, mosaic)
        message = f"held {staged} {BY_HAND} ({person}): {reason}"
        record_event(session, row.group_id or name, message, "warning")
    judge(registry, touched)
    # A crash here leaves files that no row names: `db check --files` puts them aside.
    for path in public:
        path.unlink(missing_ok=True)
    return PublishedMosaic.at(staged, False, reason)

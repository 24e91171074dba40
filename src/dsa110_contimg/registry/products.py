"""Products: files under their public names."""

import time
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_contimg.products.publish import Published, publish_file
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Mosaic, Product
from dsa110_contimg.registry.states import MosaicState


def publish_files(
    registry: Registry, files: Iterable[tuple[str, Path]], name: str, target: Path
) -> list[Product]:
    """Copy files into a public directory.

    Parameters
    ----------
    registry : Registry
    files : iterable of (str, Path)
        Kind and path of each.
    name : str
        Mosaic that they belong to.
    target : Path
        Public directory.

    Returns
    -------
    list of Product
        Rows that are to be stored with `add_products`.
    """
    with registry.read() as session:
        known = set(session.scalars(select(Product.path).where(Product.name == name)))
    rows = []
    for kind, path in files:
        public = target / path.name
        checksum = publish_file(path, public, orphaned=str(public) not in known)
        rows.append(
            Product(
                path=str(public),
                kind=kind,
                name=name,
                sha256=checksum,
                size=public.stat().st_size,
                published=time.time(),
            )
        )
    return rows


def add_products(session: Session, rows: Iterable[Product]) -> None:
    """Store rows of products; those of the same path are replaced."""
    for row in rows:
        session.merge(row)


def published_mosaics(registry: Registry) -> dict[str, Published]:
    """File and checksum of each published mosaic by name."""
    with registry.read() as session:
        rows = session.execute(
            select(Product.name, Product.path, Product.sha256)
            .join(Mosaic, Mosaic.name == Product.name)
            .where(Product.kind == "mosaic", Mosaic.state == MosaicState.PUBLISHED)
        )
        return {name: Published(Path(path), sha256) for name, path, sha256 in rows}


def publication_mark(registry: Registry) -> tuple[int, float | None]:
    """Numbers that change with what is published: count of mosaics, time of the newest product."""
    count = select(func.count()).where(Mosaic.state == MosaicState.PUBLISHED)
    with registry.read() as session:
        newest = session.scalar(select(func.max(Product.published)))
        return session.scalar(count) or 0, newest


def provenance_of_groups(session: Session, group_ids: Iterable[str]) -> list[Path]:
    """Provenance files of the published mosaics of some mosaic groups."""
    names = session.scalars(select(Mosaic.name).where(Mosaic.group_id.in_(list(group_ids)))).all()
    wanted = Product.kind == "provenance", Product.name.in_(names)
    return [Path(path) for path in session.scalars(select(Product.path).where(*wanted))]


def files_of_mosaic(registry: Registry, name: str) -> dict[str, Path]:
    """Public files of a mosaic by kind."""
    wanted = Product.name.in_([name, f"{name}_sources"])
    with registry.read() as session:
        return {row.kind: Path(row.path) for row in session.scalars(select(Product).where(wanted))}


def products_of_file(registry: Registry, file: str) -> list[Path]:
    """Public paths of a file name."""
    ends = Product.path.endswith(f"/{file}", autoescape=True)
    with registry.read() as session:
        found = [Path(path) for path in session.scalars(select(Product.path).where(ends))]
    return [path for path in found if path.name == file]


def has_product(session: Session, kind: str) -> bool:
    """True if any product of a kind is published."""
    wanted = select(Product.path).where(Product.kind == kind).limit(1)
    return session.scalar(wanted) is not None

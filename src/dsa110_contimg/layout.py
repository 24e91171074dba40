"""Paths under the root of an installation."""

from pathlib import Path

ALL_SKY = "all_sky"
"""Name of the HiPS of all mosaics together, which no mosaic may have."""


def directories(root: Path) -> tuple[Path, ...]:
    """Directories that a new installation needs."""
    made = (state, catalogues, measurement_sets, calibration_sets, images, products)
    return tuple(directory(root) for directory in made)


def published(root: Path) -> tuple[Path, ...]:
    """Directories whose files are never replaced."""
    return published_mosaics(root), published_catalogues(root), hips(root)


def measurement_sets(root: Path) -> Path:
    """Directory of the Measurement Sets of tiles."""
    return root / "ms"


def calibration_sets(root: Path) -> Path:
    """Directory of the calibration sets."""
    return root / "caltables"


def images(root: Path) -> Path:
    """Directory of the images of tiles and of mosaics that are not published."""
    return root / "images"


def catalogues(root: Path) -> Path:
    """Directory of the imported catalogues."""
    return root / "catalogues"


def beams(root: Path) -> Path:
    """Directory of the stored primary beams."""
    return root / "beams"


def products(root: Path) -> Path:
    """Directory of everything that is published."""
    return root / "products"


def published_mosaics(root: Path) -> Path:
    """Directory of the published mosaics and their companions."""
    return products(root) / "mosaics"


def published_catalogues(root: Path) -> Path:
    """Directory of the published catalogues."""
    return products(root) / "catalogues"


def hips(root: Path) -> Path:
    """Directory of the HiPS of published mosaics."""
    return products(root) / "hips"


def state(root: Path) -> Path:
    """Directory of the database, locks, keys and logs."""
    return root / "state"


def database(root: Path) -> Path:
    """Path of the SQLite database."""
    return state(root) / "products.sqlite3"


def backups(root: Path) -> Path:
    """Directory of the backups of the database."""
    return state(root) / "backups"


def job_products(root: Path) -> Path:
    """Directory of what jobs made that were given no output."""
    return products(root) / "jobs"


def job_logs(root: Path) -> Path:
    """Directory of the output of jobs."""
    return state(root) / "jobs"


def queue_logs(root: Path) -> Path:
    """Directory of the output of workers that a batch system runs."""
    return state(root) / "queue"


def running_programs(root: Path) -> Path:
    """Directory of the locks of programs that are at work."""
    return state(root) / "at_work"


def cluster_keys(root: Path) -> Path:
    """Directory of the keys of the cluster."""
    return state(root) / "tls"


def compute_slots(root: Path) -> Path:
    """Directory of the locks of the compute slots of all machines."""
    return state(root) / "slots"

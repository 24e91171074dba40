"""Versions of what computes: they decide the last bits of every result."""

import platform
from importlib import metadata
from pathlib import Path

from dsa110_contimg import __version__

_PACKAGES = (
    "numpy",
    "numba",
    "scipy",
    "astropy",
    "astropy-iers-data",
    "pyerfa",
    "h5py",
    "ducc0",
    "radler",
    "aoflagger",
    "python-casacore",
    "bdsf",
    "pyarrow",
)


def versions() -> dict[str, str]:
    """Version of this program, of Python and of each library that a result depends on."""
    own = {"dsa110-contimg": __version__, "python": platform.python_version()}
    return own | {name: metadata.version(name) for name in _PACKAGES}


def processor() -> str:
    """Type of this machine's processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

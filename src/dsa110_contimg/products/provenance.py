"""Where a product came from: inputs with checksums, options, versions, machine."""

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from dsa110_contimg import __version__
from dsa110_contimg.products.publish import sha256

_PACKAGES = (
    "numpy", "numba", "scipy", "astropy", "astropy-iers-data", "pyerfa", "h5py", "ducc0", "radler",
    "aoflagger", "python-casacore", "bdsf", "pyarrow",
)  # fmt: skip


def software() -> dict[str, str]:
    """Versions of what computes, and the processor type."""
    versions = {"dsa110-contimg": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        versions[name] = metadata.version(name)
    versions["processor"] = _processor()
    return versions


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def record(inputs: Mapping[str, Path], options: Mapping[str, Any], **facts: Any) -> dict[str, Any]:
    """Provenance of one product.

    Parameters
    ----------
    inputs : mapping
        Name to path of each file that went in.
    options : mapping
        Options of each stage, as plain values.
    **facts
        Anything else worth keeping.
    """
    return {
        "inputs": {
            name: {"path": str(path), "sha256": sha256(path)} for name, path in inputs.items()
        },
        "options": dict(options),
        "software": software(),
        **facts,
    }

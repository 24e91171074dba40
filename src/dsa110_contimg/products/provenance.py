"""Where a product came from: inputs with checksums, options, versions, machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsa110_contimg.products.publish import sha256
from dsa110_contimg.records import JsonObject
from dsa110_contimg.software import processor, versions


def software() -> dict[str, str]:
    """Versions of what computes, and the processor type."""
    return {**versions(), "processor": processor()}


def record(inputs: Mapping[str, Path], options: Mapping[str, Any], **facts: Any) -> JsonObject:
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

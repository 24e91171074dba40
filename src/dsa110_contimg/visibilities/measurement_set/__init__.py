"""Measurement Sets (MeasurementSet 2.0 on disk) to and from plain arrays."""

from dsa110_contimg.visibilities.measurement_set.reading import (
    add_corrected_data,
    phase_centre_deg,
    read,
)
from dsa110_contimg.visibilities.measurement_set.writing import write

__all__ = ["add_corrected_data", "phase_centre_deg", "read", "write"]

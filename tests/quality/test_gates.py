"""What the noise of a mosaic is compared with."""

import pytest

from dsa110_contimg.quality import gates
from dsa110_contimg.quality.gates import Verdict
from dsa110_contimg.quality.options import GateOptions


@pytest.mark.parametrize(
    ("computed", "usual", "stated", "limit"),
    [
        (0.0003, 0.0005, 0.002, "at most 2 times 0.5 mJy/beam (median of the strip's published"),
        (0.0003, None, 0.002, "at most 2 times 2 mJy/beam (stated in the settings)"),
        (0.0003, None, None, "at most 10 times 0.3 mJy/beam (by antennas, time and band)"),
        (None, None, None, "at most 2 times 8 mJy/beam (tiles of DSA-110 that others published)"),
    ],
)
def test_noise_is_compared_with_the_best_that_is_known(
    computed: float | None, usual: float | None, stated: float | None, limit: str
) -> None:
    gate = gates.noise(0.00035, computed, usual, GateOptions(expected_rms_jy=stated))
    assert gate.limit.startswith(limit)
    assert gate.verdict is Verdict.PASSED
    assert ("1.17 times" in gate.note) == (computed is not None)


def test_noise_far_above_that_of_the_receivers_is_not_published() -> None:
    options = GateOptions()
    assert gates.noise(0.0031, 0.0003, None, options).verdict is Verdict.WARNING
    assert gates.noise(0.0046, 0.0003, None, options).verdict is Verdict.FAILED

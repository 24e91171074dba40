"""Sub-band files to a Measurement Set with pyuvdata, phased to a zenith: prints the seconds."""

import sys
import time
from pathlib import Path

from pyuvdata import UVData

files, output = sorted(Path(sys.argv[1]).glob("*.hdf5")), sys.argv[2]
begin = time.perf_counter()
parts = [
    UVData.from_file(str(path), file_type="uvh5", run_check=False, strict_uvw_antpos_check=False)
    for path in files
]
for part in parts:
    # The telescope's files hold single precision, which pyuvdata's own checks refuse.
    part.uvw_array = part.uvw_array.astype(float)
parts.sort(key=lambda part: part.freq_array.min())
whole = parts[0]
whole.fast_concat(parts[1:], axis="freq", inplace=True, run_check=False)
whole.write_ms(output, run_check=False, force_phase=True, clobber=True)
print(time.perf_counter() - begin)

"""CASA: bandpass, gaincal, applycal on a Measurement Set with a model; prints seconds of each."""

import json
import os
import sys
import time
from pathlib import Path

ms, work, reference = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
data = Path(sys.prefix) / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
site = work / "casasite.py"
measures = str(data / "casadata" / "__data__")
site.write_text(
    f"measurespath = {measures!r}\ndatapath = [{measures!r}]\n"
    "measures_auto_update = False\ndata_auto_update = False\nnologger = True\n"
)
os.environ["CASASITECONFIG"] = str(site)
os.chdir(work)

import casatasks  # noqa: E402 (CASA reads its configuration when it is imported)


def timed(task: str, **arguments: object) -> float:
    begin = time.perf_counter()
    getattr(casatasks, task)(vis=str(ms), **arguments)
    return time.perf_counter() - begin


seconds = {}
seconds["bandpass"] = timed(
    "bandpass", caltable="casa.b", solint="inf", combine="scan", refant=reference, minblperant=4
)
seconds["gaincal"] = timed(
    "gaincal", caltable="casa.g", solint="inf", combine="scan", refant=reference, gaintype="G",
    calmode="p", gaintable=["casa.b"], minblperant=4,
)  # fmt: skip
seconds["applycal"] = timed("applycal", gaintable=["casa.b", "casa.g"], flagbackup=False)
print("SECONDS " + json.dumps(seconds))

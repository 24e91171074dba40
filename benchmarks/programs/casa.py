"""Run CASA tasks: `casa.py FOLDER '[["task", {argument: value}], ...]'`; prints their seconds."""

import json
import os
import sys
import time
from pathlib import Path

work = Path(sys.argv[1])
packages = Path(sys.prefix) / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
measures = str(packages / "casadata" / "__data__")
site = work / "casasite.py"
site.write_text(
    f"measurespath = {measures!r}\ndatapath = [{measures!r}]\n"
    "measures_auto_update = False\ndata_auto_update = False\nnologger = True\n"
)
os.environ["CASASITECONFIG"] = str(site)
os.chdir(work)

import casatasks  # noqa: E402 (CASA reads its configuration when it is imported)

seconds = []
for task, arguments in json.loads(sys.argv[2]):
    begin = time.perf_counter()
    getattr(casatasks, task)(**arguments)
    seconds.append(time.perf_counter() - begin)
print("SECONDS " + json.dumps(seconds))

"""Brings Aladin Lite, which shows the sky in the dashboard, from npm into the package.

Without npm the package is made all the same; the dashboard then shows its plain picture.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "aladin-lite@3.8.2"
SHA256 = "bed9c8ef1d1e83501b1cb782366092c72c5ecd1c88f16fef3166188ae8062066"
HOME = Path("src/dsa110_contimg/web/static/vendor")
_PATIENCE_S = 120.0
_ODD = (LookupError, ValueError)


class CustomBuildHook(BuildHookInterface):
    """Runs before wheels and editable installations are made."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetch the script if it is not there."""
        home = Path(self.root) / HOME
        script = home / "aladin.js"
        if self.target_name != "wheel" or (script.exists() and _checksum(script) == SHA256):
            return
        try:
            content, licence = fetch()
        except (OSError, subprocess.SubprocessError, tarfile.TarError, *_ODD) as error:
            sys.stderr.write(f"{PACKAGE} is left out, the dashboard has a plain picture: {error}\n")
            return
        home.mkdir(parents=True, exist_ok=True)
        (home / "aladin-license.txt").write_bytes(licence)
        script.write_bytes(content)


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch() -> tuple[bytes, bytes]:
    """The script and its licence."""
    npm = shutil.which("npm")
    if npm is None:
        raise OSError("npm is not installed")
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(
            [npm, "pack", PACKAGE, "--json"],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=_PATIENCE_S,
        )
        with tarfile.open(Path(folder) / json.loads(packed.stdout)[0]["filename"]) as archive:
            files = [
                archive.extractfile(f"package/{name}") for name in ("dist/aladin.js", "LICENSE")
            ]
            content, licence = (file.read() if file is not None else b"" for file in files)
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise ValueError(f"its checksum is {found}")
    return content, licence

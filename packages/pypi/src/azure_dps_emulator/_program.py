"""Finds the program, which the wheel installs beside Python's other scripts."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

_NAME = "azure-dps-emulator"
_FILE = _NAME + (".exe" if sys.platform == "win32" else "")


def find_program() -> Path:
    """The path of the program. Raises an error that says what to do if it is not there."""
    for path in _candidates():
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"the package {_NAME} does not have its program; install it again from a wheel for this machine, "
        "or build the program from its sources and pass its path to start() as the option `program`"
    )


def _candidates() -> list[Path]:
    try:
        installed = files(_NAME) or []
    except PackageNotFoundError:
        installed = []
    found = [Path(file.locate()) for file in installed if file.name == _FILE]
    # `pip install --target` puts it here, and does not write that down.
    return [*found, Path(__file__).parent.parent / "bin" / _FILE]

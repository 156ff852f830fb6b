"""The pytest plugin: an emulator for each test, and its log in the report of a test that fails."""

from __future__ import annotations

from typing import Any, Generator

import pytest

from ._emulator import Emulator, start
from ._options import Options

_EMULATOR = pytest.StashKey[Emulator]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "dps_emulator(**options): options of the fixture dps_emulator, such as polls=2; "
        "they are those of azure_dps_emulator.start",
    )


@pytest.fixture(scope="session")
def dps_emulator_options() -> Options:
    """The options of all emulators of the fixture `dps_emulator`. Override it in conftest.py."""
    return {}


@pytest.fixture
def dps_emulator(
    request: pytest.FixtureRequest, dps_emulator_options: Options
) -> Generator[Emulator, None, None]:
    """An emulator of its own for each test, with the options of `dps_emulator_options` and of the markers
    `dps_emulator`."""
    options: Any = dict(dps_emulator_options)
    # The marker of a test comes first, and counts more than those of its class and its module.
    for marker in reversed(list(request.node.iter_markers("dps_emulator"))):
        options.update(marker.kwargs)
    with start(**options) as emulator:
        request.node.stash[_EMULATOR] = emulator
        yield emulator


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    outcome = yield
    report = outcome.get_result()
    emulator = item.stash.get(_EMULATOR, None)
    if report.when == "call" and report.failed and emulator and emulator.log:
        report.sections.append(("Log of azure-dps-emulator", "\n".join(emulator.log)))

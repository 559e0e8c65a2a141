"""What every test shares: the opt-in flags and one seed that is printed and can be given back."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from records_boxes import Box

OPT_IN = {
    "hardware": "needs a real device: run with --hardware",
    "slow": "takes minutes: run with --slow",
    "vm": "boots a virtual machine, a minute or two under emulation: make rig, then run with --vm",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    for marker, reason in OPT_IN.items():
        parser.addoption(f"--{marker}", action="store_true", help=f"also run tests that {reason.split(':')[0]}")
    parser.addoption("--cycles", type=int, default=None, help="with --vm: how often the camera is unplugged")
    parser.addoption("--seed", type=int, default=None, help="seed of the randomised tests; printed at the top")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.seed is None:
        config.option.seed = random.SystemRandom().randrange(2**32)


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.option.seed} (repeat with --seed)"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for marker, reason in OPT_IN.items():
            if marker in item.keywords and not config.getoption(f"--{marker}"):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The run's seed; a randomised test starts its own generator from it."""
    value: int = request.config.option.seed
    return value


@pytest.fixture
def box(tmp_path: Path) -> "Iterator[Box]":
    """Records that were set up, and are unlocked; imported here, as the browser is."""
    from records_boxes import new_box

    box = new_box(tmp_path / "records")
    yield box
    box.store.close()


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    """An empty stick; on the disk of the records, unlike a real one."""
    folder = tmp_path / "stick"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Debian's Chromium; imported here, so that tests without a screen do not pay for it."""
    from kiosk_browser import launch
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()

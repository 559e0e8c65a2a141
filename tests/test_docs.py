"""Guards: what the README says exists, and what exists the README says."""

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from appliance.cli import COMMAND_GROUP

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCUMENTS = sorted(path for path in ROOT.rglob("*.md") if not {".venv", "node_modules"} & set(path.parts))


def distribution(requirement: str) -> str:
    return re.split(r"[<>=~! \[;]", requirement, maxsplit=1)[0]


def test_every_dependency_has_its_line() -> None:
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"]]
    wanted += [line for name in ("cpu", "gpu", "records", "export", "reference") for line in extras[name]]
    assert [name for name in map(distribution, wanted) if f"`{name}`" not in README] == []


def test_the_runtime_list_stays_short() -> None:
    assert len(PROJECT["dependencies"]) <= 10


def test_every_command_has_its_line() -> None:
    commands = {point.name for point in entry_points(group=COMMAND_GROUP)}
    assert commands
    assert commands == set(re.findall(r"^\| `dermstation ([\w-]+)` \|", README, re.MULTILINE))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`?make ([a-z]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_package_list_is_complete() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for top in ("appliance", "export", "firmware_bridge", "web")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert listed == found

"""The command line finds its sub-commands by name and ends every known error with one sentence and its exit code."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from appliance import cli
from appliance.errors import BundleError


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "appliance", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_help_lists_every_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    for name in ("demo", "doctor", "engine", "export", "generate", "serve"):
        assert name in done.stdout
    assert "not installed" not in done.stdout


def test_an_unknown_command_is_a_usage_error() -> None:
    done = run("diagnose")
    assert done.returncode == 2
    assert "No such command 'diagnose'" in done.stderr


def test_a_known_error_is_one_sentence_and_its_exit_code(tmp_path: Path) -> None:
    done = run("generate", "--bundle", str(tmp_path / "absent"), "--prompt", "x")
    assert done.returncode == BundleError.exit_code
    assert done.stderr.startswith("dermstation: There is no model bundle at ")
    assert done.stderr.count("\n") == 1


def test_a_command_of_an_extra_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent:
        name, value = "serve", "absent.module:command"

        def load(self) -> click.Command:
            raise ModuleNotFoundError("No module named 'absent'", name="absent")

    monkeypatch.setattr(cli, "_entry_point", lambda _name: Absent())
    result = CliRunner().invoke(cli.dermstation, ["serve"])
    assert result.exit_code == 1
    assert "'serve' needs the package 'absent'" in result.output

"""A command that starts itself anew for memory in huge pages: once, as the same process, with the same arguments."""

import json
import os
import subprocess
import sys

import pytest

from appliance import huge_pages

SCRIPT = """
import json, os, sys
from appliance import huge_pages
print("before", flush=True)
huge_pages.start_anew()
print(json.dumps([sys.argv[1:], os.getpid(), os.environ["GLIBC_TUNABLES"]]))
"""
TUNED = "glibc.malloc.arena_max=2"


@pytest.mark.parametrize(
    ("given", "starts", "tunables"),
    [({}, 2, huge_pages.ENVIRONMENT["GLIBC_TUNABLES"]), ({"GLIBC_TUNABLES": TUNED}, 1, TUNED)],
    ids=["without", "a person's own are kept"],
)
def test_a_command_starts_anew_at_most_once(given: dict[str, str], starts: int, tunables: str) -> None:
    plain = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-c", SCRIPT, "--one", "two words"]
    with subprocess.Popen(command, env=plain | given, stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate()
    *before, last = output.splitlines()
    assert process.returncode == 0
    assert before == ["before"] * starts
    assert json.loads(last) == [["--one", "two words"], process.pid, tunables]

"""What is given back: pages of mapped files, there again when they are read, and heap that libraries have freed."""

import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from appliance.demo import bundle_path
from appliance.errors import BundleError
from appliance.medgemma.engine import MedGemma, RuntimeOptions
from appliance.medgemma.memory import MappedWeights

SIZE = 8 << 20


def rss_file_bytes() -> int:
    return int(Path("/proc/self/status").read_text().split("RssFile:")[1].split()[0]) << 10


def test_pages_of_mapped_weights_are_given_back_and_come_again(tmp_path: Path) -> None:
    (tmp_path / "weights.data").write_bytes(b"\x01\x02\x03\x04" * (SIZE // 4))
    weights = MappedWeights(tmp_path, ["weights.data"])
    content = weights.files["weights.data"]
    assert sum(content[::4096]) > 0
    before = rss_file_bytes()
    weights.give_back()
    assert rss_file_bytes() < before - SIZE // 2
    assert content[:4] == b"\x01\x02\x03\x04"


@pytest.mark.parametrize("content", [None, b""], ids=["missing", "empty"])
def test_weights_that_cannot_be_mapped_are_refused_in_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "weights.data").write_bytes(content)
    with pytest.raises(BundleError, match=r"^The weights in .* cannot be mapped: .*\.$"):
        MappedWeights(tmp_path, ["weights.data"])


def test_a_model_answers_alike_while_its_pages_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened and asked under a thread that gives back all the time: nothing that is needed is ever lost."""
    kept: list[MappedWeights] = []
    is_over = threading.Event()

    class Watched(MappedWeights):
        def __init__(self, folder: Path, names: Iterable[str]) -> None:
            super().__init__(folder, names)
            kept.append(self)

    def give_back() -> None:
        while not is_over.wait(0.0005):
            for weights in kept:
                weights.give_back()

    monkeypatch.setattr("appliance.medgemma.parts.MappedWeights", Watched)
    giver = threading.Thread(target=give_back)
    giver.start()
    try:
        for _ in range(5):
            with MedGemma.load(bundle_path(), RuntimeOptions(threads=2)) as model:
                assert model.self_test() > 0
    finally:
        is_over.set()
        giver.join()
    assert len(kept) == 5


def test_freed_heap_is_given_back() -> None:
    """In a process of its own: blocks too small for a mapping of their own, freed but for the last."""
    script = """
from pathlib import Path
from appliance.medgemma.memory import give_back_freed_heap
def rss():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
blocks = [bytearray(40_000) for _ in range(2_000)]
last = blocks.pop()
del blocks
before = rss()
give_back_freed_heap()
print(before - rss())
"""
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert int(output) > 40_000_000

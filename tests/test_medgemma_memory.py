"""What is given back: pages of mapped files, there again when they are read, and heap that libraries have freed."""

import mmap
import subprocess
import sys
from pathlib import Path

from appliance.medgemma.memory import give_back_mapped_pages

SIZE = 8 << 20


def rss_file_bytes() -> int:
    return int(Path("/proc/self/status").read_text().split("RssFile:")[1].split()[0]) << 10


def test_pages_of_the_folders_files_are_given_back_and_come_again(tmp_path: Path) -> None:
    path = tmp_path / "weights.data"
    path.write_bytes(b"\x01\x02\x03\x04" * (SIZE // 4))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as mapped:
        assert sum(mapped[::4096]) > 0
        before = rss_file_bytes()
        assert give_back_mapped_pages(tmp_path) >= SIZE
        assert rss_file_bytes() < before - SIZE // 2
        assert mapped[:4] == b"\x01\x02\x03\x04"


def test_what_was_written_to_a_mapping_is_never_lost(tmp_path: Path) -> None:
    path = tmp_path / "weights.data"
    path.write_bytes(bytes(SIZE))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        mapped[5] = 7
        assert give_back_mapped_pages(tmp_path) == 0
        assert mapped[5] == 7


def test_other_folders_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "weights.data").write_bytes(bytes(SIZE))
    with (tmp_path / "weights.data").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[5] == 0
        assert give_back_mapped_pages(tmp_path / "other") == 0


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

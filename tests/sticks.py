"""Sticks for tests: folders on another file system than the records, which the kernel's list says are mounted."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SHARED_MEMORY = Path("/dev/shm")


@contextmanager
def stick_folder() -> Iterator[Path]:
    """Give a folder that does not lie on the disk of the records."""
    if not SHARED_MEMORY.is_dir() or SHARED_MEMORY.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev:
        pytest.skip("needs /dev/shm as a file system of its own")
    folder = Path(tempfile.mkdtemp(prefix="dermstation-stick-", dir=SHARED_MEMORY))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount an empty file system over a folder."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("needs root to mount a small file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class Sticks:
    """What `mounted_sticks` finds: plugged in and pulled out by a test."""

    def __init__(self, folder: Path, mounts: Path) -> None:
        self.folder = folder
        self.mounts = mounts
        self._lines: dict[Path, str] = {}
        self._write()

    def put_in(self, label: str, options: str = "rw") -> Path:
        path = self.folder / label
        path.mkdir(parents=True, exist_ok=True)
        self._lines[path] = f"36 35 8:17 / {path} {options} shared:1 - vfat /dev/sdb1 rw\n"
        self._write()
        return path

    def pull_out(self, path: Path) -> None:
        """The mount goes, with all that is seen of it; what was on the stick is kept aside."""
        del self._lines[path]
        path.rename(path.with_name(path.name + ".out"))
        self._write()

    def put_back(self, path: Path) -> Path:
        path.with_name(path.name + ".out").rename(path)
        return self.put_in(path.name)

    def _write(self) -> None:
        self.mounts.write_text("22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n" + "".join(self._lines.values()))

"""A disk that loses its power: replays what a real process did, up to a cut, and forgets what was not fsynced.

Recorded by `power_cut.c`. The model is what POSIX leaves open: of the writes since a file's last fsync each one is
kept, dropped or torn at 512-byte sectors, in any order; of the names changed since their folder's last fsync only
the first ones are kept, as a journalling file system does. A file's fsync does not keep its name.
Source: Pillai et al., OSDI 2014; sqlite.org/atomiccommit.html.
"""

import ctypes
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_SOURCE = Path(__file__).with_suffix(".c")
_RECORD = struct.Struct("<IiQII")
_OPEN, _WRITE, _TRUNCATE, _FSYNC, _CLOSE, _RENAME, _UNLINK, _MKDIR, _MARK = range(1, 10)
_SECTOR_BYTES = 512
FAIL_ONCE, FAIL_FROM_THEN_ON, SHORT_THEN_FULL = range(3)


def build(folder: Path) -> Path:
    """Compile the shim."""
    library = folder / "power_cut.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(library), str(_SOURCE), "-ldl"], check=True
    )
    return library


class Shim:
    """The recorder that this process runs under; LD_PRELOAD names the same file."""

    def __init__(self, library: str) -> None:
        self._library = ctypes.CDLL(library)

    def start(self, folder: Path, log: Path | None = None) -> None:
        """Watch a folder; without a log only calls are counted and failed."""
        self._library.pc_start(os.fsencode(folder), os.fsencode(log) if log else None)

    def stop(self) -> None:
        self._library.pc_stop()

    def mark(self, text: str) -> None:
        self._library.pc_mark(text.encode())

    def fail(self, at: int, number: int, mode: int) -> None:
        """Fail the call with this number, counted from now; 0 for none."""
        self._library.pc_fail(at, number, mode)

    def calls(self) -> int:
        count: int = self._library.pc_calls()
        return count


@dataclass(frozen=True, slots=True)
class Step:
    """One call that was recorded."""

    op: int
    descriptor: int
    number: int
    first: bytes
    second: bytes

    @property
    def mark(self) -> str | None:
        return self.first.decode() if self.op == _MARK else None


def steps(log: Path) -> Iterator[Step]:
    """Read a log."""
    content, at = log.read_bytes(), 0
    while at < len(content):
        op, descriptor, number, first, second = _RECORD.unpack_from(content, at)
        at += _RECORD.size
        yield Step(op, descriptor, number, content[at : at + first], content[at + first : at + first + second])
        at += first + second


@dataclass(slots=True)
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Offset and bytes of a write; or size and None of a truncation."""


@dataclass(slots=True)
class _Folder:
    durable: dict[str, "_File | _Folder"] = field(default_factory=dict)
    current: dict[str, "_File | _Folder"] = field(default_factory=dict)
    pending: list[tuple[str, "_File | _Folder | None"]] = field(default_factory=list)

    def put(self, name: str, entry: "_File | _Folder | None") -> None:
        self.pending.append((name, entry))
        if entry is None:
            self.current.pop(name, None)
        else:
            self.current[name] = entry

    def sync(self) -> None:
        self.durable, self.pending = dict(self.current), []


class Disk:
    """The folder as it would be found after a cut at the present step."""

    def __init__(self, root: Path, before: Path | None) -> None:
        """Start from what was durable when the recording began; nothing, if `before` is None."""
        self._root = root
        self._top = _load(before) if before is not None else _Folder()
        self._open: dict[int, _File | _Folder] = {}

    def apply(self, step: Step) -> None:
        """Go on by one call."""
        match step.op:
            case 1:
                self._opened(step)
            case 2:
                self._file(step).pending.append((step.number, step.first))
            case 3:
                self._file(step).pending.append((step.number, None))
            case 4:
                entry = self._open[step.descriptor]
                if isinstance(entry, _Folder):
                    entry.sync()
                else:
                    entry.durable, entry.pending = _kept(entry, None), []
            case 5:
                self._open.pop(step.descriptor, None)
            case 6:
                folder, name = self._place(step.first)
                target, new_name = self._place(step.second)
                entry = folder.current[name]
                folder.put(name, None)
                target.put(new_name, entry)
            case 7:
                folder, name = self._place(step.first)
                folder.put(name, None)
            case 8:
                folder, name = self._place(step.first)
                folder.put(name, _Folder())

    def cut(self, target: Path, rng: random.Random) -> None:
        """Write what one possible cut leaves into a folder, in place of what is there."""
        shutil.rmtree(target, ignore_errors=True)
        _write(self._top, target, rng)

    def surviving(self, folder: Path, rng: random.Random) -> set[str]:
        """Return the names that one possible cut leaves in a folder, of files that are whole whatever is dropped."""
        found = self._top.current.get(str(folder))
        if not isinstance(found, _Folder):
            return set()
        entries = _surviving_entries(found, rng)
        return {name for name, entry in entries.items() if isinstance(entry, _File) and not entry.pending}

    def _opened(self, step: Step) -> None:
        folder, name = self._place(step.first)
        entry = folder.current.get(name) if name else folder
        if entry is None:
            entry = _File()
            folder.put(name, entry)
        elif isinstance(entry, _File) and step.number & os.O_TRUNC:
            entry.pending.append((0, None))
        self._open[step.descriptor] = entry

    def _file(self, step: Step) -> _File:
        entry = self._open[step.descriptor]
        assert isinstance(entry, _File)
        return entry

    def _place(self, path: bytes) -> tuple[_Folder, str]:
        relative = Path(os.fsdecode(path)).relative_to(self._root)
        folder = self._top
        for part in relative.parts[:-1]:
            entry = folder.current[part]
            assert isinstance(entry, _Folder)
            folder = entry
        return folder, relative.name


def _load(path: Path) -> _Folder:
    folder = _Folder()
    for entry in path.iterdir():
        folder.current[entry.name] = _load(entry) if entry.is_dir() else _File(bytearray(entry.read_bytes()))
    folder.sync()
    return folder


def _write(folder: _Folder, target: Path, rng: random.Random) -> None:
    target.mkdir(parents=True)
    for name, entry in _surviving_entries(folder, rng).items():
        if isinstance(entry, _Folder):
            _write(entry, target / name, rng)
        else:
            (target / name).write_bytes(_kept(entry, rng))


def _surviving_entries(folder: _Folder, rng: random.Random) -> "dict[str, _File | _Folder]":
    entries = dict(folder.durable)
    # All, none, or the first ones.
    kept = rng.choice([len(folder.pending), 0, rng.randint(0, len(folder.pending))])
    for name, entry in folder.pending[:kept]:
        if entry is None:
            entries.pop(name, None)
        else:
            entries[name] = entry
    return entries


def _kept(file: _File, rng: random.Random | None) -> bytearray:
    """Apply what was not fsynced: all of it without a generator, else any part of it."""
    content = bytearray(file.durable)
    chance = 1.0 if rng is None else rng.choice([0.0, 0.5, 0.9, 1.0])
    for number, data in file.pending:
        if rng is not None and rng.random() > chance:
            if data is None or rng.random() < 0.5:
                continue
            _tear(content, number, data, rng)
        elif data is None:
            _resize(content, number)
        else:
            _put(content, number, data)
    return content


def _tear(content: bytearray, offset: int, data: bytes, rng: random.Random) -> None:
    for at in range(0, len(data), _SECTOR_BYTES):
        if rng.random() < 0.5:
            _put(content, offset + at, data[at : at + _SECTOR_BYTES])


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        _resize(content, offset)
    content[offset : offset + len(data)] = data


def _resize(content: bytearray, size: int) -> None:
    if len(content) > size:
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))

"""A file system that forgets on command what was not fsynced, as a disk does when its power goes (like LazyFS).

python forgetful_fs.py MOUNTPOINT, until it is unmounted; setting the extended attribute `user.forget` of its root has
it forget. All of it is in memory. A file's content is kept as it was at the file's last fsync, a folder's names as they
were at the folder's: a file's fsync does not keep its name, as POSIX leaves it open. Needs root and libfuse 3.
Source: libfuse's high-level operations; fsync(2).
"""

import errno
import itertools
import os
import stat
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import mfusepy

FORGET = "user.forget"


@dataclass(slots=True, kw_only=True)
class File:
    """Content now, and what a cut leaves of it."""

    mode: int
    live: bytearray = field(default_factory=bytearray)
    kept: bytes = b""
    changed_ns: int = field(default_factory=time.time_ns)

    def sync(self) -> None:
        self.kept = bytes(self.live)

    def forget(self) -> None:
        self.live = bytearray(self.kept)


@dataclass(slots=True, kw_only=True)
class Folder:
    """Names now, and what a cut leaves of them."""

    mode: int
    live: dict[str, "File | Folder"] = field(default_factory=dict)
    kept: dict[str, "File | Folder"] = field(default_factory=dict)
    changed_ns: int = field(default_factory=time.time_ns)

    def sync(self) -> None:
        self.kept = dict(self.live)

    def forget(self) -> None:
        self.live = dict(self.kept)
        for entry in self.live.values():
            entry.forget()


class Forgetful(mfusepy.Operations):  # type: ignore[misc]  # it has no types
    """The tree and its operations; called by libfuse's one thread."""

    use_ns = True

    def __init__(self) -> None:
        self._root = Folder(mode=stat.S_IFDIR | 0o755)
        self._open: dict[int, File] = {}
        self._numbers = itertools.count(1)

    def setxattr(self, path: str, name: str, value: bytes, options: int, position: int = 0) -> int:
        """Lose the power, if that is what is set."""
        if name != FORGET:
            raise mfusepy.FuseOSError(errno.ENOTSUP)
        self._open.clear()
        self._root.forget()
        return 0

    def _at(self, path: str) -> File | Folder:
        entry: File | Folder = self._root
        for name in filter(None, path.split("/")):
            if not isinstance(entry, Folder) or name not in entry.live:
                raise mfusepy.FuseOSError(errno.ENOENT)
            entry = entry.live[name]
        return entry

    def _file(self, path: str, number: int | None) -> File:
        entry = self._open.get(number or 0) or self._at(path)
        if not isinstance(entry, File):
            raise mfusepy.FuseOSError(errno.EISDIR)
        return entry

    def _place(self, path: str) -> tuple[Folder, str]:
        above, _, name = path.rpartition("/")
        folder = self._at(above)
        assert isinstance(folder, Folder)
        return folder, name

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        entry = self._open.get(fh or 0) or self._at(path)
        size = len(entry.live) if isinstance(entry, File) else 4096
        times = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), entry.changed_ns)
        owner = {"st_uid": os.getuid(), "st_gid": os.getgid()}
        return {"st_mode": entry.mode, "st_nlink": 1, "st_size": size, "st_blocks": -(-size // 512), **times, **owner}

    def readdir(self, path: str, fh: int) -> list[str]:
        entry = self._at(path)
        assert isinstance(entry, Folder)
        return [".", "..", *entry.live]

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        folder, name = self._place(path)
        folder.live[name] = File(mode=stat.S_IFREG | stat.S_IMODE(mode))
        return self.open(path, 0)

    def open(self, path: str, flags: int) -> int:
        number = next(self._numbers)
        self._open[number] = self._file(path, None)
        return number

    def release(self, path: str, fh: int) -> int:
        self._open.pop(fh, None)
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return bytes(self._file(path, fh).live[offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        file = self._file(path, fh)
        file.live.extend(bytes(max(0, offset - len(file.live))))
        file.live[offset : offset + len(data)] = data
        file.changed_ns = time.time_ns()
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        file = self._file(path, fh)
        del file.live[length:]
        file.live.extend(bytes(length - len(file.live)))
        file.changed_ns = time.time_ns()
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._file(path, fh).sync()
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        self._at(path).sync()
        return 0

    def rename(self, old: str, new: str, flags: int = 0) -> int:
        (source, old_name), (target, new_name) = self._place(old), self._place(new)
        target.live[new_name] = source.live.pop(old_name)
        return 0

    def unlink(self, path: str) -> int:
        folder, name = self._place(path)
        del folder.live[name]
        return 0

    rmdir = unlink

    def mkdir(self, path: str, mode: int) -> int:
        folder, name = self._place(path)
        folder.live[name] = Folder(mode=stat.S_IFDIR | stat.S_IMODE(mode))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        entry = self._at(path)
        entry.mode = stat.S_IFMT(entry.mode) | stat.S_IMODE(mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        self._at(path).changed_ns = times[1] if times else time.time_ns()
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        blocks = 1 << 22  # 16 GiB: never short of room
        return {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": blocks, "f_bfree": blocks, "f_bavail": blocks}


def main() -> None:
    # Nothing is remembered by the kernel, or it would remember what this disk has forgotten.
    mfusepy.FUSE(
        Forgetful(),
        sys.argv[1],
        foreground=True,
        nothreads=True,
        hard_remove=True,
        attr_timeout=0,
        entry_timeout=0,
        negative_timeout=0,
    )


if __name__ == "__main__":
    main()

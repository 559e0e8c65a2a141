"""Memory that this process holds and no longer needs, given back to the kernel.

Two kinds. Pages of the bundle's files that were only read while it was opened: ONNX Runtime packs most weights anew
into memory of its own; scales stay mapped though no kernel reads them again. They stay in the page cache and come back
by themselves if anything does. And heap that libraries have freed, which glibc keeps: 182 MB after reading Gemma's
tokenizer, which later allocations of a running engine would use again.
Source: madvise(2), MADV_DONTNEED on a mapping of a file; malloc_trim(3).
"""

import ctypes
import mmap
from collections.abc import Iterable, Mapping
from pathlib import Path

from appliance.errors import BundleError


class MappedWeights:
    """Files of weights, mapped by us, for ONNX Runtime to use in place as long as this lives.

    It could map them itself, but takes its mappings away when it likes: we would give back whatever had come to their
    address since we looked.
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        """Map files of a folder.

        Raises:
            BundleError: A file cannot be mapped.
        """
        try:
            self.files: Mapping[str, mmap.mmap] = {name: _mapped(folder / name) for name in names}
            """Their content, by name."""
        except (OSError, ValueError) as error:
            raise BundleError(f"The weights in {folder} cannot be mapped: {error}.") from error

    def give_back(self) -> None:
        """Give back every page that was read; it is read again if it is wanted again."""
        for content in self.files.values():
            content.madvise(mmap.MADV_DONTNEED)


def give_back_freed_heap() -> None:
    """Give back what libraries have freed; nothing where the C library is another one than glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

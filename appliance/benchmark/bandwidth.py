"""How fast this machine reads memory: the limit of writing tokens, since each one reads all weights once.

Source: the roofline model (Williams, Waterman, Patterson 2009); at one token a time a matrix is read once and used
once, so decoding is bound by memory wherever the arithmetic keeps up.
"""

import threading
import time
from typing import Final

import numpy as np

BLOCK_BYTES: Final = 256 << 20
"""For each thread: larger than the last-level caches of the machines that this runs on."""
PASSES: Final = 7


def read_bandwidth_gb_per_s(threads: int, block_bytes: int = BLOCK_BYTES, passes: int = PASSES) -> float:
    """Return GB (1e9 bytes) a second that so many threads read together; the best of several passes.

    The maximum of 64-bit integers is taken: of numpy's reductions one that reads as fast as the memory gives, and that
    lets other threads run. Of 7 tried, on 2 cores of Zen 4: 25 GB/s; sums 7, bitwise or 15.

    Args:
        threads: As many as the model computes with.
        block_bytes: That each thread reads in one pass.
        passes: How often; the first one also takes the pages.
    """
    # Written, not only asked for: untouched pages are all the same page of zeros.
    blocks = [np.ones(block_bytes // 8, np.int64) for _ in range(threads)]
    return max(_pass_gb_per_s(blocks) for _ in range(passes))


def _pass_gb_per_s(blocks: list["np.ndarray[tuple[int], np.dtype[np.int64]]"]) -> float:
    start = threading.Barrier(len(blocks) + 1)

    def read(block: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> None:
        start.wait()
        block.max()

    readers = [threading.Thread(target=read, args=(block,), name=f"bandwidth-{i}") for i, block in enumerate(blocks)]
    for reader in readers:
        reader.start()
    start.wait()
    started_s = time.monotonic()
    for reader in readers:
        reader.join()
    return sum(block.nbytes for block in blocks) / (time.monotonic() - started_s) / 1e9

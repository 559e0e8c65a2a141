"""Sets of drawings on disk: pixels and maps as .npy, attributes as JSON, drawn by several processes.

A stream's pictures are numbered, so that the held-out stream can never meet the training stream.
"""

import json
import multiprocessing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from export.demo.canvas import SIDE_PX
from export.demo.drawings import MAP_CHANNELS, MAP_SIDE, draw_varied
from export.demo.scene import Attributes

TRAINING_STREAM: Final = 1
HELD_OUT_STREAM: Final = 999

_CHUNK: Final = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSet:
    """`pixels`: uint8 [N, 160, 160, 3], RGB. `maps`: uint8 [N, 9, 10, 10]. `attributes`: N truths."""

    pixels: npt.NDArray[np.uint8]
    maps: npt.NDArray[np.uint8]
    attributes: tuple[Attributes, ...]

    def __len__(self) -> int:
        return len(self.attributes)


def draw_set(folder: Path, *, stream: int, count: int, processes: int) -> None:
    """Draw pictures 0 to `count` - 1 of a stream into a folder; the number of processes does not change them."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = (count, SIDE_PX, SIDE_PX, 3)
    pixels = np.lib.format.open_memmap(folder / "pixels.npy", "w+", np.uint8, shape)
    maps = np.empty((count, MAP_CHANNELS, MAP_SIDE, MAP_SIDE), np.uint8)
    truths: list[dict[str, Any]] = []
    jobs = [(stream, first, min(first + _CHUNK, count)) for first in range(0, count, _CHUNK)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for (_, first, last), (some_pixels, some_maps, some_truths) in zip(
            jobs, pool.imap(_draw_chunk, jobs), strict=True
        ):
            pixels[first:last], maps[first:last] = some_pixels, some_maps
            truths += [asdict(truth) for truth in some_truths]
    pixels.flush()
    np.save(folder / "maps.npy", maps)
    (folder / "attributes.json").write_text(json.dumps(truths))


def load_set(folder: Path) -> PictureSet:
    """Open a set that `draw_set` has written; the pixels stay on disk."""
    truths = json.loads((folder / "attributes.json").read_text())
    attributes = tuple(Attributes(**{**truth, "colours": tuple(truth["colours"])}) for truth in truths)
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    return PictureSet(pixels=pixels, maps=np.load(folder / "maps.npy"), attributes=attributes)


def _draw_chunk(
    job: tuple[int, int, int],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], list[Attributes]]:
    stream, first, last = job
    drawings = [draw_varied(stream, index) for index in range(first, last)]
    pixels = np.stack([drawing.pixels for drawing in drawings])
    maps = np.stack([drawing.maps for drawing in drawings])
    return pixels, maps, [drawing.attributes for drawing in drawings]

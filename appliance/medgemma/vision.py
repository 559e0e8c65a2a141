"""Photos to image features: the vision graph behind a small cache keyed by the photo's digest."""

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from appliance.imaging.decode import image_from_bytes
from appliance.medgemma.bundle import IMAGE_FEATURES, PIXEL_VALUES, Preprocessing
from appliance.medgemma.preprocess import PadToSquare, pixel_values_from_image
from appliance.medgemma.sessions import Brake, InterruptedRunError

logger = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 0.02
"""How often a run that waits for its turn looks whether it still wants it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFeatures:
    """One encoded photo, ready to be put where its soft tokens stand."""

    sha256: str
    """Lower-case hexadecimal digest of the photo's bytes."""
    values: NDArray[np.float32] = field(repr=False)
    """`image_features` of this photo: float32 [M, H], not scaled; read-only, as the cache shares it."""
    transform: PadToSquare
    vision_s: float
    """Seconds that decoding, preprocessing and the vision graph took."""


class Tower(Protocol):
    """An open vision graph."""

    @property
    def placement(self) -> Mapping[str, int]:
        """Nodes by what runs them."""

    def run(self, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]], brake: Brake) -> list[NDArray[np.float32]]:
        """Run the graph on arrays; `InferenceError` and `InterruptedRunError` as `Session.run`."""


class VisionEncoder:
    """Encodes photos one at a time; safe to call from several threads."""

    def __init__(
        self,
        open_tower: Callable[[], Tower],
        image_size: int,
        preprocessing: Preprocessing,
        *,
        cache_images: int,
        keeps_tower: bool,
    ) -> None:
        """Put a cache of `cache_images` photos before the vision graph, which the first photo opens, or `open`.

        Args:
            open_tower: Opens the vision graph.
            image_size: Side of its input in pixels.
            preprocessing: The bundle's numbers.
            cache_images: Photos to remember; the least recently used goes first. One is M x H x 4 bytes, 2.6 MB at the
                4B shape.
            keeps_tower: Whether the graph stays open between photos; if not, each photo waits until it is open.
        """
        self._open_tower = open_tower
        self._keeps_tower = keeps_tower
        self._tower: Tower | None = None
        self.placement: Mapping[str, int] = {}
        """Nodes of the graph by what runs them; empty until it was opened."""
        self._image_size = image_size
        self._preprocessing = preprocessing
        self._cache_images = cache_images
        self._cache: OrderedDict[str, ImageFeatures] = OrderedDict()
        self._cache_lock = threading.Lock()
        # Held while encoding, so that a photo asked for twice at once is encoded once; a known photo need not wait.
        self._turn = threading.Lock()

    def open(self) -> None:
        """Open the graph, so that the first photo need not wait for it.

        Raises:
            BundleError: It does not open.
        """
        with self._turn:
            self._opened()

    def encode(self, content: bytes, brake: Brake) -> ImageFeatures:
        """Return the features of one photo.

        Args:
            content: The bytes of a JPEG or PNG file.
            brake: Ends the encoding early.

        Raises:
            ImageError: The bytes are not a picture that this box reads.
            BundleError: The graph does not open.
            InferenceError: It fails.
            InterruptedRunError: The brake was pulled.
        """
        sha256 = hashlib.sha256(content).hexdigest()
        features = self._recall(sha256)
        if features is not None:
            return features
        while not self._turn.acquire(timeout=_LOOK_EVERY_S):
            if brake.is_pulled:
                raise InterruptedRunError
        try:
            features = self._recall(sha256)
            if features is None:
                features = self._encode(content, sha256, brake)
                self._remember(features)
            return features
        finally:
            self._turn.release()

    def forget(self) -> None:
        """Forget every photo."""
        with self._cache_lock:
            self._cache.clear()

    def _recall(self, sha256: str) -> ImageFeatures | None:
        with self._cache_lock:
            features = self._cache.get(sha256)
            if features is not None:
                self._cache.move_to_end(sha256)
            return features

    def _remember(self, features: ImageFeatures) -> None:
        with self._cache_lock:
            self._cache[features.sha256] = features
            while len(self._cache) > self._cache_images:
                self._cache.popitem(last=False)

    def _opened(self) -> Tower:
        if self._tower is not None:
            return self._tower
        tower = self._open_tower()
        self.placement = dict(tower.placement)
        if self._keeps_tower:
            self._tower = tower
        return tower

    def _encode(self, content: bytes, sha256: str, brake: Brake) -> ImageFeatures:
        started_s = time.monotonic()
        image = image_from_bytes(content)
        pixel_values, transform = pixel_values_from_image(image, self._image_size, self._preprocessing)
        values = self._opened().run([IMAGE_FEATURES], {PIXEL_VALUES: pixel_values}, brake)[0][0]
        values.flags.writeable = False
        vision_s = time.monotonic() - started_s
        logger.debug("image encoded sha256=%s vision_s=%.3f", sha256[:12], vision_s)
        return ImageFeatures(sha256=sha256, values=values, transform=transform, vision_s=vision_s)

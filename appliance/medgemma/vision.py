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
        open_session: Callable[[], Tower],
        image_size: int,
        preprocessing: Preprocessing,
        *,
        cache_images: int,
        keeps_session: bool,
    ) -> None:
        """Put a cache of `cache_images` photos before the vision graph.

        Args:
            open_session: Opens the vision graph.
            image_size: Side of its input in pixels.
            preprocessing: The bundle's numbers.
            cache_images: Photos to remember; the least recently used goes first. One is M x H x 4 bytes, 2.6 MB at the
                4B shape.
            keeps_session: Whether the graph stays open between photos; if not, each photo waits until it is open.

        Raises:
            BundleError: The graph does not open.
        """
        self._open_session = open_session
        session = open_session()
        self.placement = dict(session.placement)
        """Nodes of the graph by what runs them."""
        self._session = session if keeps_session else None
        self._image_size = image_size
        self._preprocessing = preprocessing
        self._cache_images = cache_images
        self._cache: OrderedDict[str, ImageFeatures] = OrderedDict()
        self._cache_lock = threading.Lock()
        # Held while encoding, so that a photo asked for twice at once is encoded once; a known photo need not wait.
        self._turn = threading.Lock()

    def encode(self, content: bytes, brake: Brake) -> ImageFeatures:
        """Return the features of one photo.

        Args:
            content: The bytes of a JPEG or PNG file.
            brake: Ends the encoding early.

        Raises:
            ImageError: The bytes are not a picture that this box reads.
            InferenceError: The graph fails.
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

    def _encode(self, content: bytes, sha256: str, brake: Brake) -> ImageFeatures:
        started_s = time.monotonic()
        image = image_from_bytes(content)
        pixel_values, transform = pixel_values_from_image(image, self._image_size, self._preprocessing)
        session = self._session or self._open_session()
        values = session.run([IMAGE_FEATURES], {PIXEL_VALUES: pixel_values}, brake)[0][0]
        values.flags.writeable = False
        vision_s = time.monotonic() - started_s
        logger.debug("image encoded sha256=%s vision_s=%.3f", sha256[:12], vision_s)
        return ImageFeatures(sha256=sha256, values=values, transform=transform, vision_s=vision_s)

"""What the box measures of kept photos while the nurse goes on: size by the card, change since the visit before.

A thread with a decoding process of its own that stands back for everything else; capture never waits for it. The photos
stay as they are: results lie beside them, are made anew when they are missing, and go with the visit.
"""

import io
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol, Self, TypeVar

import msgspec
from PIL import Image

from appliance.errors import DermstationError, ImageError
from appliance.imaging.findings import CardFinding, ChangeFinding
from appliance.imaging.sandbox import Sandbox
from appliance.service.earlier import EarlierPhoto
from appliance.types import CapturedImage

logger = logging.getLogger(__name__)

_DEADLINE_S: Final = 60.0
"""Longest time for one photo on a box that has much else to do; 4 s by itself at the most."""
_JOBS_PER_PROCESS: Final = 20
_NICENESS: Final = 10
_WAITING_MAX: Final = 32
_JPEG_QUALITY: Final = 95
_STOP_S: Final = 5.0

State = Literal["working", "done", "failed"]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A photo against the one of an earlier visit."""

    earlier: EarlierPhoto
    state: State = "working"
    change: ChangeFinding | None = None
    """None while it is worked on, and where the photos do not show the same skin."""
    earlier_card: CardFinding | None = None
    card: CardFinding | None = None


class DerivedResults(Protocol):
    """Where results are kept beside a photo, never in place of it."""

    def keep_derived(self, capture_id: str, name: str, value: str) -> None:
        """Keep one result, as JSON; a later one of that name takes its place.

        Raises:
            DermstationError: It was not kept.
        """


class Measuring:
    """A context manager that owns the thread and the process. Any thread may call.

    Args:
        on_result: Told that there is something new to show; called on the thread.
        derived: Where results are kept; None keeps them only as long as the visit is on the screen.
    """

    def __init__(self, on_result: Callable[[], None], derived: DerivedResults | None = None) -> None:
        self._on_result = on_result
        self._derived = derived
        self._sandbox = Sandbox(deadline_s=_DEADLINE_S, jobs_per_process=_JOBS_PER_PROCESS, niceness=_NICENESS)
        self._waiting: queue.Queue[tuple[CapturedImage, EarlierPhoto | None] | None] = queue.Queue(_WAITING_MAX)
        self._cards: dict[str, CardFinding | None] = {}
        self._comparisons: dict[str, Comparison] = {}
        self._known: set[str] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="measuring", daemon=True)

    def __enter__(self) -> Self:
        """Start; the process starts with the first photo."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; what waits is not measured any more."""
        self.forget()
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            logger.debug("queue is full at stop: the process's end ends the thread's work")
        self._sandbox.close()
        self._thread.join(_STOP_S)
        self._sandbox.close()

    def offer(self, image: CapturedImage, earlier: EarlierPhoto | None) -> None:
        """Take a kept photo, or one whose results are missing; returns at once.

        Args:
            image: The photo.
            earlier: What it is compared with. Looked up by the caller, who knows which lesion is on the screen: on the
                thread it might be another one by then.
        """
        with self._lock:
            if image.capture_id in self._known:
                return
            self._known.add(image.capture_id)
        try:
            self._waiting.put_nowait((image, earlier))
        except queue.Full:
            with self._lock:
                self._known.discard(image.capture_id)

    def knows(self, capture_id: str) -> bool:
        """Tell whether a photo was taken already; its results may still be to come."""
        with self._lock:
            return capture_id in self._known

    def card(self, capture_id: str) -> CardFinding | None:
        """Return what the card says in a photo; None where none is seen, and while it is worked on."""
        with self._lock:
            return self._cards.get(capture_id)

    def comparison(self, capture_id: str) -> Comparison | None:
        """Return how a photo compares; None where there is no earlier one."""
        with self._lock:
            return self._comparisons.get(capture_id)

    def balanced(self, image: CapturedImage) -> bytes:
        """Return the photo as under white light, as a JPEG file: a derived picture, made anew each time.

        Raises:
            ImageError: No card is seen on it, or it cannot be read.
        """
        buffer = io.BytesIO()
        Image.fromarray(self._sandbox.balance(image.content)).save(buffer, "JPEG", quality=_JPEG_QUALITY)
        return buffer.getvalue()

    def forget(self) -> None:
        """Forget all results and what waits: the visit has left the screen."""
        with self._lock:
            for results in (self._cards, self._comparisons, self._known):
                results.clear()

    def _run(self) -> None:
        while (job := self._waiting.get()) is not None:
            try:
                self._measure(*job)
            except Exception:
                # A thread's edge: one photo that cannot be measured must not cost the next one.
                logger.exception("photo not measured")

    def _measure(self, image: CapturedImage, earlier: EarlierPhoto | None) -> None:
        finding = self._card_of(image.content) if image.modality == "XC" else None
        if not self._put(self._cards, image, finding):
            return
        if finding is not None:
            self._keep(image, "card", finding)
        self._on_result()
        if earlier is None:
            return
        if not self._put(self._comparisons, image, Comparison(earlier=earlier, card=finding)):
            return
        self._on_result()
        comparison = self._compared(image, earlier, finding)
        if self._put(self._comparisons, image, comparison) and comparison.change is not None:
            self._keep(image, f"change from {earlier.capture_id}", comparison.change)
        self._on_result()

    def _compared(self, image: CapturedImage, earlier: EarlierPhoto, card: CardFinding | None) -> Comparison:
        earlier_card = self._card_of(earlier.content) if card is not None else None
        try:
            change = self._sandbox.change(earlier.content, image.content)
        except ImageError as error:
            logger.warning("photos not compared: %s", error)
            return Comparison(earlier=earlier, state="failed", card=card, earlier_card=earlier_card)
        return Comparison(earlier=earlier, state="done", change=change, card=card, earlier_card=earlier_card)

    def _card_of(self, content: bytes) -> CardFinding | None:
        try:
            return self._sandbox.card(content)
        except ImageError as error:
            logger.warning("card not looked for: %s", error)
            return None

    def _put(self, results: dict[str, Result], image: CapturedImage, result: Result) -> bool:
        """Take a result, unless its visit has left the screen meanwhile."""
        with self._lock:
            if image.capture_id not in self._known:
                return False
            results[image.capture_id] = result
            return True

    def _keep(self, image: CapturedImage, name: str, finding: CardFinding | ChangeFinding) -> None:
        if self._derived is None:
            return
        try:
            self._derived.keep_derived(image.capture_id, name, msgspec.json.encode(finding).decode())
        except DermstationError as error:
            # The result can be made anew from the photo, which is kept.
            logger.warning("result not kept: %s", error)

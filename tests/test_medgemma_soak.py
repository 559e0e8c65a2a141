"""Days of questions in a row: memory stays flat, and the last answer is the first one's equal.

Ten thousand generations are what a busy clinic asks in 72 hours: one every 26 seconds.
"""

import gc
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from medgemma_bundles import take

from appliance.assessment import ASSESSMENT_PROMPT, ASSESSMENT_SCHEMA, FOLLOW_UP_QUESTIONS
from appliance.demo import bundle_path, pictures_path
from appliance.medgemma.engine import MedGemma, RuntimeOptions
from appliance.medgemma.generation import Generation, GenerationOptions, ImagePart, Message, TextPart
from appliance.medgemma.memory import give_back_freed_heap

logger = logging.getLogger(__name__)

WARM_UP = 60
"""Generations after which every buffer has its size."""
GROWTH_MAX_BYTES = 4 << 20
"""Of a whole run, whatever its length: 2.4 MB in the first 4,000 generations, then none. The control leaks 60 kB a
generation, a forty-fourth of one photo's features at the 4B shape."""


def rss_bytes(model: MedGemma) -> int:
    """Return what the process holds when nobody asks: after the end of a visit, without what libraries have freed."""
    model.forget()
    gc.collect()
    give_back_freed_heap()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class Clinic:
    """Asks as nurses do, in random order: photos, assessments, questions, impatience, the end of a visit."""

    def __init__(self, model: MedGemma, seed: int) -> None:
        self.model = model
        self.rng = np.random.default_rng(seed)
        self.photos = [path.read_bytes() for path in sorted(pictures_path().glob("*.jpg"))]

    def ask(self, photo: bytes, text: str, *, is_impatient: bool = False) -> Generation:
        schema = ASSESSMENT_SCHEMA if text == ASSESSMENT_PROMPT else None
        message = Message(role="user", parts=(ImagePart(content=photo), TextPart(text=text)))
        cancel = threading.Event()
        items = self.model.generate([message], GenerationOptions(max_tokens=160, json_schema=schema), cancel=cancel)
        if is_impatient:
            next(items)
            cancel.set()
        return take(items)[1]

    def work(self) -> None:
        photo = self.photos[self.rng.integers(len(self.photos))]
        if self.rng.random() < 0.3:
            self.model.read_ahead([Message(role="user", parts=(ImagePart(content=photo),))])
        questions = (ASSESSMENT_PROMPT, *FOLLOW_UP_QUESTIONS)
        self.ask(photo, questions[self.rng.integers(len(questions))], is_impatient=bool(self.rng.random() < 0.1))
        if self.rng.random() < 0.05:
            self.model.forget()


def growth_bytes(count: int, model: MedGemma, work: Callable[[], None]) -> int:
    """Return by how much the process grows from the end of the warm-up on."""
    for _ in range(WARM_UP):
        work()
    before = rss_bytes(model)
    started_s = time.monotonic()
    for number in range(1, count + 1):
        work()
        if number % max(count // 5, 1) == 0:
            now = rss_bytes(model)
            logger.info("generations=%d rss_mb=%.1f elapsed_s=%.0f", number, now / 1e6, time.monotonic() - started_s)
    return rss_bytes(model) - before


@pytest.mark.parametrize("count", [150, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])])
def test_memory_stays_flat(count: int, seed: int) -> None:
    with MedGemma.load(bundle_path(), RuntimeOptions(threads=1)) as model:
        clinic = Clinic(model, seed)
        first = clinic.ask(clinic.photos[0], ASSESSMENT_PROMPT)
        grown = growth_bytes(count, model, clinic.work)
        logger.info("count=%d grown_kb=%d", count, grown >> 10)
        assert clinic.ask(clinic.photos[0], ASSESSMENT_PROMPT).token_ids == first.token_ids
    assert grown < GROWTH_MAX_BYTES


def test_a_leak_would_be_seen(seed: int) -> None:
    leaked = []
    with MedGemma.load(bundle_path(), RuntimeOptions(threads=1)) as model:
        clinic = Clinic(model, seed)

        def work_and_leak() -> None:
            clinic.work()
            leaked.append(np.ones(7_500))

        assert growth_bytes(90, model, work_and_leak) > GROWTH_MAX_BYTES

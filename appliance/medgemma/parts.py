"""What a checked bundle becomes when it is opened: the parts that one generation goes through, in that order."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from appliance.errors import BundleError, PromptError
from appliance.medgemma.bundle import COARSE_LOGITS, Bundle, check_file
from appliance.medgemma.constraint import ConstraintCompiler
from appliance.medgemma.decoder import Decoder
from appliance.medgemma.halved_table import HalvedTable
from appliance.medgemma.memory import MappedWeights, give_back_freed_heap
from appliance.medgemma.openvino_tower import OpenVinoTower
from appliance.medgemma.plan import MemoryPlan
from appliance.medgemma.prompt import PromptBuilder
from appliance.medgemma.providers import is_cpu_alone, is_placed
from appliance.medgemma.sessions import Brake, Compute, Session
from appliance.medgemma.tokenizer import Tokenizer
from appliance.medgemma.vision import ImageFeatures, Tower, VisionEncoder

logger = logging.getLogger(__name__)

_GIVE_BACK_EVERY_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the plan leaves open."""

    chunk_tokens: int
    """Prompt tokens in one run of the decoder."""
    feature_cache_images: int
    """Photos whose features are kept."""
    prefix_bytes: int | None
    """For prompts that were read ahead; `None` leaves it to the plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """An open model."""

    tokenizer: Tokenizer
    prompts: PromptBuilder
    vision: VisionEncoder | None
    """`None` for a text-only bundle."""
    decoder: Decoder
    constraints: ConstraintCompiler

    @property
    def placement(self) -> Mapping[str, int]:
        """Nodes of the decoder, and of the vision tower once it was opened, by what runs them."""
        tower = {} if self.vision is None else self.vision.placement
        return dict(Counter(self.decoder.placement) + Counter(tower))

    def prepare(self) -> None:
        """Do what the first photo and the first schema would wait for.

        Raises:
            BundleError: The vision tower does not open.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="open") as pool:
            opening = None if self.vision is None else pool.submit(self.vision.open)
            self.constraints.prepare()
            if opening is not None:
                opening.result()

    def encode_image(self, content: bytes, brake: Brake) -> ImageFeatures:
        """Return the features of one photo.

        Raises:
            ImageError: The bytes are not a picture that this box reads.
            PromptError: The model takes text only.
            BundleError: The vision tower does not open.
            InterruptedRunError: The brake was pulled.
        """
        if self.vision is None:
            raise PromptError("This model takes text only and cannot look at an image.")
        return self.vision.encode(content, brake)


def open_parts(bundle: Bundle, compute: Compute, plan: MemoryPlan, settings: Settings) -> Parts:
    """Check every file of a bundle, and open all but the vision tower, two things at a time.

    Args:
        bundle: From `read_bundle`.
        compute: Where to run.
        plan: What it may use.
        settings: The rest.

    Raises:
        BundleError: A file is not what it was, or a part does not open.
    """
    spec, path = bundle.manifest.architecture, bundle.path
    tokenizer_file = bundle.manifest.tokenizer_file
    largest = max(bundle.manifest.files, key=lambda name: bundle.manifest.files[name].size_bytes)
    others = [name for name in bundle.manifest.files if name not in {largest, tokenizer_file}]
    with ThreadPoolExecutor(2, thread_name_prefix="open") as pool:
        for check in [
            pool.submit(_check_files, bundle, [largest]),
            pool.submit(_check_files, bundle, [tokenizer_file, *others]),
        ]:
            check.result()
        # On a GPU ONNX Runtime copies them there, and maps them for that as it likes.
        weights = MappedWeights(path, bundle.manifest.weight_files) if is_cpu_alone(compute.provider) else None
        decoder = pool.submit(_open_decoder, bundle, compute, weights, plan, settings)
        # Not beside the checks: its library keeps Python's lock for a second, and they stood still.
        tokenizer = pool.submit(Tokenizer.from_file, path / tokenizer_file, spec.tokens)
        # What has been packed need not stay in memory a second time while the rest is: 0.6 GB at the 4B shape.
        opening: list[Future[Any]] = [tokenizer, decoder]
        is_open = False
        while not is_open:
            is_open = not wait(opening, timeout=_GIVE_BACK_EVERY_S).not_done
            if weights is not None:
                weights.give_back()
        give_back_freed_heap()
        return Parts(
            tokenizer=tokenizer.result(),
            prompts=PromptBuilder(bundle.manifest.chat_template, tokenizer.result(), spec),
            vision=_vision(bundle, compute, weights, plan, settings),
            decoder=decoder.result(),
            constraints=ConstraintCompiler(tokenizer.result(), spec.text.vocab_size, spec.tokens.eos_token_ids),
        )


def _check_files(bundle: Bundle, names: Iterable[str]) -> None:
    for name in names:
        check_file(bundle, name)


def _open_decoder(
    bundle: Bundle, compute: Compute, weights: MappedWeights | None, plan: MemoryPlan, settings: Settings
) -> Decoder:
    session = Session(bundle.graph_path("decoder"), compute, weights)
    if not is_placed(compute.provider, session.placement):
        raise BundleError(
            f"No part of {bundle.path} runs on {compute.provider} here; with provider auto it runs on the processor."
        )
    spec, record = bundle.manifest.architecture, bundle.manifest.halved_table
    if (COARSE_LOGITS in session.output_names) != (record is not None):
        raise BundleError(f"The bundle {bundle.path} and its decoder do not agree on whether its table lies in halves.")
    table = None if record is None else HalvedTable(bundle.path, record, spec.text.hidden_size)
    return Decoder(
        Session(bundle.graph_path("embedding"), replace(compute, provider="cpu"), weights),
        session,
        spec,
        cache_precision=bundle.manifest.precision.cache,
        context_length=plan.context_length,
        chunk_tokens=settings.chunk_tokens,
        prefix_bytes=plan.prefix_bytes if settings.prefix_bytes is None else settings.prefix_bytes,
        table=table,
    )


def _vision(
    bundle: Bundle, compute: Compute, weights: MappedWeights | None, plan: MemoryPlan, settings: Settings
) -> VisionEncoder | None:
    spec = bundle.manifest.architecture.vision
    if spec is None:
        return None
    path, image_size = bundle.graph_path("vision"), spec.image_size

    def by_onnxruntime() -> Tower:
        session = Session(path, replace(compute, releases_memory=True), weights)
        if weights is not None:
            weights.give_back()
        return session

    ways = {"onnxruntime": by_onnxruntime, "openvino": lambda: OpenVinoTower(path, image_size, compute.threads)}
    openers = [ways[plan.tower]]
    if plan.tower == "openvino" and compute.provider != "openvino":
        openers.append(by_onnxruntime)
    return VisionEncoder(
        partial(_first_that_opens, openers),
        image_size,
        bundle.manifest.preprocessing,
        cache_images=settings.feature_cache_images,
        keeps_tower=plan.keeps_vision,
    )


def _first_that_opens(openers: list[Callable[[], Tower]]) -> Tower:
    """Open the vision tower; what fails where there is something else to try is not tried again."""
    while True:
        try:
            return openers[0]()
        except BundleError as error:
            if len(openers) == 1:
                raise
            # Such as OpenVINO where systemd forbids to make code at run time.
            logger.warning("photos are looked at by ONNX Runtime: %s", error)
            del openers[0]

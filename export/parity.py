"""`--verify`: the same prompts through a bundle and through its checkpoint, stage by stage, judged and written down.

Prompts are random tokens and random pictures: parity asks whether two programs compute the same, not whether the answer
is good. A float32 bundle must agree to rounding; a quantised one is held to limits that only a broken graph exceeds.
What quantisation costs is measured on conversations instead (`fidelity.py`) and not judged.
"""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from appliance.medgemma.bundle import MANIFEST_NAME, Bundle, Manifest, load_bundle, manifest_to_json
from appliance.medgemma.spec import GemmaSpec
from export.bundle_session import BundleSession, image_blocks, relative_rms
from export.conversations import make_conversations
from export.errors import ParityError
from export.fidelity import BundlePredictor, ReferencePredictor, kl_divergence, measure_fidelity
from export.reference import Reference
from export.staging import replace_file

LOGITS_MAX: Final = 1e-4
"""Largest difference of a logit that a float32 bundle may show, where logits are of order one; relative beyond."""
_QUANTIZED_LIMITS: Final = {"int8": 0.15, "int4": 0.75, "float16": 0.02, "float32": 0.0}
"""Root-mean-square difference, relative, that a precision may show. Random weights are the worst case; a wrong mask,
scale or layout gives more than 1."""
COARSE_MAX: Final = 0.3
"""The same for the head's coarse logits beside the exact ones: 0.12 is usual, a wrong layout gives over 1."""
_WANTED_MAX: Final = 64
"""Positions compared a prompt: the logits of all of 1,000 would be a gigabyte at 262,208 words."""
_GREEDY_TOKENS: Final = 12
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityCase:
    """One prompt."""

    name: str
    input_ids: tuple[int, ...]
    images: int
    """Number of pictures in it, the first ones of the set."""


def verify_bundle(
    path: Path, checkpoint: Path, *, seed: int = 0, threads: int = 0, pictures: int = 0
) -> dict[str, Any]:
    """Compare a bundle with its checkpoint and write the result into its manifest.

    Args:
        path: The bundle.
        checkpoint: Folder of the checkpoint that it was made from.
        seed: Of the prompts and pictures.
        threads: For ONNX Runtime; 0 for one a core.
        pictures: Drawings to hold conversations about; 0 for none.

    Returns:
        What was written.

    Raises:
        BundleError: The bundle is damaged.
        ExportError: The reference cannot be loaded.
        ParityError: They differ by more than the limits; the result was written all the same.
    """
    bundle = load_bundle(path)
    spec = bundle.manifest.architecture
    reference = Reference(checkpoint, multimodal=spec.vision is not None)
    session = BundleSession(bundle, threads=threads)
    rng = np.random.default_rng(seed)
    pixel_values = _pictures(spec, rng)
    result: dict[str, Any] = {
        "reference": reference.version,
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "seed": seed,
        "passed": False,
        "failures": [],
    }
    features = None
    if pixel_values is not None:
        features = session.image_features(pixel_values)
        result["image_features"] = _difference(features, reference.image_features(pixel_values))
    result["cases"] = [_compare(case, session, reference, pixel_values, features) for case in make_cases(spec, rng)]
    if pictures:
        theirs = ReferencePredictor(reference, spec.tokens.image_token_id)
        conversations = make_conversations(bundle, pictures)
        result["conversations"] = measure_fidelity(BundlePredictor(session), theirs, conversations)
    result["coarse_logits"] = {"relative_rms": session.coarse_error}
    result["failures"] = find_failures(bundle.manifest, result)
    result["passed"] = not result["failures"]
    _write_result(bundle, result)
    if result["failures"]:
        raise ParityError(f"{path} does not agree with {checkpoint}: {result['failures'][0]}.")
    return result


def compare_bundles(
    path: Path, reference: Path, *, threads: int = 0, pictures: int = 12, questions: int = 1
) -> dict[str, Any]:
    """Measure a bundle beside another one of the same checkpoint, without torch, and write that into its manifest.

    Args:
        path: The bundle.
        reference: A bundle in higher precision, best float32.
        threads: For ONNX Runtime; 0 for one a core.
        pictures: Drawings to hold conversations about.
        questions: Asked about each, besides its assessment.

    Returns:
        What was written.

    Raises:
        BundleError: One of them is damaged.
        ParityError: They are of different checkpoints.
    """
    bundle, other = load_bundle(path), load_bundle(reference)
    if bundle.manifest.source.files != other.manifest.source.files:
        raise ParityError(f"{path} and {reference} were not made from the same checkpoint.")
    ours, theirs = (BundlePredictor(BundleSession(one, threads=threads)) for one in (bundle, other))
    precision = other.manifest.precision
    result: dict[str, Any] = {
        "reference": f"bundle: decoder {precision.decoder}, embedding {precision.embedding}, vision {precision.vision}",
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "conversations": measure_fidelity(ours, theirs, make_conversations(bundle, pictures, questions)),
    }
    _write_result(bundle, result)
    return result


def _write_result(bundle: Bundle, result: dict[str, Any]) -> None:
    manifest = msgspec.structs.replace(bundle.manifest, parity=result)
    replace_file(bundle.path / MANIFEST_NAME, manifest_to_json(manifest))


def make_cases(spec: GemmaSpec, rng: np.random.Generator) -> list[ParityCase]:
    """Make prompts: text, one image, several, and ones longer than the sliding window."""
    window = min(spec.text.sliding_window, max(spec.text.max_position_embeddings - 64, 1))
    tokens = spec.tokens
    special = {tokens.bos_token_id, tokens.boi_token_id, tokens.image_token_id, tokens.eoi_token_id}
    ordinary = np.array([token for token in range(spec.text.vocab_size) if token not in special])

    def text(count: int) -> list[int]:
        return [int(token) for token in rng.choice(ordinary, count)]

    def case(name: str, *parts: list[int], images: int = 0) -> ParityCase:
        return ParityCase(name=name, input_ids=(tokens.bos_token_id, *chain(*parts)), images=images)

    cases = [case("text", text(24)), case("text beyond the window", text(window + 24))]
    if spec.vision is not None and tokens.image_token_id is not None:
        boi, eoi = (token or 0 for token in (tokens.boi_token_id, tokens.eoi_token_id))
        image = [boi, *[tokens.image_token_id] * spec.vision.mm_tokens_per_image, eoi]
        cases += [
            case("one image", text(3), image, text(9), images=1),
            case("two images", text(2), image, text(4), image, text(7), images=2),
            case("image beyond the window", text(window), image, text(11), images=1),
        ]
    return cases


def find_failures(manifest: Manifest, result: dict[str, Any]) -> list[str]:
    """Say what is out of limits, one clause each."""
    precision = manifest.precision
    parts = {precision.decoder, precision.embedding, *([precision.vision] if precision.vision else [])}
    limit = sum(_QUANTIZED_LIMITS[part] for part in parts)
    failures = []
    for stage, where, measured in _stages(result):
        exact = precision.vision == "float32" if stage == "image_features" else limit == 0
        if exact and measured["max_abs"] > LOGITS_MAX * max(1.0, measured["reference_rms"]):
            failures.append(f"{where}: {stage} differ by {measured['max_abs']:.2g}, more than {LOGITS_MAX:.0e}")
        if not exact and not measured["relative_rms"] <= limit:
            failures.append(f"{where}: {stage} differ by {measured['relative_rms']:.0%}, more than {limit:.0%}")
    if not (coarse := result["coarse_logits"]["relative_rms"]) <= COARSE_MAX:
        failures.append(
            f"the head's coarse logits differ from the exact ones by {coarse:.0%}, more than {COARSE_MAX:.0%}"
        )
    if limit == 0:
        failures += [
            f"{case['name']}: greedy token {case['greedy']['equal']} is another"
            for case in result["cases"]
            if case["greedy"]["equal"] < case["greedy"]["tokens"]
        ]
    return failures


def _stages(result: dict[str, Any]) -> list[tuple[str, str, dict[str, float]]]:
    stages = [("image_features", "pictures", result["image_features"])] if "image_features" in result else []
    for case in result["cases"]:
        stages += [(stage, case["name"], case[stage]) for stage in ("hidden_states", "logits")]
        stages.append(("logits", f"{case['name']}, in chunks", case["logits_in_chunks"]))
    return stages


def _compare(
    case: ParityCase, session: BundleSession, reference: Reference, pictures: Floats | None, features: Floats | None
) -> dict[str, Any]:
    ids, count = case.input_ids, len(case.input_ids)
    blocks = image_blocks(ids, session.spec.tokens.image_token_id)
    wanted = _wanted(count)
    pixel_values = pictures[: case.images] if pictures is not None and case.images else None
    embeds = session.embed(ids, features[: case.images] if features is not None and case.images else None)
    expected_hidden, expected = reference.forward(ids, blocks > 0, pixel_values, wanted)
    capacity = count + _GREEDY_TOKENS
    chunk = max(session.spec.text.sliding_window // 2, 5)
    _, chunked = session.prefill(embeds, blocks, wanted, chunk=chunk, capacity=capacity)
    hidden, logits = session.prefill(embeds, blocks, wanted, chunk=count, capacity=capacity)
    expected_tokens = reference.generate(ids, blocks > 0, pixel_values, _GREEDY_TOKENS)
    tokens = _greedy(session, blocks, logits[-1])
    equal = [one == other for one, other in zip(tokens, expected_tokens, strict=True)]
    return {
        "name": case.name,
        "prompt_tokens": count,
        "images": case.images,
        "chunk_tokens": chunk,
        "hidden_states": _difference(hidden, expected_hidden),
        "logits": _difference(logits, expected) | _agreement(logits, expected),
        "logits_in_chunks": _difference(chunked, expected) | _agreement(chunked, expected),
        "greedy": {"tokens": len(equal), "equal": [*equal, False].index(False)},
    }


def _greedy(session: BundleSession, blocks: NDArray[np.int64], logits: Floats) -> list[int]:
    """Continue the prompt in the cache, one token a step."""
    tokens = [int(logits.argmax())]
    while len(tokens) < _GREEDY_TOKENS:
        blocks = np.append(blocks, 0)
        _, step = session.step(session.embed(tokens[-1:], None), blocks, [0])
        tokens.append(int(step[0].argmax()))
    return tokens


def _wanted(count: int) -> list[int]:
    """Choose positions to compare: all of a short prompt, evenly spread ones and the last of a long one."""
    return sorted({round(position) for position in np.linspace(0, count - 1, min(count, _WANTED_MAX))})


def _pictures(spec: GemmaSpec, rng: np.random.Generator) -> Floats | None:
    """Make two pictures, soft shapes with noise: float32 [2, 3, image_size, image_size] in [-1, 1]."""
    if spec.vision is None:
        return None
    size = spec.vision.image_size
    place = np.linspace(-1, 1, size)
    waves = [
        np.sin(place[:, None] * rng.uniform(1, 9) + rng.uniform(0, 6)) * np.cos(place[None] * rng.uniform(1, 9))
        for _ in range(6)
    ]
    pictures = np.stack(waves).reshape(2, 3, size, size) * 0.7 + rng.normal(0, 0.1, (2, 3, size, size))
    return np.clip(pictures, -1, 1).astype(np.float32)


def _difference(ours: Floats, theirs: Floats) -> dict[str, float]:
    difference = ours.astype(np.float64) - theirs
    rms = float(np.sqrt(np.mean(np.square(theirs, dtype=np.float64))))
    return {
        "max_abs": float(np.abs(difference).max()),
        "relative_rms": relative_rms(ours, theirs),
        "reference_rms": rms,
    }


def _agreement(ours: Floats, theirs: Floats) -> dict[str, float]:
    """Measure how often the likeliest word is the same, and the mean divergence of the distributions in nats."""
    return {
        "top_1_agreement": float(np.mean(ours.argmax(-1) == theirs.argmax(-1))),
        "mean_kl_divergence": float(np.mean(kl_divergence(ours, theirs))),
    }

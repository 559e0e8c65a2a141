"""How much of a model quantisation keeps: next-token distributions beside those of a reference, in nats and in shares.

It measures and does not judge; `parity.py` does that, on random tokens. The reference is the checkpoint in transformers
or another bundle of it, such as a float32 one, which needs no torch.
Source: Kullback-Leibler divergence of the reference's distribution from the bundle's, in natural logarithms.
"""

from collections.abc import Iterable
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from export.bundle_session import BundleSession, image_blocks
from export.conversations import Conversation
from export.reference import Reference

Floats = NDArray[np.float32]
_PERCENTILE: Final = 99


class Predictor(Protocol):
    """Something with next-token logits."""

    def logits(self, conversation: Conversation) -> Floats:
        """Return the logits at the wanted positions: float32 [wanted, vocab_size]."""


class BundlePredictor:
    """A bundle in ONNX Runtime; a drawing is encoded once for all its conversations."""

    def __init__(self, session: BundleSession) -> None:
        self._session = session
        self._picture = -1
        self._features: Floats | None = None

    def logits(self, conversation: Conversation) -> Floats:
        """Run one conversation in one go."""
        if conversation.pixel_values is not None and conversation.picture != self._picture:
            self._features = self._session.image_features(conversation.pixel_values)
            self._picture = conversation.picture
        ids, count = conversation.input_ids, len(conversation.input_ids)
        blocks = image_blocks(ids, self._session.spec.tokens.image_token_id)
        embeds = self._session.embed(ids, self._features)
        return self._session.prefill(embeds, blocks, conversation.wanted, chunk=count, capacity=count)[1]


class ReferencePredictor:
    """A checkpoint in transformers."""

    def __init__(self, reference: Reference, image_token_id: int | None) -> None:
        self._reference = reference
        self._image_token_id = image_token_id

    def logits(self, conversation: Conversation) -> Floats:
        """Run one conversation in one go."""
        is_image = image_blocks(conversation.input_ids, self._image_token_id) > 0
        return self._reference.forward(
            conversation.input_ids, is_image, conversation.pixel_values, conversation.wanted
        )[1]


def measure_fidelity(ours: Predictor, theirs: Predictor, conversations: Iterable[Conversation]) -> dict[str, Any]:
    """Compare every next token of the answers.

    Returns:
        `tokens` compared; `mean_kl_divergence` and `p99_kl_divergence` in nats; `top_1_agreement`, 0 to 1.
    """
    divergences, agreements = [], []
    for conversation in conversations:
        our_logits, their_logits = ours.logits(conversation), theirs.logits(conversation)
        divergences.append(kl_divergence(our_logits, their_logits))
        agreements.append(our_logits.argmax(-1) == their_logits.argmax(-1))
    divergence, agreement = np.concatenate(divergences), np.concatenate(agreements)
    return {
        "tokens": len(divergence),
        "mean_kl_divergence": float(divergence.mean()),
        "p99_kl_divergence": float(np.percentile(divergence, _PERCENTILE)),
        "top_1_agreement": float(agreement.mean()),
    }


def kl_divergence(ours: Floats, theirs: Floats) -> NDArray[np.float64]:
    """Return what our distributions lose against theirs, in nats: [rows] from logits [rows, vocab_size]."""
    log_ours, log_theirs = _log_softmax(ours), _log_softmax(theirs)
    divergence: NDArray[np.float64] = np.sum(np.exp(log_theirs) * (log_theirs - log_ours), axis=-1)
    return divergence


def _log_softmax(logits: Floats) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result

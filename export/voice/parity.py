"""The traced Whisper graphs beside transformers: the same sound and the same tokens through both."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_TOKENS: Final = 12
Floats = NDArray[np.float32]


def compare_graphs(checkpoint: Path, encoder: Path, decoder: Path, *, seed: int = 0) -> dict[str, dict[str, float]]:
    """Compare encoder and decoder with transformers in float32, on random sound and random tokens.

    Args:
        checkpoint: Folder of the Whisper model.
        encoder: `input_features` float32 [1, mel bins, frames] to `last_hidden_state`.
        decoder: `input_ids` int64 [1, tokens] and `encoder_hidden_states` to `logits`.
        seed: Of sound and tokens.

    Returns:
        For `encoder` and `decoder`: `max_abs`, and `relative_rms`, 0 for equal. The decoder is given the encoder's
        own output, so that both errors add up as they do in use.
    """
    import onnxruntime
    import torch
    from transformers import WhisperForConditionalGeneration

    model = WhisperForConditionalGeneration.from_pretrained(
        checkpoint, dtype=torch.float32, use_safetensors=True, local_files_only=True
    ).eval()
    rng = np.random.default_rng(seed)
    frames = 2 * model.config.max_source_positions  # the encoder's convolutions halve them
    # What Whisper's features look like: logarithms of mel energies, clipped and scaled to about -1 to 1.
    sound = np.clip(rng.normal(-0.3, 0.5, (1, model.config.num_mel_bins, frames)), -1, 1.5).astype(np.float32)
    tokens = rng.integers(0, model.config.vocab_size, (1, _TOKENS))
    with torch.no_grad():
        expected = model(input_features=torch.from_numpy(sound), decoder_input_ids=torch.from_numpy(tokens))
    providers = ["CPUExecutionProvider"]
    sessions = [onnxruntime.InferenceSession(path, providers=providers) for path in (encoder, decoder)]
    hidden = sessions[0].run(["last_hidden_state"], {"input_features": sound})[0]
    logits = sessions[1].run(["logits"], {"input_ids": tokens, "encoder_hidden_states": hidden})[0]
    return {
        "encoder": _difference(hidden, expected.encoder_last_hidden_state),
        "decoder": _difference(logits, expected.logits),
    }


def _difference(ours: Floats, theirs: Any) -> dict[str, float]:
    reference = theirs.numpy().astype(np.float64)
    difference = ours - reference
    return {
        "max_abs": float(np.abs(difference).max()),
        "relative_rms": float(np.sqrt(np.mean(difference**2) / np.mean(reference**2))),
    }

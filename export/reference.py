"""The reference that parity is measured against: transformers, in float32, on the CPU.

Torch and transformers are imported when a reference is loaded and not before.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError

Floats = NDArray[np.float32]


class Reference:
    """A checkpoint in transformers."""

    def __init__(self, folder: Path, *, multimodal: bool) -> None:
        """Load a checkpoint in float32.

        Args:
            folder: A Hugging Face checkpoint.
            multimodal: Whether it takes images.

        Raises:
            ExportError: torch or transformers is not installed, or cannot load it.
        """
        try:
            import torch
            import transformers
        except ImportError as error:
            raise ExportError("--verify needs torch and transformers: install dermstation[reference].") from error
        transformers.utils.logging.disable_progress_bar()
        self._torch = torch
        kind = transformers.Gemma3ForConditionalGeneration if multimodal else transformers.Gemma3ForCausalLM
        try:
            self._model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise ExportError(f"transformers cannot load {folder}: {str(error).splitlines()[0]}") from error
        # Generation shall not stop early: every token is compared.
        self._model.generation_config.eos_token_id = None
        self.version = f"transformers {transformers.__version__}, torch {torch.__version__}, float32"

    def image_features(self, pixel_values: Floats) -> Floats:
        """Encode images: float32 [N, mm_tokens_per_image, hidden_size]."""
        with self._torch.no_grad():
            return self._array(self._model.get_image_features(self._torch.tensor(pixel_values)).pooler_output)

    def forward(
        self, input_ids: Sequence[int], is_image: NDArray[np.bool_], pixel_values: Floats | None, wanted: Sequence[int]
    ) -> tuple[Floats, Floats]:
        """Run a prompt at once; returns hidden states and logits at the wanted positions."""
        inputs = self._inputs(input_ids, is_image, pixel_values)
        with self._torch.no_grad():
            hidden = self._model.model(**inputs).last_hidden_state[:, list(wanted)]
            return self._array(hidden[0]), self._array(self._model.lm_head(hidden)[0])

    def generate(
        self, input_ids: Sequence[int], is_image: NDArray[np.bool_], pixel_values: Floats | None, count: int
    ) -> list[int]:
        """Continue a prompt greedily by exactly `count` tokens."""
        inputs = self._inputs(input_ids, is_image, pixel_values)
        with self._torch.no_grad():
            output = self._model.generate(**inputs, do_sample=False, max_new_tokens=count)
        return [int(token) for token in output[0, len(input_ids) :]]

    def _inputs(
        self, input_ids: Sequence[int], is_image: NDArray[np.bool_], pixel_values: Floats | None
    ) -> dict[str, Any]:
        inputs = {
            "input_ids": self._torch.tensor([list(input_ids)]),
            "attention_mask": self._torch.ones((1, len(input_ids)), dtype=self._torch.long),
        }
        if pixel_values is not None:
            inputs["pixel_values"] = self._torch.tensor(pixel_values)
            inputs["token_type_ids"] = self._torch.tensor(is_image[None].astype(np.int64))
        return inputs

    def _array(self, tensor: Any) -> Floats:
        result: Floats = tensor.to(self._torch.float32).numpy()
        return result

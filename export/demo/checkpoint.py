"""Checkpoints: the state between phases as safetensors, and the finished model as a Hugging Face folder."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import GenerationConfig, PreTrainedTokenizerFast

from export.demo.canvas import SIDE_PX
from export.demo.model import TOKEN_ID
from export.demo.phases import Trainee
from export.demo.tokens import (
    BOS,
    CHAT_TEMPLATE,
    END_OF_IMAGE,
    EOS,
    IMAGE_SOFT_TOKEN,
    IMAGE_TOKENS,
    PAD,
    START_OF_IMAGE,
    UNK,
)


def save_state(trainee: Trainee, path: Path) -> None:
    """Write model and auxiliary heads in float32."""
    parts = {"model": trainee.model, "heads": trainee.heads}
    state = {
        f"{part}.{key}": value.clone() for part, module in parts.items() for key, value in module.state_dict().items()
    }
    save_file(state, path)


def load_state(trainee: Trainee, path: Path) -> None:
    """Read what `save_state` has written into a trainee of the same shape."""
    state = load_file(path)
    for part, module in {"model": trainee.model, "heads": trainee.heads}.items():
        prefix = f"{part}."
        module.load_state_dict(
            {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        )


def save_hugging_face(model: Any, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the folder that `dermstation export` reads: weights in bfloat16, tokenizer, template and image settings."""
    folder.mkdir(parents=True, exist_ok=True)
    ends = [TOKEN_ID["<eos>"], TOKEN_ID["<end_of_turn>"]]
    model.generation_config = GenerationConfig(
        eos_token_id=ends, pad_token_id=TOKEN_ID["<pad>"], bos_token_id=TOKEN_ID["<bos>"], do_sample=False
    )
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        extra_special_tokens={"boi_token": START_OF_IMAGE, "eoi_token": END_OF_IMAGE, "image_token": IMAGE_SOFT_TOKEN},
    ).save_pretrained(folder)
    # transformers may rewrite the tokenizer's parts; the runtime must see the very ids of the training.
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    _write_json(folder / "preprocessor_config.json", _image_settings())
    _write_json(
        folder / "processor_config.json", {"image_seq_length": IMAGE_TOKENS, "processor_class": "Gemma3Processor"}
    )


def _image_settings() -> dict[str, Any]:
    """Return the picture's way into the model, in Gemma 3's own words; resample 2 is bilinear."""
    return {
        "image_processor_type": "Gemma3ImageProcessor",
        "processor_class": "Gemma3Processor",
        "image_seq_length": IMAGE_TOKENS,
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": SIDE_PX, "width": SIDE_PX},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")

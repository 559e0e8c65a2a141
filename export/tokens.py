"""Token ids: looked up by their strings in `tokenizer.json`, then held against what the configuration says.

Source: Gemma 3's special tokens; transformers `Gemma3Config` for the keys.
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from appliance.medgemma.spec import TokenSpec
from export.checkpoint import read_json
from export.errors import CheckpointError

TOKENIZER_FILE: Final = "tokenizer.json"
START_OF_IMAGE: Final = "<start_of_image>"
END_OF_IMAGE: Final = "<end_of_image>"
IMAGE_SOFT: Final = "<image_soft_token>"
END_OF_TURN: Final = "<end_of_turn>"
_CLASS_IDS: Final = {"bos_token_id": 2, "pad_token_id": 0}
"""Defaults of `Gemma3TextConfig`."""


class _AddedToken(msgspec.Struct):
    id: int
    content: str


class _Model(msgspec.Struct):
    vocab: Any = None


class _Tokenizer(msgspec.Struct):
    """The parts of `tokenizer.json` that hold ids; the merges, most of the file, are skipped unread."""

    added_tokens: list[_AddedToken] = []
    model: _Model = msgspec.field(default_factory=_Model)


def token_spec(folder: Path, configuration: dict[str, Any], *, multimodal: bool) -> TokenSpec:
    """Look up the ids.

    Args:
        folder: The checkpoint.
        configuration: Its `config.json`.
        multimodal: Whether the image tokens must be there.

    Raises:
        CheckpointError: There is no tokenizer, a token is missing, or an id is not what the configuration says.
    """
    ids = read_token_ids(folder)
    text = configuration.get("text_config") or {}
    generation = read_json(folder / "generation_config.json") or {}
    bos, pad = _required(ids, "<bos>"), _required(ids, "<pad>")
    for section in (configuration, text, generation):
        for key, expected, token in (("bos_token_id", bos, "<bos>"), ("pad_token_id", pad, "<pad>")):
            # transformers writes its class's ids where nobody gave any: they say nothing about this tokenizer.
            if section.get(key) != _CLASS_IDS[key]:
                _check(section, key, expected, token)
    eos = [ids[token] for token in ("<eos>", END_OF_TURN) if token in ids]
    for section in (generation, configuration, text):
        given = section.get("eos_token_id")
        eos += given if isinstance(given, list) else [] if given is None else [given]
    if not eos:
        raise CheckpointError(f"{folder / TOKENIZER_FILE} has no <eos> and the configuration no eos_token_id.")
    image = _image_ids(ids, configuration) if multimodal else {}
    return TokenSpec(
        bos_token_id=bos,
        pad_token_id=pad,
        eos_token_ids=tuple(dict.fromkeys(eos)),
        thought_start_token_id=ids.get("<unused94>"),
        thought_end_token_id=ids.get("<unused95>"),
        **image,
    )


def check_ids(tokens: TokenSpec, vocab_size: int) -> None:
    """Check that every token has a row in the table; only the image token needs none, for features replace it.

    Raises:
        CheckpointError: Names the first that has not.
    """
    ids = msgspec.structs.asdict(tokens) | {"image_token_id": None}
    for name, value in ids.items():
        for one in value if isinstance(value, tuple) else (value,):
            if one is not None and not 0 <= one < vocab_size:
                raise CheckpointError(f"{name} is {one}, but vocab_size is {vocab_size}.")


def read_token_ids(folder: Path) -> dict[str, int]:
    """Read every token's id from `tokenizer.json`.

    Raises:
        CheckpointError: The file is missing or is not a tokenizer with a vocabulary.
    """
    path = folder / TOKENIZER_FILE
    try:
        tokenizer = msgspec.json.decode(path.read_bytes(), type=_Tokenizer)
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} has no {TOKENIZER_FILE}; other tokenizer files are not read.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
        raise CheckpointError(f"{path} is not a tokenizer: {error}.") from error
    vocabulary = tokenizer.model.vocab
    if isinstance(vocabulary, list):
        # A unigram model lists pairs of token and score; the place is the id.
        vocabulary = {pair[0]: number for number, pair in enumerate(vocabulary)}
    if not isinstance(vocabulary, dict):
        raise CheckpointError(f"{path} is not a tokenizer: it has no vocabulary.")
    return {**vocabulary, **{token.content: token.id for token in tokenizer.added_tokens}}


def _image_ids(ids: dict[str, int], configuration: dict[str, Any]) -> dict[str, int]:
    result = {}
    for field, token, keys in (
        ("boi_token_id", START_OF_IMAGE, ("boi_token_index", "boi_token_id")),
        ("image_token_id", IMAGE_SOFT, ("image_token_index", "image_token_id")),
        ("eoi_token_id", END_OF_IMAGE, ("eoi_token_index", "eoi_token_id")),
    ):
        result[field] = _required(ids, token)
        for key in keys:
            _check(configuration, key, result[field], token)
    return result


def _required(ids: dict[str, int], token: str) -> int:
    if token not in ids:
        raise CheckpointError(f"{TOKENIZER_FILE} has no token {token}.")
    return ids[token]


def _check(section: dict[str, Any], key: str, expected: int, token: str) -> None:
    given = section.get(key)
    if given is not None and given != expected:
        raise CheckpointError(f"{key} is {given}, but {TOKENIZER_FILE} gives {token} the id {expected}.")

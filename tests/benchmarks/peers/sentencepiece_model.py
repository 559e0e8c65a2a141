"""Write Gemma's vocabulary as a SentencePiece model: `sentencepiece_model.py tokenizer.json FOLDER`.

llama.cpp's converter reads a Gemma vocabulary from `tokenizer.model` and `added_tokens.json` only. A piece's score is
the rank of the merge that makes it, negative: the order in which both libraries merge.
Source: sentencepiece_model.proto of the sentencepiece package.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

LAST_SCORE = -1e6
"""Of pieces that no merge makes."""


def main() -> None:
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    content = json.loads(source.read_text(encoding="utf-8"))
    vocabulary: dict[str, int] = content["model"]["vocab"]
    added = {token["content"]: token for token in content["added_tokens"]}
    format_ = importlib.import_module("sentencepiece.sentencepiece_model_pb2")
    model = format_.ModelProto()
    describe(model, len(vocabulary))
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(content["model"]["merges"]):
        ranks.setdefault("".join(merge) if isinstance(merge, list) else merge.replace(" ", "", 1), rank)
    for number, (piece, token_id) in enumerate(sorted(vocabulary.items(), key=lambda item: item[1])):
        if number != token_id:
            sys.exit(f"{source} has no token with the id {number}.")
        score = -float(ranks[piece]) if piece in ranks else LAST_SCORE
        model.pieces.add(piece=piece, score=score, type=kind(piece, added.get(piece), format_.ModelProto.SentencePiece))
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())
    beyond = {text: token["id"] for text, token in added.items() if text not in vocabulary}
    (folder / "added_tokens.json").write_text(json.dumps(beyond), encoding="utf-8")


def describe(model: Any, size: int) -> None:
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type = 2  # BPE
    trainer.byte_fallback = True
    trainer.vocab_size = size
    trainer.pad_id, trainer.eos_id, trainer.bos_id, trainer.unk_id = 0, 1, 2, 3
    trainer.pad_piece, trainer.eos_piece, trainer.bos_piece, trainer.unk_piece = "<pad>", "<eos>", "<bos>", "<unk>"
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = normalizer.remove_extra_whitespaces = False
    normalizer.escape_whitespaces = True


def kind(piece: str, added: dict[str, Any] | None, kinds: Any) -> int:
    if piece == "<unk>":
        return int(kinds.UNKNOWN)
    if piece.startswith("<0x") and piece.endswith(">") and len(piece) == len("<0x00>"):
        return int(kinds.BYTE)
    if added is not None:
        return int(kinds.CONTROL if added["special"] else kinds.USER_DEFINED)
    return int(kinds.NORMAL)


if __name__ == "__main__":
    main()

"""llama.cpp, through the C interface that llama-cpp-python binds: text, photos (mtmd) and grammars.

Each order begins with an empty cache. Sampling is what llama.cpp's own programs do: the greedy token is tried on the
grammar first, and only when it is refused are all tokens tried (`common_sampler_sample`). A trained model's greedy
token is refused seldom and a random one's nearly always, so that part is clocked apart.
Source: llama.cpp `common/sampling.cpp`, `tools/mtmd/mtmd-helper.cpp`, the version in peers/requirements.txt.
"""

import ctypes
import importlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from harness.engine import Order

# By name: the package is in the peers' environment, not in the one whose types are checked.
llama: Final[Any] = importlib.import_module("llama_cpp.llama_cpp")
mtmd: Final[Any] = importlib.import_module("llama_cpp.mtmd_cpp")
BATCH_TOKENS: Final = 512
CANDIDATE: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
"""Layout of `llama_token_data`."""


class LlamaCpp:
    """A GGUF file and its vision part."""

    def __init__(self, model: Path, mmproj: Path | None, threads: int, context_length: int) -> None:
        package = importlib.import_module("llama_cpp")
        self._grammar_class = package.LlamaGrammar
        self._model = package.Llama(
            str(model), n_ctx=context_length, n_batch=BATCH_TOKENS, n_threads=threads, n_threads_batch=threads,
            verbose=False,
        )  # fmt: skip
        self._files = [model] if mmproj is None else [model, mmproj]
        self._version = package.__version__
        self._context = self._model.ctx
        self._vocabulary = llama.llama_model_get_vocab(self._model.model)
        self._vocabulary_size = llama.llama_vocab_n_tokens(self._vocabulary)
        self._greedy = llama.llama_sampler_init_greedy()
        self._mtmd = None if mmproj is None else _open_mtmd(mmproj, self._model.model, threads)
        self._photo: Any = None
        self._features: Any = None
        self.prompt_tokens = 0
        self.constraint_s = 0.0
        self.late_image_s = 0.0

    def facts(self) -> dict[str, Any]:
        """Name the library and the files."""
        return {
            "version": f"llama-cpp-python {self._version}",
            "model": self._files[0].name,
            "weight_bytes": self._files[0].stat().st_size,
            "disk_bytes": sum(file.stat().st_size for file in self._files),
            "system": llama.llama_print_system_info().decode(),
        }

    def encode(self, photo: bytes) -> None:
        """Decode and encode a photo; the prompt around it is tokenized later."""
        content = (ctypes.c_uint8 * len(photo)).from_buffer_copy(photo)
        self._photo = mtmd.mtmd_helper_bitmap_init_from_buf(self._mtmd, content, len(photo), False)
        for chunk in self._chunks(mtmd.mtmd_default_marker().decode()):
            if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE:
                _check(mtmd.mtmd_encode_chunk(self._mtmd, chunk), "mtmd_encode_chunk")
                # The buffer is overwritten by the next photo only.
                self._features = mtmd.mtmd_get_output_embd(self._mtmd)

    def settle(self) -> None:
        """Do nothing: it answers once it is loaded."""

    def read_ahead(self) -> None:
        """Do nothing: a program around llama.cpp reads the prompt when it has the question."""

    def stream(self, order: Order) -> Iterator[int]:
        """Yield the tokens of a greedy answer."""
        llama.llama_memory_clear(llama.llama_get_memory(self._context), True)
        self.constraint_s = 0.0
        grammar = None if order.schema is None else self._grammar(order.schema)
        if order.photo is None:
            self._read_text(f"<start_of_turn>user\n{order.prompt}<end_of_turn>\n<start_of_turn>model\n")
        else:
            marker = mtmd.mtmd_default_marker().decode()
            # Blank lines around the photo, as the chat template of Gemma 3 writes it.
            prompt = f"\n\n{marker}\n\n{order.prompt}<end_of_turn>\n<start_of_turn>model\n"
            self._read_chunks(f"<start_of_turn>user\n{prompt}")
        for written in range(1, order.tokens + 1):
            token = self._choose(grammar)
            yield token
            if written < order.tokens:
                self._decode([token])
        if grammar is not None:
            llama.llama_sampler_free(grammar)

    def _read_text(self, text: str) -> None:
        tokens = self._model.tokenize(text.encode(), add_bos=True, special=True)
        self.prompt_tokens = len(tokens)
        for start in range(0, len(tokens), BATCH_TOKENS):
            self._decode(tokens[start : start + BATCH_TOKENS])

    def _read_chunks(self, text: str) -> None:
        """Read text around the encoded photo into the cache."""
        past = llama.llama_pos(0)
        for chunk in self._chunks(text):
            if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE:
                status = mtmd.mtmd_helper_decode_image_chunk(
                    self._mtmd, self._context, chunk, self._features, past, 0, BATCH_TOKENS, ctypes.byref(past),
                    mtmd.mtmd_helper_post_decode_callback(), None,
                )  # fmt: skip
            else:
                status = mtmd.mtmd_helper_eval_chunk_single(
                    self._mtmd, self._context, chunk, past, 0, BATCH_TOKENS, True, ctypes.byref(past)
                )
            _check(status, "reading the prompt")
        self.prompt_tokens = int(past.value)

    def _chunks(self, text: str) -> Iterator[Any]:
        content = text.encode()
        wanted = mtmd.mtmd_input_text(text=content, text_len=len(content), add_special=True, parse_special=True)
        chunks = mtmd.mtmd_input_chunks_init()
        bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(self._photo)
        try:
            _check(mtmd.mtmd_tokenize(self._mtmd, chunks, ctypes.byref(wanted), bitmaps, 1), "mtmd_tokenize")
            for number in range(mtmd.mtmd_input_chunks_size(chunks)):
                yield mtmd.mtmd_input_chunks_get(chunks, number)
        finally:
            mtmd.mtmd_input_chunks_free(chunks)

    def _decode(self, tokens: list[int]) -> None:
        kept = (llama.llama_token * len(tokens))(*tokens)  # the batch only points to it
        batch = llama.llama_batch_get_one(kept, len(tokens))
        _check(llama.llama_decode(self._context, batch), "llama_decode")

    def _choose(self, grammar: Any) -> int:
        token = int(llama.llama_sampler_sample(self._greedy, self._context, -1))
        if grammar is None:
            return token
        if not np.isfinite(self._allowed(grammar, np.array([(token, 0, 0)], CANDIDATE))["logit"][0]):
            started_s = time.monotonic()
            candidates = np.empty(self._vocabulary_size, CANDIDATE)
            candidates["id"] = np.arange(self._vocabulary_size)
            logits = llama.llama_get_logits_ith(self._context, -1)
            candidates["logit"] = np.ctypeslib.as_array(logits, (self._vocabulary_size,))
            token = int(np.argmax(self._allowed(grammar, candidates)["logit"]))
            self.constraint_s += time.monotonic() - started_s
        llama.llama_sampler_accept(grammar, token)
        return token

    def _allowed(self, grammar: Any, candidates: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """Set the logit of every candidate that the grammar refuses to -inf, in place."""
        pointer = candidates.ctypes.data_as(llama.llama_token_data_p)
        array = llama.llama_token_data_array(data=pointer, size=len(candidates), selected=-1, sorted=False)
        llama.llama_sampler_apply(grammar, ctypes.byref(array))
        return candidates

    def _grammar(self, schema: Any) -> Any:
        grammar = self._grammar_class.from_json_schema(json.dumps(schema), verbose=False)
        return llama.llama_sampler_init_grammar(self._vocabulary, grammar._grammar.encode(), b"root")


def _open_mtmd(mmproj: Path, model: Any, threads: int) -> Any:
    params = mtmd.mtmd_context_params_default()
    params.n_threads = threads
    params.use_gpu = params.print_timings = False
    # Otherwise it encodes one empty photo at the start: a minute that no clinic would wait for.
    params.warmup = False
    opened = mtmd.mtmd_init_from_file(str(mmproj).encode(), model, params)
    if opened is None:
        raise RuntimeError(f"{mmproj} does not open")
    return opened


def _check(status: int, what: str) -> None:
    if status != 0:
        raise RuntimeError(f"{what} failed with status {status}")


def load(*, model: str, mmproj: str | None, threads: int, context_length: int) -> LlamaCpp:
    """Open a GGUF file."""
    return LlamaCpp(Path(model), None if mmproj is None else Path(mmproj), threads, context_length)

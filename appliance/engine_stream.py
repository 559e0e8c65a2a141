"""The engine's event stream read back into pieces and a generation; closing it is how a run is cancelled.

Source: WHATWG HTML, "Server-sent events"; OpenAI API reference, "Chat completion chunk".
"""

import contextlib
import http.client
import os
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import msgspec

from appliance.engine_wire import IMAGE_ERROR_CODE, AnswerExtension
from appliance.errors import EngineUnavailableError, ImageError, PromptError
from appliance.medgemma.generation import Generation, Piece, TokenLogprob

ENGINE_GONE: Final = "The engine is not running."
_LINE_MAX_BYTES: Final = 16 << 20
"""The last chunk lists every token of the longest context."""
_BROKEN: Final = (OSError, http.client.HTTPException, msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What reading a stream that is cut, or no engine's, raises."""
_WAITING: Final = re.compile(rb": waiting, ([0-9]{1,4}) before you")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePosition:
    """The run has not started yet."""

    before: int
    """Jobs that come first, the running one included."""


class _Token(msgspec.Struct):
    """A token of a chunk's logprobs; `token_id` is our extension."""

    token: str
    logprob: float
    token_id: int = -1


class _ChosenToken(_Token):
    top_logprobs: list[_Token] = []


class _Logprobs(msgspec.Struct):
    content: list[_ChosenToken] | None = None


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    logprobs: _Logprobs | None = None


class _Refusal(msgspec.Struct):
    message: str
    code: str | None = None
    status: int | None = None
    """Our extension, in streams: the HTTP status that it would have had."""


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    dermstation: AnswerExtension = AnswerExtension()
    error: _Refusal | None = None


class GenerationStream:
    """One answer as it comes: queue positions, pieces, then exactly one `Generation`; a context manager.

    `close` may be called from any thread, also while another one waits for the next item, whose iteration then ends.
    """

    def __init__(self, response: http.client.HTTPResponse, completion_id: str) -> None:
        self.completion_id = completion_id
        self._response = response
        # Its own handle on the connection: `http.client` forgets the socket of a response that closes it.
        self._socket = socket.socket(fileno=os.dup(response.fileno()))
        self._reading = threading.Lock()
        self._is_closed = False
        self._items = self._read_items()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Piece | QueuePosition | Generation]:
        return self

    def __next__(self) -> Piece | QueuePosition | Generation:
        """Wait for the next item.

        Raises:
            EngineUnavailableError: The engine died, or has been silent for too long.
            ImageError: A photo is unreadable.
            PromptError: The engine refuses the prompt.
        """
        with self._reading:
            return next(self._items)

    def close(self) -> None:
        """Hang up; the engine ends the run within one token."""
        self._is_closed = True
        with contextlib.suppress(OSError):
            # Wakes a thread that waits in `recv`, which closing alone does not; it then lets go of the lock.
            self._socket.shutdown(socket.SHUT_RDWR)
        with self._reading:
            self._socket.close()
            self._response.close()

    def _read_items(self) -> Iterator[Piece | QueuePosition | Generation]:
        try:
            yield from self._items_of_lines()
        except TimeoutError as error:
            raise EngineUnavailableError("The engine has stopped answering.") from error
        except _BROKEN as error:
            if not self._is_closed:
                raise EngineUnavailableError("The engine died before the answer was complete.") from error

    def _items_of_lines(self) -> Iterator[Piece | QueuePosition | Generation]:
        while line := self._response.readline(_LINE_MAX_BYTES):
            if waiting := _WAITING.match(line):
                yield QueuePosition(before=int(waiting[1]))
            if not line.startswith(b"data: {"):
                continue
            chunk = msgspec.json.decode(line.removeprefix(b"data: "), type=_Chunk)
            if chunk.error is not None:
                _raise(chunk.error.status or http.client.INTERNAL_SERVER_ERROR, chunk.error)
            yield from _pieces(chunk)
            if chunk.dermstation.generation is not None:
                yield chunk.dermstation.generation
                return
        if not self._is_closed:
            raise EngineUnavailableError("The engine died before the answer was complete.")


def raise_refusal(status: int, body: bytes) -> None:
    """Turn an error response into the error that it stands for; a success passes.

    Raises:
        EngineUnavailableError: The engine is loading, has failed, is busy, or something else answers.
        ImageError: A photo is the cause.
        PromptError: The prompt or the options are.
    """
    if status == http.client.OK:
        return
    try:
        refusal = msgspec.json.decode(body, type=_Chunk).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        refusal = None
    _raise(status, refusal or _Refusal(message=f"The engine answers with HTTP status {status}."))


def _raise(status: int, refusal: _Refusal) -> None:
    if refusal.code == IMAGE_ERROR_CODE:
        raise ImageError(refusal.message)
    if status in {http.client.BAD_REQUEST, http.client.REQUEST_ENTITY_TOO_LARGE}:
        raise PromptError(refusal.message)
    raise EngineUnavailableError(refusal.message)


def _pieces(chunk: _Chunk) -> Iterator[Piece]:
    for choice in chunk.choices:
        tokens = choice.logprobs.content if choice.logprobs is not None else None
        if choice.delta.content or chunk.dermstation.token_ids:
            yield Piece(
                text=choice.delta.content or "",
                token_ids=chunk.dermstation.token_ids,
                logprobs=tuple(map(_token_logprob, tokens or ())),
            )


def _token_logprob(token: _ChosenToken) -> TokenLogprob:
    return TokenLogprob(
        token_id=token.token_id,
        text=token.token,
        logprob=token.logprob,
        top=tuple((item.token_id, item.token, item.logprob) for item in token.top_logprobs),
    )

"""The station's side of the engine: health, image encoding and streamed answers over a Unix socket or loopback.

It keeps nothing and repeats nothing: whoever asked decides whether to ask again. A dead engine is noticed by its closed
socket at once, a hung one by its silence.
Source: `web/engine/DESIGN.md`; WHATWG HTML, "Server-sent events"; OpenAI API reference, "Chat completions".
"""

import http.client
import socket
import uuid
from collections.abc import Sequence
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from appliance.engine_address import EngineAddress
from appliance.engine_request import chat_body, required_media_type
from appliance.engine_stream import ENGINE_GONE, GenerationStream, QueuePosition, raise_refusal
from appliance.engine_wire import COMPLETION_ID_PREFIX, KEEPALIVE_S, EncodedImage, EngineHealth
from appliance.errors import EngineUnavailableError
from appliance.medgemma.generation import GenerationOptions, Message

_T = TypeVar("_T")

__all__ = ["EngineClient", "GenerationStream", "QueuePosition"]

SILENCE_S: Final = 5 * KEEPALIVE_S
"""A stream that says nothing for this long is taken for hung."""
ENCODING_S: Final = 180.0
"""Longest wait for one photo: it stands in the same queue as the answers."""
BODY_MAX_BYTES: Final = 1 << 20
"""No answer outside a stream is longer."""


class EngineClient:
    """Talks to one engine; every call opens its own connection, so threads may share the client."""

    def __init__(self, address: EngineAddress, *, silence_s: float = SILENCE_S) -> None:
        self.address = address
        self._silence_s = silence_s

    def health(self, timeout_s: float = 1.0) -> EngineHealth:
        """Ask how the engine is; an engine that is loading or has failed answers too, and says why.

        Raises:
            EngineUnavailableError: There is no engine at the address, or it is silent.
        """
        _, body = self._exchange("GET", "/health", timeout_s=timeout_s)
        return _decode(body, EngineHealth)

    def encode_image(self, content: bytes, timeout_s: float = ENCODING_S) -> EncodedImage:
        """Encode a photo now, so that a later question about the same bytes need not wait for it.

        Raises:
            EngineUnavailableError: The engine is gone, loading, busy or silent.
            ImageError: The bytes are not a picture that this box reads.
        """
        headers = {"Content-Type": required_media_type(content)}
        status, body = self._exchange("POST", "/v1/images", content, headers, timeout_s=timeout_s)
        raise_refusal(status, body)
        return _decode(body, EncodedImage)

    def forget_images(self, timeout_s: float = ENCODING_S) -> None:
        """Have the engine forget every photo and what it read of them; the jobs that came before are done first.

        Raises:
            EngineUnavailableError: The engine is gone, loading, busy or silent.
        """
        status, body = self._exchange("DELETE", "/v1/images", timeout_s=timeout_s)
        raise_refusal(status, body)

    def generate(
        self, messages: Sequence[Message], options: GenerationOptions, *, request_id: str | None = None
    ) -> GenerationStream:
        """Start an answer; leaving the stream's `with` block, or closing it from any thread, cancels the run.

        Args:
            messages: The conversation, ending with the user's turn.
            options: How to generate.
            request_id: Letters, digits, `_` and `-`, at most 64; a random one when absent.

        Raises:
            EngineUnavailableError: The engine is gone, loading, or its queue is full.
            ImageError: A photo is unreadable.
            PromptError: The prompt or the options are refused.
        """
        request_id = request_id or uuid.uuid4().hex
        headers = {"Content-Type": "application/json", "X-Request-Id": request_id}
        connection = self._connection(self._silence_s)
        try:
            response = _send(connection, "POST", "/v1/chat/completions", chat_body(messages, options), headers)
            if response.status != http.client.OK:
                raise_refusal(response.status, _read(response))
        except BaseException:
            connection.close()
            raise
        return GenerationStream(response, COMPLETION_ID_PREFIX + request_id)

    def cancel(self, completion_id: str, timeout_s: float = 1.0) -> bool:
        """End a run by its id, from anywhere; False when the engine knows no such run (any more).

        Raises:
            EngineUnavailableError: The engine is gone or silent.
        """
        path = "/v1/chat/completions/" + quote(completion_id, safe="")
        status, _ = self._exchange("DELETE", path, timeout_s=timeout_s)
        return status == http.client.OK

    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        timeout_s: float,
    ) -> tuple[int, bytes]:
        connection = self._connection(timeout_s)
        try:
            response = _send(connection, method, path, body, headers or {})
            return response.status, _read(response)
        finally:
            connection.close()

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        if self.address.socket is not None:
            return _UnixConnection(self.address.socket, timeout_s)
        return http.client.HTTPConnection(self.address.host, self.address.port, timeout=timeout_s)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _send(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> http.client.HTTPResponse:
    try:
        try:
            connection.request(method, path, body, {**headers, "Connection": "close"})
        except (BrokenPipeError, ConnectionResetError):
            # The engine may refuse a body before it has read all of it: its answer is already there.
            if connection.sock is None:
                raise
            return _early_response(connection)
        return connection.getresponse()
    except TimeoutError as error:
        raise EngineUnavailableError("The engine does not answer.") from error
    except (OSError, http.client.HTTPException) as error:
        raise EngineUnavailableError(ENGINE_GONE) from error


def _early_response(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(connection.sock, method="POST")
    response.begin()
    return response


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(BODY_MAX_BYTES)
    except TimeoutError as error:
        raise EngineUnavailableError("The engine does not answer.") from error
    except (OSError, http.client.HTTPException) as error:
        raise EngineUnavailableError(ENGINE_GONE) from error


def _decode(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EngineUnavailableError("What answers at the engine's address is not an engine.") from error

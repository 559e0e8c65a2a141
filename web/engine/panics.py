"""Panics of Rust libraries, made ordinary errors before they can take a thread with them.

pyo3 raises a panic as a `BaseException`, past every `except Exception`: waitress would leave the client without an
answer, and the worker's thread would end. Seen with llguidance 1.9.1 on schemas with characters beyond ASCII.
Source: pyo3, `PanicException`.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class LibraryPanicError(Exception):
    """A library has found itself in a state that it had ruled out; its input is to blame."""


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Turn a panic inside the block into an error.

    Raises:
        LibraryPanicError: Something panicked.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # what is left is PanicException, whose module cannot be imported
        raise LibraryPanicError("A library cannot handle this request.") from error

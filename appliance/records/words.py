"""Secrets and digests as words that anyone can say, write down and type back.

A word is a proquint: five letters for 16 bits, consonants and vowels in turn, the same for every mouth. A written
secret ends with a word that checks the others. It makes no keys of them.
Source: D. S. Wilkerson, "A Proposal for Proquints: Identifiers that are Readable, Spellable, and Pronounceable",
arXiv:0901.4016.
"""

import hashlib
import re
import secrets
from typing import Final

from appliance.records.errors import WrongSecretError

_CONSONANTS: Final = "bdfghjklmnprstvz"
_VOWELS: Final = "aiou"
_WORD_BYTES: Final = 2
_WORD: Final = re.compile(rf"[{_CONSONANTS}][{_VOWELS}][{_CONSONANTS}][{_VOWELS}][{_CONSONANTS}]")
_LETTERS_ONLY: Final = re.compile(r"[^a-z]+")
RECOVERY_BYTES: Final = 16
"""128 random bits: guessing them is hopeless without any slow function."""
PHRASE_BYTES: Final = 8
"""64 random bits, behind Argon2id."""


def words_from_bytes(content: bytes) -> str:
    """Write an even number of bytes as words joined by hyphens."""
    pairs = (content[at : at + _WORD_BYTES] for at in range(0, len(content), _WORD_BYTES))
    return "-".join(_word(int.from_bytes(pair, "big")) for pair in pairs)


def bytes_from_words(words: str) -> bytes:
    """Read words back; case, spaces and hyphens do not matter.

    Raises:
        WrongSecretError: Something in it is no word.
    """
    letters = _LETTERS_ONLY.sub("", words.lower())
    found = [letters[at : at + 5] for at in range(0, len(letters), 5)]
    wrong = next((number for number, word in enumerate(found, 1) if not _WORD.fullmatch(word)), None)
    if wrong is not None or not found:
        raise WrongSecretError(f"Word {wrong or 1} is misspelt; look at the sheet again.")
    return b"".join(_number(word).to_bytes(_WORD_BYTES, "big") for word in found)


def new_phrase() -> str:
    """Make a clinic phrase: four words, 64 random bits."""
    return words_from_bytes(secrets.token_bytes(PHRASE_BYTES))


def sheet_from_key(key: bytes) -> str:
    """Write a recovery key as words, the last of which checks the others."""
    return words_from_bytes(key + _check(key))


def key_from_sheet(words: str) -> bytes:
    """Read a recovery key back from its sheet.

    Raises:
        WrongSecretError: A word is misspelt or missing, or they do not belong together.
    """
    content = bytes_from_words(words)
    if len(content) != RECOVERY_BYTES + _WORD_BYTES:
        raise WrongSecretError(f"The sheet has {(RECOVERY_BYTES // 2) + 1} words; {len(content) // 2} were typed.")
    key, check = content[:RECOVERY_BYTES], content[RECOVERY_BYTES:]
    if _check(key) != check:
        raise WrongSecretError("These words do not belong together; compare each with the sheet.")
    return key


def pseudonym_of(subject_id: str) -> str:
    """Return two words for a subject, from its random id: what is said and printed instead of a name."""
    return words_from_bytes(bytes.fromhex(subject_id)[: 2 * _WORD_BYTES])


def _check(key: bytes) -> bytes:
    return hashlib.sha256(b"dermstation recovery check" + key).digest()[:_WORD_BYTES]


def _word(number: int) -> str:
    parts = (number >> 12 & 15, number >> 10 & 3, number >> 6 & 15, number >> 4 & 3, number & 15)
    return "".join((_VOWELS if at % 2 else _CONSONANTS)[part] for at, part in enumerate(parts))


def _number(word: str) -> int:
    number = 0
    for at, letter in enumerate(word):
        number = number << 2 | _VOWELS.index(letter) if at % 2 else number << 4 | _CONSONANTS.index(letter)
    return number

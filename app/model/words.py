"""Text of other people in a line of text: always one word, so that it cannot imitate others."""

import codecs
from functools import lru_cache

# Python loads a codec from a file at its first use: too late for "out of descriptors".
codecs.lookup("unicode_escape")


@lru_cache(maxsize=16384)
def one_word(text: str) -> str:
    """The text itself, or quoted if it contains a space, quote, ``=`` or control character."""
    if text and text.isprintable() and not any(mark in text for mark in ' "='):
        return text
    return '"' + text.encode("unicode_escape").decode().replace('"', '\\"') + '"'

"""Text of other people in a line of text: always one word, so that it cannot imitate others."""

from functools import lru_cache


@lru_cache(maxsize=16384)
def one_word(text: str) -> str:
    """The text itself, or quoted if it contains a space, quote, ``=`` or control character."""
    if text and text.isprintable() and not any(mark in text for mark in ' "='):
        return text
    return '"' + text.encode("unicode_escape").decode().replace('"', '\\"') + '"'

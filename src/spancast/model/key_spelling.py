"""The known trace key that a custom key is a misspelling of.

With ``strict`` a misspelled key is an error, so a key that is probably meant (``trade_id``, ``trace_source``,
``user_id``) must not be taken for one. Each word of a name may have one typing error, unless it is another word.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_KEYS: Final = ("trace_id", "trace_name", "span_name", "generation_name", "parent_span_id", "session_id")
_SHORT: Final = 2
"""Letters of a word in which only swapped and doubled letters are errors: ``session_ip`` is no ``session_id``."""
_WORDS: Final = frozenset(
    (
        "race", "grace", "brace", "trade", "track", "tract", "trance", "tracer", "traced", "traces",
        "scan", "spin", "spun", "spam", "spat", "spar", "spa", "swan", "san", "pan", "spawn", "spain", "spans",
        "names", "named", "game", "same", "parents", "patent", "sessions", "generations",
    )
)  # fmt: skip
"""Other words one typing error away from a word of a key."""
_WORD_BOUNDARY: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|[-. ]")


@lru_cache(1_024)
def nearest_key(key: str) -> str | None:
    """Return the known key of which ``key``, which is none, is a misspelling; None if it is a name of its own."""
    name = _WORD_BOUNDARY.sub("_", key).lower()
    joined, words = name.replace("_", ""), name.split("_")
    for known in _KEYS:
        parts = known.split("_")
        if joined == "".join(parts):
            return known
        if len(words) == len(parts) and all(map(_is_typed_as, words, parts)):
            return known
    return None


def _is_typed_as(word: str, meant: str) -> bool:
    if word == meant:
        return True
    if word in _WORDS:
        return False
    same = next(
        (at for at, pair in enumerate(zip(word, meant, strict=False)) if pair[0] != pair[1]), min(len(word), len(meant))
    )
    rest, other = word[same:], meant[same:]
    is_swapped = len(other) > 1 and rest == other[1] + other[0] + other[2:]
    is_longer = rest[1:] == other
    is_doubled = is_longer and word[same - 1 : same] == rest[:1]
    is_one_letter = is_longer or other[1:] in (rest, rest[1:])
    return is_swapped or is_doubled or (is_one_letter and len(meant) > _SHORT)

"""Clean what a captioner wrote, and say what is no caption.

Source of the rule on repetition: ours.  Published ones are for pages of text (Gopher,
arXiv:2112.11446, table A1, counts characters in repeated n-grams) or for one kind of word (CC12M's
share of repeated words, which rejects "a cat on a mat and a dog on a rug").  Captioners fail by
loops: the same words again and again, in a row.  Of 5,000 captions of Flickr8k, which people wrote,
ours rejects none and CC12M's 5.6 %; of 999 texts of five captions of one picture end to end, 3.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from filters.parsing import check_bounds
from recaption.captioner import Caption, Captioner

_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "„": "“", "\u2018": "\u2019", "«": "»"}
_JOINERS = "\u200c\u200d"
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a text must satisfy to be a caption; both ends of a range are included.

    Raises:
        RecipeError: A setting is out of its bounds.
    """

    min_chars: int = 3
    """The least that can name something, such as "cat"; ours."""
    max_chars: int = 1000
    """Room for 128 tokens, the longest captions of Recap-DataComp (arXiv:2406.08478); ours."""
    max_loops: int = 2
    """How often one to `longest_loop` words may stand in a row."""
    longest_loop: int = 8
    min_distinct_share: float = 0.3
    """Of the words of a caption that has `judged_words` or more."""
    judged_words: int = 20

    def __post_init__(self) -> None:
        rules = (
            ("min_chars", 1 <= self.min_chars <= self.max_chars, "in [1, max_chars]"),
            ("max_loops", self.max_loops >= 1, "at least 1"),
            ("longest_loop", self.longest_loop >= 1, "at least 1"),
            ("min_distinct_share", 0 <= self.min_distinct_share <= 1, "in [0, 1]"),
            ("judged_words", self.judged_words >= 1, "at least 1"),
        )
        check_bounds(self, "captions", rules)


def clean(text: str) -> str:
    """Return a text in one line without what is not seen, and without quotes around all of it.

    White space and control characters become single spaces; unpaired surrogates, which UTF-8
    cannot hold, and characters that only steer how text is laid out go, but for the joiners of
    emoji and of scripts.
    """
    seen = "".join(_seen(character) for character in text)
    line = " ".join(seen.split())
    while len(line) > 1 and _QUOTES.get(line[0]) == line[-1] and line[-1] not in line[1:-1]:
        line = line[1:-1].strip()
    return line


def fault(text: str, bounds: Bounds) -> str | None:
    """Say which of `captioner.FAILURES` a text that `clean` gave is; None: it is a caption."""
    if not any(character.isalnum() for character in text):
        return "empty"
    if len(text) < bounds.min_chars:
        return "too_short"
    if len(text) > bounds.max_chars:
        return "too_long"
    return "repeats" if repeats(text, bounds) else None


def repeats(text: str, bounds: Bounds) -> bool:
    """Say whether a text is in a loop, or has few words that it says many times."""
    words = _WORD.findall(text.lower())
    few = len(set(words)) < bounds.min_distinct_share * len(words)
    return (few and len(words) >= bounds.judged_words) or any(
        _longest_run(words, size) >= size * bounds.max_loops
        for size in range(1, bounds.longest_loop + 1)
    )


class Checked:
    """A captioner whose captions are clean, and as many as there must be."""

    def __init__(self, captioner: Captioner, candidates: int, bounds: Bounds) -> None:
        self._captioner, self._candidates, self._bounds = captioner, candidates, bounds
        self.spec: Mapping[str, Any] = {**captioner.spec, "bounds": asdict(bounds)}

    def caption(self, images: Sequence[bytes], keys: Sequence[str]) -> list[list[Caption]]:
        """As `Captioner.caption`."""
        written = self._captioner.caption(images, keys)
        return [self._checked(captions) for captions in written]

    def _checked(self, captions: list[Caption]) -> list[Caption]:
        """Return one caption of each draw; what is not there is empty."""
        by_draw = {caption.draw: caption for caption in captions}
        missing = Caption("", 0, failure="empty")
        draws = range(self._candidates)
        return [self._judged(by_draw.get(draw, replace(missing, draw=draw))) for draw in draws]

    def _judged(self, caption: Caption) -> Caption:
        if caption.failure:
            return replace(caption, text="")
        text = clean(caption.text)
        failure = fault(text, self._bounds)
        return replace(caption, text="" if failure else text, failure=failure)


def _seen(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cs" or (category == "Cf" and character not in _JOINERS):
        return ""
    return " " if category == "Cc" else character


def _longest_run(words: Sequence[str], size: int) -> int:
    """Return how many words in a row equal the one `size` places before."""
    longest = run = 0
    for before, word in zip(words, words[size:], strict=False):
        run = run + 1 if before == word else 0
        longest = max(longest, run)
    return longest

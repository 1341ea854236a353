"""Cut captions into word pieces, by a vocabulary of BERT's kind that is learnt here or given.

Captions are normalised and cut into words as BERT's uncased models do it: lower case, no accents,
each mark and each Chinese character by itself.  A word becomes the longest pieces that the
vocabulary has, from left to right; one that it cannot spell is [UNK].
"""

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding
from tokenizers import Tokenizer as Cutter
from tokenizers.decoders import WordPiece as Joiner
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing

from filters.rule import RecipeError
from recaption.files import replacing

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]")
FILE = "vocab.txt"
MAX_WORD_CHARS = 100
"""A longer word is [UNK]; BERT's own limit."""
CHUNK = 4096
"""Captions encoded at once; what is known of each takes kilobytes until it is ids."""
MIN_COUNT = 2
"""Symbols that meet less often are not joined: what occurs once teaches nothing."""

_Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Specials:
    """The ids of the tokens that no caption spells."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int
    dec: int
    enc: int


def count_words(captions: Iterable[str]) -> Counter[str]:
    """Count the words of captions, normalised and cut as `Tokenizer` does it."""
    normalise, cut = BertNormalizer(lowercase=True), BertPreTokenizer()
    counts: Counter[str] = Counter()
    for caption in captions:
        words = cut.pre_tokenize_str(normalise.normalize_str(_encodable(caption)))
        counts.update(word for word, _ in words)
    return counts


def train_wordpiece(words: Mapping[str, int], size: int) -> list[str]:
    """Learn a vocabulary by joining, again and again, the two symbols that meet most often.

    The same words with the same counts give the same vocabulary, in every process and whatever
    their order: of pairs that are as frequent, the one first in code point order is joined.  (That
    of the package `tokenizers` differs from run to run.)

    Args:
        words: How often each word occurs, cut as `count_words` does it.
        size: Tokens at most; fewer where the words do not have so many.

    Returns:
        `SPECIALS`, then the letters, most frequent first, then the joined pieces in the order of
        joining.  Letters take at most half of `size`, so that a few texts in a script of thousands
        of them leave room for pieces; words with a letter left out are learnt nothing from.

    Raises:
        RecipeError: `size` leaves no room for letters.

    Source: byte pair encoding on characters (arXiv:1508.07909), with BERT's `##` for what follows
    in a word.
    """
    if size < 2 * len(SPECIALS):
        raise RecipeError(
            f"vocabulary.size must be {2 * len(SPECIALS)} or more, got {size:,}; raise it"
        )
    spelt = {word: _letters(word) for word in sorted(words) if 0 < len(word) <= MAX_WORD_CHARS}
    counts: Counter[str] = Counter()
    for word, symbols in spelt.items():
        for symbol in symbols:
            counts[symbol] += words[word]
    ranked = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))
    letters = ranked[: size // 2 - len(SPECIALS) // 2]
    known = frozenset(letters)
    usable = [(s, words[word]) for word, s in spelt.items() if known.issuperset(s)]
    vocabulary = dict.fromkeys((*SPECIALS, *letters))
    joins = _Joins([symbols for symbols, _ in usable], [count for _, count in usable])
    while len(vocabulary) < size and (pair := joins.most_frequent()):
        vocabulary[joins.join(pair)] = None  # two pairs may spell one piece
    return list(vocabulary)


class Tokenizer:
    """Captions to ids and back.

    A caption that spells a special token, such as "[SEP]", is cut into words like any other.
    """

    vocabulary: list[str]
    specials: Specials
    digest: str
    """SHA-256, in hex, of the vocabulary as its file has it."""

    def __init__(self, vocabulary: Sequence[str], max_tokens: int) -> None:
        """Take a vocabulary; [DEC] and [ENC] are appended where missing, as BLIP does to BERT's.

        Args:
            vocabulary: Each token once; its place is its id.
            max_tokens: Tokens in a row of ids, [CLS] and [SEP] included.

        Raises:
            RecipeError: A token is missing or there twice, or `max_tokens` is below 3.
        """
        given = list(vocabulary)
        self.vocabulary = given + [token for token in SPECIALS[-2:] if token not in set(given)]
        ids = {token: place for place, token in enumerate(self.vocabulary)}
        _check(self.vocabulary, ids, max_tokens)
        self.max_tokens = max_tokens
        self.specials = Specials(*(ids[token] for token in SPECIALS))
        self.digest = hashlib.sha256(self._file()).hexdigest()
        model = WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=MAX_WORD_CHARS)
        self._cutter = Cutter(model)
        self._cutter.normalizer = BertNormalizer(lowercase=True)
        self._cutter.pre_tokenizer = BertPreTokenizer()
        self._cutter.post_processor = BertProcessing(
            ("[SEP]", self.specials.sep), ("[CLS]", self.specials.cls)
        )
        self._cutter.decoder = Joiner(prefix="##", cleanup=True)
        self._cutter.enable_truncation(max_tokens)
        self._cutter.enable_padding(
            length=max_tokens, pad_id=self.specials.pad, pad_token=SPECIALS[0]
        )

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the ids of captions, and where they are: two arrays (n, max_tokens).

        A row begins with [CLS] and ends with [SEP], whatever is cut off or padded; the mask is 1
        at tokens and 0 at pads.
        """
        ids = np.empty((len(texts), self.max_tokens), np.int64)
        mask = np.empty_like(ids)
        for first in range(0, len(texts), CHUNK):
            chunk = texts[first : first + CHUNK]
            cut: list[Encoding] = self._cutter.encode_batch([_encodable(text) for text in chunk])
            ids[first : first + CHUNK] = [one.ids for one in cut]
            mask[first : first + CHUNK] = [one.attention_mask for one in cut]
        return ids, mask

    def decode(self, ids: Iterable[int]) -> str:
        """Return the caption that ids spell; special tokens, [UNK] too, spell nothing."""
        silent = {getattr(self.specials, name) for name in Specials.__slots__}
        return str(self._cutter.decode([int(i) for i in ids if int(i) not in silent]))

    def save(self, folder: Path) -> None:
        """Write the vocabulary into `folder`, as BERT's vocab.txt."""
        with replacing(folder / FILE) as temporary:
            temporary.write_bytes(self._file())

    @classmethod
    def load(cls, path: Path, max_tokens: int) -> "Tokenizer":
        """Read a vocab.txt, or the one in a folder.

        Raises:
            RecipeError: It cannot be read, or is no vocabulary.
        """
        file = path / FILE if path.is_dir() else path
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(
                f"a vocabulary must be a readable file of one token per line, got {file}: {error}; "
                "correct the path"
            ) from None
        return cls(text.removesuffix("\n").split("\n"), max_tokens)

    def _file(self) -> bytes:
        return "".join(f"{token}\n" for token in self.vocabulary).encode()


class _Joins:
    """Words as lists of symbols, and which pairs of symbols meet in them how often."""

    def __init__(self, words: list[list[str]], counts: list[int]) -> None:
        self._words = words
        self._counts = counts
        self._pairs: Counter[_Pair] = Counter()
        self._where: defaultdict[_Pair, set[int]] = defaultdict(set)
        for place, symbols in enumerate(words):
            for pair in pairwise(symbols):
                self._pairs[pair] += counts[place]
                self._where[pair].add(place)
        self._heap = [(-count, pair) for pair, count in self._pairs.items()]
        heapq.heapify(self._heap)

    def most_frequent(self) -> _Pair | None:
        """Return the pair to join next; None where none is frequent enough."""
        while self._heap:
            negative, pair = heapq.heappop(self._heap)
            if -negative == self._pairs[pair]:  # else it has changed since, and is there anew
                return pair if -negative >= MIN_COUNT else None
        return None

    def join(self, pair: _Pair) -> str:
        """Join a pair wherever it meets, from left to right, and return the new symbol."""
        symbol = pair[0] + pair[1].removeprefix("##")
        changes: Counter[_Pair] = Counter()
        for place in self._where.pop(pair):
            before = self._words[place]
            after = _joined(before, pair, symbol)
            for old in pairwise(before):
                changes[old] -= self._counts[place]
                self._where[old].discard(place)
            for new in pairwise(after):
                changes[new] += self._counts[place]
                self._where[new].add(place)
            self._words[place] = after
        for changed, change in changes.items():
            if change:
                self._pairs[changed] += change
                heapq.heappush(self._heap, (-self._pairs[changed], changed))
        return symbol


def _joined(symbols: list[str], pair: _Pair, symbol: str) -> list[str]:
    joined: list[str] = []
    place = 0
    while place < len(symbols):
        if symbols[place] == pair[0] and symbols[place + 1 : place + 2] == [pair[1]]:
            joined.append(symbol)
            place += 2
        else:
            joined.append(symbols[place])
            place += 1
    return joined


def _letters(word: str) -> list[str]:
    return [word[0], *(f"##{letter}" for letter in word[1:])]


def _encodable(text: str) -> str:
    """Replace halves of surrogate pairs, which UTF-8 cannot say."""
    return text.encode("utf-8", "replace").decode()


def _check(vocabulary: list[str], ids: Mapping[str, int], max_tokens: int) -> None:
    missing = [token for token in SPECIALS if token not in ids]
    if missing:
        raise RecipeError(
            f"a vocabulary must have {' '.join(SPECIALS[:5])}, got none of {' '.join(missing)} "
            f"among {len(vocabulary):,} tokens; name a vocab.txt of BERT's kind"
        )
    if len(ids) < len(vocabulary):
        token, times = Counter(vocabulary).most_common(1)[0]
        raise RecipeError(
            f"a vocabulary must have each token once, got {token!r} {times} times; remove one"
        )
    if max_tokens < 3:
        raise RecipeError(f"model.max_tokens must be 3 or more, got {max_tokens}; raise it")

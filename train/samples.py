"""Read a sample as a model sees it in an epoch: one window of its image, one of its captions."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import xxhash
from numpy.typing import NDArray

from filters.rule import RecipeError
from recaption.wordpiece import Tokenizer
from train.augment import Images, Window, chances
from train.images import BadSampleError, Pixels, read_image
from train.index import Data
from train.order import Block
from train.places import tell
from train.shelf import Shelf

TRIES = 32
"""Of replacing a bad sample; where half of a block is bad, one in 4 billion fails."""


class Samples:
    """The samples of some data, to be read in any thread."""

    def __init__(
        self, data: Data, images: Images, tokenizer: Tokenizer, px: int, seed: int
    ) -> None:
        """Take what there is to read; see `loader.Loader`."""
        self._data, self._images, self._tokenizer = data, images, tokenizer
        self.px, self._seed = px, seed
        self.shelf = Shelf(data.units)

    @property
    def max_tokens(self) -> int:
        """The length of a row of tokens."""
        return self._tokenizer.max_tokens

    def read(
        self, block: Block, position: int, pixels: Pixels, bad: Counter[str]
    ) -> tuple[str, str]:
        """Read what is at a position, or what replaces it, which these two alone decide.

        The shelf must be told of it before.

        Args:
            block: The block.
            position: In the block.
            pixels: Takes the image: (px, px, 3).
            bad: Takes the reasons of what could not be read.

        Returns:
            The sample's key and its caption.

        Raises:
            RecipeError: Nothing of the block can be read.
        """
        try:
            return self._try(block, position, pixels, bad)
        finally:
            self.shelf.done(block)

    def _try(
        self, block: Block, position: int, pixels: Pixels, bad: Counter[str]
    ) -> tuple[str, str]:
        place = f"{block.number} {position}"
        for attempt in range(TRIES):
            try:
                return self._read(block, position, pixels)
            except BadSampleError as reason:
                bad[str(reason)] += 1
            chance = chances(self._seed, block.epoch, f"{place} {attempt}").caption
            position = int(chance * len(block))
        raise RecipeError(
            f"a block of {len(block):,} samples must have some that can be read, got none in "
            f"{TRIES} draws: {tell(bad)}; mend or remove {self._shards(block)}"
        )

    def tokenise(self, texts: Sequence[str]) -> tuple[NDArray[Any], NDArray[Any], list[int]]:
        """Cut captions into tokens.

        Returns:
            Ids, (n, max_tokens); where they are; and a number of each row, equal for equal ids.
        """
        ids, mask = self._tokenizer.encode(texts)
        return ids, mask, [xxhash.xxh3_64_intdigest(row.tobytes()) >> 1 for row in ids]

    def _read(self, block: Block, position: int, pixels: Pixels) -> tuple[str, str]:
        unit, row = block.place(position)
        key, image, texts = self.shelf.reader(block, unit).read(row)
        drawn = chances(self._seed, block.epoch, key)
        mirrored = self._images.mirror and drawn.mirror < 0.5
        window = Window(drawn.across, drawn.down, mirrored)
        pixels.transpose(2, 0, 1)[:] = read_image(image, self._images, self.px, window)
        return key, self._data.captions.draw(texts, drawn.caption)

    def _shards(self, block: Block) -> str:
        paths = sorted({str(self._data.units[unit].shard.path) for unit in block.units})
        return ", ".join(paths[:3]) + (f" and {len(paths) - 3:,} more" if len(paths) > 3 else "")

"""Bring samples to a model in batches: the same ones in the same order, wherever a run goes on."""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from filters.parsing import check_bounds
from filters.rule import RecipeError
from recaption.wordpiece import Tokenizer
from train.augment import Images
from train.batch import Batch
from train.images import check_window
from train.index import Data, cores
from train.order import Block, Order
from train.places import tell
from train.samples import Samples

CHUNK = 8
"""Samples that a thread reads at once, so that small batches, too, keep many threads busy.

Ours, measured: to hand them over takes 10 microseconds, and a photograph of 640 x 480 a thousand.
"""
JUDGED_SAMPLES = 1000
"""Before so many are read, `max_bad_share` is taken of these: a few bad ones say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderSettings:
    """How samples are read; a recipe's `[loader]`.  The numbers are ours.

    Raises:
        RecipeError: A number is out of its range.
    """

    images: Images = field(default_factory=Images)
    threads: int = 0
    """That read and decode; 0: as many as cores, shared by the ranks of a machine.

    All but decoding and resizing takes 0.07 ms of a sample's 1.2, so that Python's lock leaves room
    for many.  Two threads loaded 1.2 to 1.5 times what two processes of torch's loader did, per
    second of CPU.
    """
    prefetch: int = 2
    """Batches that are made ahead of the one that is learnt from; each is in memory.

    A sample takes three bytes for each pixel: 32,768 of 289 px take 8.2 GB.
    """
    shuffle_shards: int = 16
    """Tars, or row groups of parquets, whose rows are mixed."""
    shuffle_mib: int = 1024
    """Of row groups that are mixed, which are in memory together; fewer are mixed where they are
    larger, and a larger one alone.  Tars take none.  While one mixture follows another, there are
    two."""
    max_bad_share: float = 0.05
    """Of samples that cannot be read and are replaced, beyond which the run stops."""

    def __post_init__(self) -> None:
        rules = (
            ("threads", self.threads >= 0, "at least 0"),
            ("prefetch", self.prefetch >= 0, "at least 0"),
            ("shuffle_shards", self.shuffle_shards >= 1, "at least 1"),
            ("shuffle_mib", self.shuffle_mib >= 1, "at least 1"),
            ("max_bad_share", 0 <= self.max_bad_share <= 1, "from 0 to 1"),
        )
        check_bounds(self, "loader", rules)


@dataclass(frozen=True, slots=True)
class _Part:
    """What is known of some samples of a batch, besides what was written into its arrays."""

    keys: list[str]
    texts: list[int]
    bad: Counter[str]


class _Pending:
    """A batch in the making."""

    def __init__(self, samples: Samples, places: list[tuple[Block, range]], count: int) -> None:
        self._samples = samples
        self._places = [(block, position) for block, some in places for position in some]
        self._images = np.empty((count, samples.px, samples.px, 3), np.uint8)
        self._tokens = np.empty((count, samples.max_tokens), np.int64)
        self._mask = np.empty((count, samples.max_tokens), bool)
        self._parts: list[Future[_Part]] = []

    def start(self, pool: ThreadPoolExecutor) -> "_Pending":
        """Set threads to work on it."""
        firsts = range(0, len(self._places), CHUNK)
        self._parts = [pool.submit(self._fill, first) for first in firsts]
        return self

    def finish(self) -> tuple[Batch, Counter[str]]:
        """Wait for it; return it, and what was bad by reason."""
        parts = [part.result() for part in self._parts]
        batch = Batch(
            images=torch.from_numpy(self._images).permute(0, 3, 1, 2),
            tokens=torch.from_numpy(self._tokens),
            mask=torch.from_numpy(self._mask),
            texts=torch.tensor([number for part in parts for number in part.texts]),
            keys=[key for part in parts for key in part.keys],
        )
        return batch, sum((part.bad for part in parts), Counter[str]())

    def _fill(self, first: int) -> _Part:
        some = self._places[first : first + CHUNK]
        bad = Counter[str]()
        here = slice(first, first + len(some))
        found = [
            self._samples.read(block, position, pixels, bad)
            for (block, position), pixels in zip(some, self._images[here], strict=True)
        ]
        ids, mask, numbers = self._samples.tokenise([text for _, text in found])
        self._tokens[here], self._mask[here] = ids, mask
        return _Part([key for key, _ in found], numbers, bad)


class Loader:
    """Batches without end: epoch after epoch of all samples, each in an order of its own.

    What comes is decided by the data, the settings, the tokenizer and the seed: not by threads, and
    not by how many ranks a global batch is shared by.  A sample that cannot be read is replaced by
    another one of the same block.
    """

    bad: Counter[str]
    """Samples that could not be read, by reason, of the batches that this one gave."""
    seen: int
    """Samples of the batches that this one gave."""

    def __init__(  # noqa: PLR0913  # each says something of its own
        self,
        data: Data,
        settings: LoaderSettings,
        tokenizer: Tokenizer,
        *,
        px: int,
        batch: int,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """Take what there is to read.

        Args:
            data: The samples.
            settings: How to read them.
            tokenizer: Cuts captions; its `max_tokens` is the length of rows of tokens.
            px: Side of the images that the model sees.
            batch: Samples in a batch of one rank.
            seed: Of the order, the windows and the choice of captions.
            rank: This one's number, from 0.
            ranks: How many there are; every one gets as many batches.
            state: Where to go on; see `state_dict`.

        Raises:
            RecipeError: The samples do not fill a batch, or the state is of other data.
        """
        check_window(settings.images, px)
        self._step, self._share = batch * ranks, (rank * batch, batch)
        if not 1 <= self._step <= data.num_samples:
            raise RecipeError(
                f"a batch of all ranks must have from 1 sample to all {data.num_samples:,} of the "
                f"data, got {batch:,} on each of {ranks}; lower it"
            )
        self._settings, self._data = settings, data
        self._order = Order(
            data.rows,
            np.array([unit.size_bytes for unit in data.units], np.int64),
            seed,
            max_units=settings.shuffle_shards,
            max_bytes=settings.shuffle_mib << 20,
        )
        self._samples = Samples(data, settings.images, tokenizer, px, seed)
        self._of = f"{data.digest} {seed} {settings.shuffle_shards} {settings.shuffle_mib}"
        self._position = self._restored(state) if state else 0
        self.bad, self.seen = Counter(), 0

    def state_dict(self) -> dict[str, Any]:
        """Return where the batch after the one last given begins.

        It is a matter of global batches: another number of ranks may go on from there.
        """
        epoch, position = divmod(self._position, self._data.num_samples)
        return {"epoch": epoch, "position": position, "of": self._of}

    def __iter__(self) -> Iterator[Batch]:
        ahead: deque[_Pending] = deque()
        begun = self._position
        pool = ThreadPoolExecutor(self._settings.threads or cores(), "loader")
        try:
            while True:
                while len(ahead) <= self._settings.prefetch:
                    ahead.append(self._begin(begun).start(pool))
                    begun += self._step
                batch, bad = ahead.popleft().finish()
                self._account(len(batch.keys), bad)
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)
            self._samples.shelf.close()

    def _begin(self, position: int) -> _Pending:
        first, count = self._share
        places = list(self._order.samples(position + first, count))
        for block, positions in places:
            self._samples.shelf.announce(block, len(positions))
        return _Pending(self._samples, places, count)

    def _account(self, count: int, bad: Counter[str]) -> None:
        self._position += self._step
        self.seen += count
        self.bad += bad
        share = self._settings.max_bad_share
        if self.bad.total() > share * max(self.seen, JUDGED_SAMPLES):
            raise RecipeError(
                f"samples that cannot be read must be {share:.1%} at most, got {self.bad.total():,}"
                f" beside {self.seen:,} that were read: {tell(self.bad)}; mend the data, or raise "
                "loader.max_bad_share"
            )

    def _restored(self, state: Mapping[str, Any]) -> int:
        if state["of"] != self._of:
            raise RecipeError(
                f"the data must be those that the run began with, in that order, got {self._of} for"
                f" {state['of']}; give the same data, captions, seed and shuffling, or begin anew"
            )
        return int(state["epoch"] * self._data.num_samples + state["position"])

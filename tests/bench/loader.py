"""Loading pairs, beside webdataset and Pillow on the same shards, as open_clip sets them up.

Both do the same work in the same run, in turns, on one thread: read a tar, decode, resize to a
square, cut a random window, mirror half, and cut captions into tokens, by our tokenizer.  Theirs is
torchvision's transforms where it is installed, else Pillow's own methods; its batches, too, are
bytes, as the colours are scaled on the device.  The last line of a kind of shards is open_clip's
own transform, which ends in floats, as its users run it.
"""

import io
import itertools
import os
import random
import statistics
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from tests.bench import corpus
from tests.bench.usage import seconds

PX, RESIZE_PX = 289, 346
BATCH = 64
IMAGES = 512
TARS = 4
REPEATS = 3
STARTING = 4
"""Batches after which processes have started, and as many are made ahead as will be."""
CLOTHING = Path(__file__).parents[3] / "shared" / "data" / "clothing" / "train"


def measure_loading(folder: Path, repeats: int = REPEATS) -> Iterator[str]:
    """Yield lines of samples per second of CPU, ours and webdataset's."""
    import torch

    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    yield (
        f"\n{'Samples per CPU s':44}{'ours':>9}{'theirs':>9}{'times':>8}   "
        f"{RESIZE_PX} px, of which {PX}; median of {repeats}"
    )
    for name, source in _sources(folder):
        ours = _batches_of(source, folder / "index")
        for what, theirs in _peers(source):
            turns = [(_rate(ours), _rate(theirs)) for _ in range(repeats + 1)]
            mine, other = (statistics.median(each) for each in zip(*turns[1:], strict=True))
            yield f"{name + ', ' + what:44}{mine:>9,.0f}{other:>9,.0f}{mine / other:>7.1f}x"
    yield from _threads_and_processes(folder / "photographs", folder / "index")


def _sources(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield kinds of shards, made here but for the photographs of clothing."""
    photographs = folder / "photographs"
    for number in range(TARS):
        corpus.write_photographs(photographs / f"{number:05d}.tar", IMAGES // TARS, number)
    small = folder / "small"
    for tar in sorted(photographs.glob("*.tar")):
        shrink_tar(tar, small / tar.name, RESIZE_PX)
    yield "640 x 480", photographs
    yield f"shorter side {RESIZE_PX}", small
    if CLOTHING.is_dir():
        yield "clothing, 256 px", CLOTHING


def shrink_tar(source: Path, target: Path, side_px: int) -> None:
    """Copy a tar of photographs; their shorter side, the height, becomes so long."""
    target.parent.mkdir(exist_ok=True)
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old:
            data = old.extractfile(member).read()  # type: ignore[union-attr]  # files alone
            if member.name.endswith(".jpg"):
                image = Image.open(io.BytesIO(data))
                size = (image.width * side_px // image.height, side_px)
                file = io.BytesIO()
                image.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=95)
                data = file.getvalue()
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))


def _tokenizer() -> Any:
    from recaption.wordpiece import Tokenizer, count_words, train_wordpiece

    words = count_words(f"a photograph, number {number}" for number in range(IMAGES))
    return Tokenizer(train_wordpiece(words, 200), 64)


def _loader(source: Path, index: Path, threads: int, rank: int = 0, ranks: int = 1) -> Any:
    from train.index import open_data
    from train.loader import Loader, LoaderSettings
    from train.mixing import Captions

    data = open_data([source], Captions(), index / source.name)
    settings = LoaderSettings(threads=threads)
    return Loader(data, settings, _tokenizer(), px=PX, batch=BATCH, seed=0, rank=rank, ranks=ranks)


def _batches_of(source: Path, index: Path) -> Callable[[], Iterator[Any]]:
    loader = _loader(source, index, threads=1)
    return lambda: itertools.islice(iter(loader), IMAGES // BATCH)


def _rate(batches: Callable[[], Iterable[Any]]) -> float:
    """Return samples per second of CPU, of this process and its threads."""
    before, samples = seconds(), 0
    for batch in batches():
        samples += len(batch[0] if isinstance(batch, tuple) else batch.keys)
    return samples / (seconds() - before).cpu


def _peers(source: Path) -> Iterator[tuple[str, Callable[[], Iterator[Any]]]]:
    """Yield webdataset's pipelines, as open_clip sets them up, with one transform or another."""
    tokenizer = _tokenizer()

    def cut(caption: str) -> Any:
        return tokenizer.encode([caption])[0][0]

    yield "the same pixels", _webdataset(source, _same_transform(), cut)
    with warnings.catch_warnings(action="ignore"):
        try:
            import open_clip
        except ImportError:
            return
        clip = open_clip.image_transform(PX, is_train=True)
        clip_cut = open_clip.get_tokenizer("ViT-B-32")
    yield "open_clip's own", _webdataset(source, clip, lambda caption: clip_cut(caption)[0])


def _webdataset(
    source: Path, transform: Callable[[Any], Any], cut: Callable[[str], Any]
) -> Callable[[], Iterator[Any]]:
    pipeline = webdataset_pipeline(source, transform, cut, BATCH)

    def batches() -> Iterator[Any]:
        warnings.simplefilter("ignore")  # ResourceWarning: it closes no file
        return itertools.islice(iter(pipeline), IMAGES // BATCH)

    return batches


def webdataset_pipeline(
    source: Path, transform: Callable[[Any], Any], cut: Callable[[str], Any], batch: int
) -> Any:
    """Build the pipeline of a folder of tars, as open_clip sets it up, for one epoch."""
    import webdataset as wds

    return wds.DataPipeline(
        wds.SimpleShardList([str(path) for path in sorted(source.glob("*.tar"))]),
        wds.split_by_worker,
        wds.tarfile_to_samples(),
        wds.shuffle(IMAGES),
        wds.decode("pilrgb"),
        wds.rename(image="jpg;png;jpeg;webp", text="txt"),
        wds.map_dict(image=transform, text=cut),
        wds.to_tuple("image", "text"),
        wds.batched(batch, partial=False),
    )


def _same_transform() -> Callable[[Any], Any]:
    try:
        from torchvision import transforms
    except ImportError:
        return _pillow_transform
    composed: Callable[[Any], Any] = transforms.Compose(
        [
            transforms.Resize((RESIZE_PX, RESIZE_PX), transforms.InterpolationMode.BICUBIC),
            transforms.RandomCrop(PX),
            transforms.RandomHorizontalFlip(),
            transforms.PILToTensor(),
        ]
    )
    return composed


def _pillow_transform(image: Any) -> Any:
    import numpy as np
    import torch

    resized = image.resize((RESIZE_PX, RESIZE_PX), Image.Resampling.BICUBIC)
    left, top = (random.randint(0, RESIZE_PX - PX) for _ in range(2))
    cut = resized.crop((left, top, left + PX, top + PX))
    if random.random() < 0.5:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return torch.from_numpy(np.array(cut)).permute(2, 0, 1)


# --------------------------------------------------------------------------- threads and processes


def _threads_and_processes(source: Path, index: Path) -> Iterator[str]:
    """Yield what two workers do, as threads and as processes of torch's own loader."""
    import torch

    class Share(torch.utils.data.IterableDataset):  # type: ignore[misc]  # any
        """One process's share of the batches."""

        def __iter__(self) -> Iterator[Any]:
            rank = torch.utils.data.get_worker_info().id
            for batch in _loader(source, index, 1, rank, 2):
                yield batch.images, batch.tokens, batch.mask, batch.texts

    workers: dict[str, Callable[[], Iterable[Any]]] = {
        "one thread": lambda: _loader(source, index, 1),
        "two threads": lambda: _loader(source, index, 2),
        "two processes of torch's loader": lambda: torch.utils.data.DataLoader(
            Share(), None, num_workers=2
        ),
    }
    cores = len(os.sched_getaffinity(0))
    yield f"\n{f'640 x 480, on {cores} cores':44}{'per CPU s':>12}{'per s':>9}   best of {REPEATS}"
    turns: dict[str, list[tuple[float, float]]] = {what: [] for what in workers}
    for _ in range(REPEATS):
        for what, batches in workers.items():
            turns[what].append(_rates(iter(batches())))
    for what, rates in turns.items():
        cpu, wall = map(max, zip(*rates, strict=True))
        yield f"{what:44}{cpu:>12,.0f}{wall:>9,.0f}"


def _rates(batches: Iterator[Any]) -> tuple[float, float]:
    """Return samples per second of CPU and of the clock, once everything has started."""
    for _ in itertools.islice(batches, STARTING):
        pass
    before = seconds()
    for _ in itertools.islice(batches, 4 * IMAGES // BATCH):
        pass
    spent = seconds() - before
    del batches  # its workers end
    return 4 * IMAGES / spent.cpu, 4 * IMAGES / spent.wall


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        for line in measure_loading(Path(name)):
            print(line, flush=True)  # noqa: T201

"""Downloading a shard, beside img2dataset, from the same server on this machine in the same run.

Each tool's own function for one shard runs in a process of its own, in turns, and says how many
seconds of CPU it took, without the start and without the server.  The server keeps connections, as
it is for many images of one host, or closes them, as if every image were on a host of its own.
img2dataset is measured where it is installed.
"""

import asyncio
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from aiohttp import web

from tests.bench import corpus

IMAGES = 1_000
PHOTOGRAPHS = 64
REPEATS = 3
CONNECTIONS = 64
SHORTER_SIDE_PX = 346

_TIMED = "import time; before = time.process_time(); {call}; print(time.process_time() - before)"

_OURS = """
from pathlib import Path
from pipelines.addresses import read_networks
from pipelines.download import plan_download
from pipelines.download_shard import Download, download_shard
from pipelines.fetcher import Fetching
fetching = Fetching(user_agent="bench", connections={n}, per_host={n},
                    allowed=read_networks(["127.0.0.1"]))
job = Download(output=Path({output!r}), fetching=fetching, shorter_side_px={way.ours})
plan = plan_download({source!r}, job, columns={{}}, workers=1)
"""
_OUR_CALL = "download_shard(plan.job, plan.portions[0])"

_THEIRS = """
import pyarrow as pa, pyarrow.parquet as pq
from pathlib import Path
from img2dataset.downloader import Downloader
from img2dataset.resizer import Resizer
from img2dataset.writer import WebDatasetSampleWriter
Path({output!r}).mkdir()
table = pq.read_table({source!r}).rename_columns(["url", "caption"]).select(["caption", "url"])
with pa.ipc.new_file({output!r} + "/0.feather", table.schema) as sink:
    sink.write_table(table)
resizer = Resizer(resize_only_if_bigger=True, {way.theirs})
download = Downloader(
    sample_writer_class=WebDatasetSampleWriter, resizer=resizer, thread_count={n},
    save_caption=True, extract_exif=False, output_folder={output!r},
    column_list=["caption", "url"], timeout=30, number_sample_per_shard=10_000, oom_shard_count=5,
    compute_hash="sha256", verify_hash_type=None, encode_format="jpg", retries=2,
    user_agent_token="bench", disallowed_header_directives=["noai", "noindex"])
"""
_THEIR_CALL = "download((0, {output!r} + '/0.feather'))"


class Way(NamedTuple):
    """What both do with an image."""

    what: str
    ours: int | None
    theirs: str


WAYS = (
    Way("files as they are", None, "image_size=0, resize_mode='no', disable_all_reencoding=True"),
    Way(
        f"shorter side {SHORTER_SIDE_PX} px",
        SHORTER_SIDE_PX,
        f"image_size={SHORTER_SIDE_PX}, resize_mode='keep_ratio'",
    ),
)


def measure_downloads(folder: Path) -> Iterator[str]:
    """Yield lines of images per second of CPU, ours and img2dataset's."""
    corpus.write_photographs(folder / "photographs.tar", PHOTOGRAPHS)
    heads = f"{'ours':>9}{'theirs':>9}{'times':>8}"
    yield f"\n{'Images per CPU s':44}{heads}   {CONNECTIONS} connections; median of {REPEATS}"
    for keeps in (True, False):
        with _serving(folder / "photographs.tar", keeps=keeps) as url:
            source = _write_list(folder, url)
            for way in WAYS:
                name = f"{way.what}, connections {'kept' if keeps else 'closed'}"
                yield f"{name:44}{_turns(folder, source, way)}"


def _write_list(folder: Path, url: str) -> Path:
    path = folder / "list.parquet"
    urls, texts = zip(*((f"{url}/{n}.jpg", f"photograph {n}") for n in range(IMAGES)), strict=True)
    pq.write_table(pa.table({"url": urls, "text": texts}), path)
    return path


def _turns(folder: Path, source: Path, way: Way) -> str:
    scripts = [_OURS + _TIMED.format(call=_OUR_CALL)]
    if importlib.util.find_spec("img2dataset"):
        scripts.append(_THEIRS + _TIMED.format(call=_THEIR_CALL))
    turns = [[_seconds(folder, source, way, s) for s in scripts] for _ in range(REPEATS)]
    rates = [IMAGES / statistics.median(each) for each in zip(*turns, strict=True)]
    told = "".join(f"{rate:>9,.0f}" for rate in rates)
    same = len({_digests(path) for path in folder.glob("out*") if way.ours is None}) <= 1
    return told + (f"{rates[0] / rates[-1]:>7.1f}x" if rates[1:] else "") + " OTHER" * (not same)


def _seconds(folder: Path, source: Path, way: Way, script: str) -> float:
    """Run a script; return the seconds of CPU that it says."""
    output = folder / f"out{len(list(folder.iterdir()))}"
    file = folder / "run.py"
    told = {"source": str(source), "output": str(output), "way": way, "n": CONNECTIONS}
    file.write_text(script.format(**told), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(file)],
        env=os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1", "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
    )
    stats = output / "00000_stats.json"
    got = json.loads(stats.read_text())["successes"] if stats.exists() else 0
    if done.returncode or got != IMAGES:
        raise RuntimeError(f"{got} of {IMAGES} images came\n{done.stdout}\n{done.stderr}")
    return float(done.stdout.split()[-1])


def _digests(output: Path) -> int:
    table = pq.read_table(output / "00000.parquet", columns=["url", "sha256"])
    return hash(tuple(sorted(row["sha256"] for row in table.to_pylist())))


@contextmanager
def _serving(photographs: Path, *, keeps: bool) -> Iterator[str]:
    """Run a server in a process of its own; yield its URL."""
    receiver, sender = get_context("spawn").Pipe(duplex=False)
    server = get_context("spawn").Process(target=_serve, args=(photographs, keeps, sender))
    server.start()
    try:
        yield f"http://127.0.0.1:{receiver.recv()}"
    finally:
        server.kill()
        server.join()


def _serve(photographs: Path, keeps: bool, sender: Connection) -> None:
    with tarfile.open(photographs) as tar:
        files = [tar.extractfile(member) for member in tar if member.name.endswith(".jpg")]
        images = [file.read() for file in files if file]

    async def photograph(request: web.Request) -> web.Response:
        number = int(request.path.strip("/").partition(".")[0])
        response = web.Response(body=images[number % len(images)], content_type="image/jpeg")
        if not keeps:
            response.force_close()
        return response

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/{name}", photograph)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        sender.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(serve())

"""What an index says, read with nothing of the loader's."""

import pyarrow.parquet as pq

from train.index import Data

Found = dict[str, tuple[bytes, list[list[str]]]]


def samples(data: Data) -> Found:
    """Return images and texts by key, read with nothing of the loader's."""
    found: Found = {}
    for unit in data.units:
        rows = pq.ParquetFile(unit.index).read_row_group(unit.index_group).to_pylist()
        if unit.shard.image:
            group = pq.ParquetFile(unit.shard.path).read_row_group(unit.group)
            images = group[unit.shard.image].to_pylist()
        for row in rows:
            key, at, size, *texts = row.values()
            if unit.shard.image:
                image = images[at]["bytes"] if isinstance(images[at], dict) else images[at]
            else:
                image = unit.shard.path.read_bytes()[at : at + size]
            found[key] = (image, texts)
    assert len(found) == data.num_samples
    return found


def texts(data: Data) -> dict[str, list[list[str]]]:
    return {key: several for key, (_, several) in samples(data).items()}

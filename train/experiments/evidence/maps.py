"""Lay embeddings out in a plane, as the paper's figures do: t-SNE."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.classes import classes_of

PERPLEXITY = 30
"""Source: van der Maaten and Hinton, "Visualizing data using t-SNE", JMLR 2008: 5 to 50."""


def lay_out(embeddings: Path, corpus: Path) -> list[dict[str, Any]]:
    """Return a place for each embedded picture of a sample, with what it shows.

    Args:
        embeddings: What `python -m train embed` wrote.
        corpus: The sample that was embedded.
    """
    from sklearn.manifold import TSNE  # it costs a second

    parts = sorted((embeddings / "img_emb").glob("*.npy"))
    vectors = np.concatenate([np.load(path) for path in parts]).astype(np.float32)
    keys: list[str] = []
    for path in sorted((embeddings / "metadata").glob("*.parquet")):
        keys += pq.read_table(path, columns=["image_path"])["image_path"].to_pylist()
    columns, truth = classes_of(corpus).columns, {}
    for path in sorted(corpus.glob("*.parquet")):
        for row in pq.read_table(path, columns=["key", *columns]).to_pylist():
            truth[row["key"]] = row
    few = min(PERPLEXITY, max(1, (len(vectors) - 1) // 3))
    plane: NDArray[np.float32] = TSNE(
        perplexity=few, metric="cosine", init="pca", random_state=0
    ).fit_transform(vectors)
    return [
        {"x": round(float(x), 2), "y": round(float(y), 2)}
        | {name: truth[key.rpartition("/")[2]][name] for name in columns}
        for key, (x, y) in zip(keys, plane, strict=True)
    ]

"""Classify by neighbours: is one of the nearest training images of the right class?"""

import numpy as np

from train.evaluation.encoder import Encoder
from train.evaluation.intervals import mean_interval
from train.evaluation.ranks import found_within
from train.evaluation.results import Result
from train.evaluation.retrieval import KS
from train.evaluation.splits import Splits, all_faults, features


def knn(encoder: Encoder, data: Splits) -> Result:
    """Measure Recall@K: the right label is among those of the K nearest training images.

    Source: ALIGN (arXiv:2102.05918), section 6.1, on ImageNet.
    """
    encode = encoder.encode_images
    train, validation, test = (
        features(encode, part) for part in (data.train, data.validation, data.test)
    )
    known = [train, validation] if data.held_out else [train]
    vectors = np.concatenate([part.vectors for part in known])
    labels = np.concatenate([part.labels for part in known])
    found = found_within(test.vectors, vectors, lambda rows: test.labels[rows, None] == labels, KS)
    found = np.nan_to_num(found)  # a class without a training image is never found
    return Result(
        dataset=data.train.name,
        task="knn",
        metrics={
            f"knn_recall@{k}": float(each.mean()) for k, each in zip(KS, found.T, strict=True)
        },
        intervals={
            f"knn_recall@{k}": mean_interval(each) for k, each in zip(KS, found.T, strict=True)
        },
        counts={
            "train": len(labels),
            "images": len(test.labels),
            "classes": len(data.test.classes),
        },
        faults=all_faults(*known, test),
    )

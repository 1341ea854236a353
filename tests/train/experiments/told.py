"""What an experiment could have gathered, made up."""

from typing import Any

SEEDS = (0, 1, 2)
ACCURACY = {"raw": 0.3, "itm": 0.6, "recaptioned": 0.7, "capfilt": 0.72, "clean": 0.9}


def run(arm: str, seed: int, accuracy: float | None, **changes: Any) -> dict[str, Any]:
    spurious = 0.25 if arm == "raw" else 0.02
    metrics = {"true_margin": 0.3, "spurious_margin": spurious, "silhouette": 0.1}
    groups = {
        group: {"acc1": accuracy and accuracy - less + 0.01 * seed, **metrics}
        for group, less in (("seen", 0.0), ("held-out", 0.2))
    }
    where = {"cell": "a", "title": "40% <noise>", "partner": 0.4, "other_image": 0.2, "clean": 400}
    made = {"steps": 100, "batch": 64, "vocabulary": "abc", "pairs": 10, "folder": "runs"}
    none = {"variant": None, "factor": None}
    return {**where, **made, **none, "arm": arm, "seed": seed, "metrics": groups} | changes


def told(**accuracy: float | None) -> dict[str, Any]:
    """Return an experiment of one cell, three seeds and five arms."""
    arms = ACCURACY | accuracy
    captions = {
        "precision": {"raw": 0.4, "synthetic": 0.9, "chosen": None},
        "auc": {"partner": 0.99, "noisy": 0.97},
        "raw_acceptance": 0.3,
        "synthetic_acceptance": 0.8,
        "unique": {"raw": 90, "synthetic": 50},
        "written": {"raw": 100, "synthetic": 100},
        "shares": {"partner": 0.4, "other_image": 0.2},
        "noise": {"true": 0.4, "partner": 0.41, "rows": 1000},
    }
    runs = [run(arm, seed, value) for seed in SEEDS for arm, value in arms.items()]
    points = [{"step": s, "seen": 0.5 + s / 1e4, "held-out": 0.4} for s in (25, 50, 75, 100)]
    return {
        "grid": {"name": "<b>made up</b>", "seeds": [*SEEDS], "images": "", "arms": [*arms]},
        "runs": runs,
        "captions": [{**runs[0], **captions, "seed": seed} for seed in SEEDS],
        "curves": [
            {
                "arm": arm,
                "loss": [{"step": s, "loss": 9 - s / 20} for s in (50, 100)],
                "accuracy": points,
            }
            for arm in arms
        ],
        "maps": {
            "raw": [
                {"x": 1.0, "y": 2.0, "colour": "red", "shape": "star"},
                {"x": 0.0, "y": 1.0, "colour": "blue", "shape": "moon"},
            ]
        },
        "environment": {"python": "3"},
        "altmill": "0",
    }

"""What papers tell of ALIGN, CLIP and their peers, in shares of 1, to be shown beside ours.

Source of all rows: ALIGN (arXiv:2102.05918), tables 1 to 8; those of CLIP are CLIP's
(arXiv:2103.00020) as ALIGN cites them.
"""

from dataclasses import dataclass

from train.evaluation.retrieval import KS


@dataclass(frozen=True, slots=True)
class Row:
    """Figures of one model on one data set."""

    model: str
    dataset: str
    metrics: dict[str, float]


def _retrieval(model: str, dataset: str, text: str, image: str) -> Row:
    """Make a row of R@1/5/10 in percent: of texts found for images, and the reverse."""
    return Row(
        model, dataset, _recalls("text_retrieval", text) | _recalls("image_retrieval", image)
    )


def _recalls(name: str, percents: str) -> dict[str, float]:
    return {
        f"{name}_recall@{k}": _share(value)
        for k, value in zip(KS, percents.split("/"), strict=True)
    }


def _cxc(model: str, *percents: str) -> Row:
    names = ("text_retrieval", "image_retrieval", "text_text_retrieval", "image_image_retrieval")
    metrics: dict[str, float] = {}
    for name, recalls in zip(names, percents, strict=True):
        metrics |= _recalls(name, recalls)
    return Row(model, "CxC", metrics)


def _correlations(model: str, percents: str) -> Row:
    names = ("sts_spearman", "sis_spearman", "sits_spearman", "mean_spearman")
    return Row(model, "CxC", dict(zip(names, map(_share, percents.split("/")), strict=True)))


def _share(percent: str) -> float:
    return float(percent) / 100


def _accuracy(model: str, dataset: str, percent: float, top_five: float | None = None) -> Row:
    more = {} if top_five is None else {"acc5": top_five / 100}
    return Row(model, dataset, {"acc1": percent / 100} | more)


ROWS: dict[str, tuple[Row, ...]] = {
    "zeroshot_classification": (
        _accuracy("CLIP", "ImageNet", 76.2),
        _accuracy("ALIGN", "ImageNet", 76.4),
        _accuracy("CLIP", "ImageNet-R", 88.9),
        _accuracy("ALIGN", "ImageNet-R", 92.2),
        _accuracy("CLIP", "ImageNet-A", 77.2),
        _accuracy("ALIGN", "ImageNet-A", 75.8),
        _accuracy("CLIP", "ImageNet-V2", 70.1),
        _accuracy("ALIGN", "ImageNet-V2", 70.1),
    ),
    "zeroshot_retrieval": (
        _retrieval("CLIP", "Flickr30K", "88.0/98.7/99.4", "68.7/90.6/95.2"),
        _retrieval("ALIGN", "Flickr30K", "88.6/98.7/99.7", "75.7/93.8/96.8"),
        _retrieval("ALIGN, fine-tuned", "Flickr30K", "95.3/99.8/100.0", "84.9/97.4/98.6"),
        _retrieval("CLIP", "COCO", "58.4/81.5/88.1", "37.8/62.4/72.2"),
        _retrieval("ALIGN", "COCO", "58.6/83.0/89.7", "45.6/69.8/78.6"),
        _retrieval("ALIGN, fine-tuned", "COCO", "77.0/93.5/96.9", "59.9/83.3/89.8"),
    ),
    "cxc_similarity": (
        _correlations("VSE++", "74.4/73.3/55.2/67.6"),
        _correlations("VSRN", "73.0/70.1/60.4/67.8"),
        _correlations("DE, I2T", "50.9/81.3/61.6/64.6"),
        _correlations("DE, T2T+I2T", "74.2/74.5/61.9/70.2"),
        _correlations("ALIGN, fine-tuned", "72.9/77.2/67.6/72.6"),
    ),
    "cxc_retrieval": (
        _cxc("VSE++", "43.1/74.3/84.2", "32.5/62.7/75.4", "38.7/62.3/72.2", "36.4/70.4/81.3"),
        _cxc("VSRN", "52.4/81.9/90.0", "40.1/71.1/81.5", "41.0/64.8/74.5", "44.2/76.7/86.2"),
        _cxc("DE, I2T", "53.9/82.7/91.2", "39.8/70.2/80.9", "26.0/47.1/57.5", "38.3/74.1/85.0"),
        _cxc("DE, T2T+I2T", "55.9/84.2/91.8", "41.7/72.3/83.0", "42.4/64.9/74.0", "38.5/73.6/84.9"),
        _cxc(
            "ALIGN, fine-tuned",
            "78.1/94.3/97.4",
            "61.8/84.9/91.1",
            "45.4/66.8/75.2",
            "49.4/81.4/89.1",
        ),
    ),
    "linear_probe": (
        _accuracy("CLIP ViT-L/14", "ImageNet", 85.4),
        _accuracy("ALIGN", "ImageNet", 85.5),
    ),
    "knn": (Row("ALIGN B5 + BERT-Base", "ImageNet", {"knn_recall@1": 0.646}),),
    "vtab_mean": (
        Row("BiT-L", "VTAB", {"mean_acc1": 0.7872}),
        Row(
            "ALIGN",
            "VTAB",
            {
                "mean_acc1": 0.7999,
                "natural_acc1": 0.8338,
                "specialized_acc1": 0.8756,
                "structured_acc1": 0.7325,
            },
        ),
    ),
    "fine_tuning": (
        _accuracy("ALIGN", "ImageNet", 88.64, 98.67),
        _accuracy("ALIGN", "Oxford Flowers", 99.65),
        _accuracy("ALIGN", "Oxford Pets", 96.19),
        _accuracy("ALIGN", "Stanford Cars", 96.13),
        _accuracy("ALIGN", "Food101", 95.88),
    ),
}
"""By task."""

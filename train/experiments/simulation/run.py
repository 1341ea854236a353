"""Run all trials of the simulation, and the sweeps over what the paper leaves open."""

import multiprocessing
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from filters.rule import RecipeError
from recaption.files import replacing, write_json
from recaption.workers import end_with_parent
from train.experiments.simulation.pairs import matmul_dtype
from train.experiments.simulation.setting import Setting
from train.experiments.simulation.stopping import LONGER
from train.experiments.simulation.summary import MAIN, summarise
from train.experiments.simulation.trial import Outcome, Trial

CONTROL_TRIALS, SWEEP_TRIALS = 4, 2
"""At most: of the main trials, those with controls; of each sweep."""
FEW = (0.0, 0.3, 0.5)
"""The shares of spurious features in controls and sweeps; the nearest of the setting's."""
TIMES_LONGER = 2
"""Times the steps, to see what more of them do."""


@dataclass(frozen=True, slots=True)
class Job:
    """One trial of one variant."""

    variant: str
    setting: Setting
    seed: int
    trial: int
    controls: tuple[float, ...]
    device: str

    def __call__(self) -> Outcome:
        return Trial(self.setting, self.seed, self.trial, self.device).run(self.controls)


def variants(setting: Setting) -> dict[str, Setting]:
    """Return a setting with few worlds, and with each open choice made in other ways."""
    few = replace(setting, spurious=nearest(FEW, setting.spurious))
    return {
        LONGER: replace(few, steps=TIMES_LONGER * setting.steps),
        "first weights x 1/9": replace(few, initial_deviation=setting.initial_deviation / 9),
        "first weights x 3.6": replace(few, initial_deviation=setting.initial_deviation * 3.6),
        "one partner": replace(few, num_partners=1),
        "all others as partners": replace(few, num_partners=setting.num_features - 1),
        "shifted unit": replace(few, unit="shifted"),
        "captioner with 1/4 of the steps": replace(
            few, caption_steps=-(-setting.caption_steps // 4)
        ),
    }


def nearest(wanted: Iterable[float], shares: tuple[float, ...]) -> tuple[float, ...]:
    """Return those of the shares that are nearest to some that are wanted, in their order."""
    found = {min(shares, key=lambda share: abs(share - one)) for one in wanted}
    return tuple(sorted(found))


def plan(setting: Setting, trials: int, seed: int, device: str) -> list[Job]:
    """Return all jobs, the longest first."""
    few = nearest(FEW, setting.spurious)
    jobs = [
        Job(name, varied, seed, trial, few if name == LONGER else (), device)
        for name, varied in variants(setting).items()
        for trial in range(min(trials, SWEEP_TRIALS))
    ]
    main = [
        Job(MAIN, setting, seed, trial, few if trial < CONTROL_TRIALS else (), device)
        for trial in range(trials)
    ]
    cut = min(trials, SWEEP_TRIALS)
    return [*jobs[:cut], *main, *jobs[cut:]]


def simulate(
    setting: Setting, out: Path, *, trials: int, seed: int = 0, device: str = ""
) -> dict[str, Any]:
    """Run the simulation, and write `simulation.json`, `trials.parquet`, `captions.parquet`.

    Args:
        setting: What every trial is made of.
        out: The folder.
        trials: Of the main figure; controls and sweeps have fewer.
        seed: Of all random numbers.
        device: As torch names it; empty: a GPU where there is one.

    Returns:
        What `simulation.json` says.

    Raises:
        RecipeError: There is no trial to run, or no such device.
    """
    if trials < 2:
        raise RecipeError(f"--trials must be 2 or more, got {trials}; intervals need several")
    if seed < 0:
        raise RecipeError(f"--seed must be 0 or more, got {seed}; correct it")
    device = _device(device)
    jobs = plan(setting, trials, seed, device)
    outcomes = list(tqdm(_run(jobs, device), total=len(jobs), desc="trials", file=sys.stderr))
    rows = [
        {"variant": job.variant, "trial": job.trial, **row}
        for job, outcome in zip(jobs, outcomes, strict=True)
        for row in outcome.rows
    ]
    captions = [
        {"variant": job.variant, "trial": job.trial, **row}
        for job, outcome in zip(jobs, outcomes, strict=True)
        for row in outcome.captions
    ]
    _write_table(rows, out / "trials.parquet")
    _write_table(captions, out / "captions.parquet")
    told = {
        "seed": seed,
        "trials": trials,
        "device": device,
        "matmul": str(matmul_dtype(torch.device(device))).removeprefix("torch."),
        "torch": torch.__version__,
        "setting": asdict(setting),
        **summarise(rows, captions),
        **_shown([one for job, one in zip(jobs, outcomes, strict=True) if job.variant == MAIN]),
    }
    write_json(out / "simulation.json", told)
    return told


def _device(name: str) -> str:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RecipeError(
            f"--device must be one that torch has, got {name} ({str(error).splitlines()[0]}); "
            "leave it out"
        ) from None
    return str(device)


def _run(jobs: list[Job], device: str) -> Iterable[Outcome]:
    """Run jobs: side by side on one core each, or one by one on a GPU."""
    if device != "cpu":
        yield from (job() for job in jobs)
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ProcessPoolExecutor(
        min(cores or 1, len(jobs)),
        multiprocessing.get_context("spawn"),
        _start_worker,
    ) as pool:
        yield from pool.map(Job.__call__, jobs)


def _start_worker() -> None:
    torch.set_num_threads(1)
    end_with_parent()


def _write_table(rows: list[dict[str, Any]], path: Path) -> None:
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)


def _shown(outcomes: list[Outcome]) -> dict[str, Any]:
    """Return what is drawn: neurons of all trials, and the images of the first."""
    first = outcomes[0]
    counts = {
        arm: np.sum([one.histograms[arm] for one in outcomes], axis=0)[0].tolist()
        for arm in first.histograms
    }
    return {
        "histograms": counts,
        "maps": {arm: draw_map(space) for arm, space in first.spaces.items()},
        "labels": first.labels.tolist(),
    }


def draw_map(vectors: NDArray[np.float32]) -> list[list[float]]:
    """Lay embeddings out in two dimensions by t-SNE, by cosine distance, seeded."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(vectors) - 1) / 3)
    with threadpool_limits(1):
        laid = TSNE(perplexity=perplexity, metric="cosine", random_state=0).fit_transform(vectors)
    return [[round(float(x), 2), round(float(y), 2)] for x, y in laid]

"""Distances of distributions: as the formulas have them, and scipy on the values themselves."""

import math

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from pipelines.drift import LARGE, SOME, Drift, of_categories, of_histogram, stability


def counted(values: np.ndarray, edges: np.ndarray) -> list[int]:
    return [*np.histogram(values, edges)[0].tolist(), 0]


def drift(a: list[int], b: list[int], edges: list[float], scale: str = "linear") -> Drift:
    return of_histogram(("size", "all"), edges, scale, a, b)


def test_the_index_is_its_formula() -> None:
    a, b = [60, 30, 10], [40, 40, 20]

    found, _ = stability(np.array(a, float), np.array(b, float))

    assert found == pytest.approx(
        sum((y - x) / 100 * math.log(y / x) for x, y in zip(a, b, strict=True))
    )
    assert found == of_categories(("kind", "all"), dict(zip("xyz", a)), dict(zip("xyz", b))).psi  # noqa: B905


def test_groups_have_as_many_rows_of_the_first_run_each() -> None:
    generator = np.random.default_rng(0)
    edges = np.arange(0, 101.0)
    a, b = (generator.uniform(0, 100, 50_000) for _ in range(2))
    b = 10 * np.sqrt(b)

    found = drift(counted(a, edges), counted(b, edges), edges.tolist())

    deciles = np.quantile(a, np.linspace(0, 1, 11))
    shares = [np.histogram(side, deciles)[0] / len(side) for side in (a, b)]
    shares[1] = np.maximum(shares[1], 0.5 / len(b))
    plain = ((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum()
    assert found.psi == pytest.approx(plain, rel=0.03)


def test_what_chance_makes_is_as_said() -> None:
    generator = np.random.default_rng(1)
    shares = np.full(8, 1 / 8)
    beyond = 0
    for _ in range(2000):
        a, b = generator.multinomial(1000, shares), generator.multinomial(3000, shares)
        psi, chance = stability(a.astype(float), b.astype(float))
        beyond += psi > chance
    assert 0.03 < beyond / 2000 < 0.07


def test_the_wasserstein_distance_is_that_of_the_values_to_a_bin() -> None:
    generator = np.random.default_rng(2)
    edges = np.arange(0, 66.0)
    a, b = (generator.poisson(mean, 3000).astype(float) for mean in (8, 11))

    found = drift(counted(a, edges), counted(b, edges), edges.tolist())

    assert found.wasserstein == pytest.approx(wasserstein_distance(a, b))  # bins of one number each
    assert found.unit == "size"
    assert found.reading == "large"


def test_on_a_log_scale_it_is_in_doublings() -> None:
    edges = (2.0 ** np.arange(0, 12)).tolist()
    a = [0, 0, 90, 10, *[0] * 7, 3]
    b = [0, 0, 0, 0, 90, 10, *[0] * 5, 3]

    found = drift(a, b, edges, "log")

    assert (found.wasserstein, found.unit) == (pytest.approx(2), "doublings")


def test_rows_without_a_value_are_a_group_of_the_index_and_of_no_distance() -> None:
    edges = [0.0, 1.0, 2.0]

    missing = drift([50, 50, 0], [25, 25, 50], edges)
    nowhere = drift([0, 0, 9], [0, 0, 9], edges)
    one_side = drift([50, 50, 0], [0, 0, 9], edges)

    assert missing.wasserstein == pytest.approx(0)
    assert missing.psi > LARGE
    assert (nowhere.psi, nowhere.wasserstein, nowhere.reading) == (0, None, "chance")
    assert one_side.wasserstein is None


@pytest.mark.parametrize(
    ("psi", "chance", "reading"),
    [
        (0.0, 0.0, "chance"),
        (0.3, 0.4, "chance"),
        (SOME - 0.01, 0.01, "small"),
        (SOME, 0.01, "some"),
        (LARGE, 0.01, "some"),
        (LARGE + 0.01, 0.01, "large"),
    ],
)
def test_the_index_is_read_by_siddiqis_rule(psi: float, chance: float, reading: str) -> None:
    assert Drift("x", "all", psi, chance, None, "").reading == reading

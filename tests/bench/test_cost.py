"""The bench finds the constants again that made up runs were made with."""

from pipelines.cost import QUANTITIES, STAGES, choose_volumes, mapped_bytes
from pipelines.volumes import Heaps
from tests.bench.cost import CASES, Measured, compare, fit

HEAPS = Heaps(3.0, 0.85)


def made_up() -> list[Measured]:
    """Return runs that cost what the volumes say, each a thousandth of a second and a byte."""
    runs = []
    for case in CASES:
        occurrences = (2 * case.words - 1) * case.rows
        run = Measured(
            case=case,
            partitions=case.partitions or 8,
            occurrences=occurrences,
            distinct=HEAPS.distinct(occurrences),
            image_bytes=5e4 * (case.width_px / 640) ** 2,
            decoded=0.9,
            kept=0.8,
            stages={},
            seconds=1.0,
            disk=1.0,
        )
        volumes = run.volumes(HEAPS)
        for stage, work in STAGES.items():
            run.stages[stage] = {
                name: sum(choose_volumes(work, volumes, name).values()) * scale
                for name, scale in zip(QUANTITIES, (0.001, 1e3, 1e3, 1e3), strict=True)
            }
            run.stages[stage]["peak_bytes"] += mapped_bytes(work, volumes)
        runs.append(run)
    return runs


def test_constants_of_made_up_runs_are_found_again() -> None:
    runs = made_up()

    constants = fit(runs)

    assert [round(value, 3) for value in constants.heaps] == [3.0, 0.85]
    for run in runs:
        volumes = run.volumes(constants.heaps)
        for stage, cost in constants.predict(volumes).items():
            for name in QUANTITIES:
                got = run.stages[stage][name]
                assert abs(getattr(cost, name) - got) <= 0.02 * got + 0.1, (stage, name)


def test_what_was_measured_stands_beside_what_was_said() -> None:
    runs = made_up()

    (line,) = compare(fit(runs), runs[1])

    assert line.startswith("1,000,000 rows")
    assert line.count("+0%") + line.count("-0%") == 4

"""Local processes: each item once, and a process that dies takes nothing with it."""

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pipelines.bundles import bundle
from pipelines.exchange import Stage
from pipelines.inputs import Shard
from pipelines.local import WorkerError, perform_all
from tests import tasks
from tests.stages import run_in

NAMES = [f"{i:05d}" for i in range(5)]


def told(results: dict[str, Any], what: str) -> list[Any]:
    return [results[name][what] for name in sorted(results)]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_item_is_worked_on_once(workers: int, tmp_path: Path) -> None:
    run = run_in(tmp_path, workers=workers)

    results = dict(perform_all(run, Stage("Tell", tasks.tell), range(5)))

    assert told(results, "item") == NAMES
    assert told(results, "isolated") == [False] * 5
    assert (os.getpid() in told(results, "pid")) == (workers == 1)
    assert tasks.worked(run) == NAMES


def test_what_is_done_is_not_worked_on_again(tmp_path: Path) -> None:
    run = run_in(tmp_path, workers=2)
    first = dict(perform_all(run, Stage("Tell", tasks.tell), range(3)))

    second = dict(perform_all(run, Stage("Tell", tasks.tell), range(5)))

    assert tasks.worked(run) == NAMES
    assert {name: second[name] for name in first} == first


def test_one_item_alone_needs_no_other_process(tmp_path: Path) -> None:
    run = run_in(tmp_path, workers=2)

    results = dict(perform_all(run, Stage("Tell", tasks.tell), [0]))

    assert told(results, "pid") == [os.getpid()]


def test_nothing_to_do_is_done(tmp_path: Path) -> None:
    assert list(perform_all(run_in(tmp_path, workers=2), Stage("Tell", tasks.tell), [])) == []


def test_a_process_that_dies_loses_no_item(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_in(tmp_path, workers=2)

    results = list(perform_all(run, Stage("Die", tasks.die_once), range(5)))

    assert sorted(name for name, _ in results) == NAMES
    assert told(dict(results), "item") == NAMES
    assert dict(results)["00001"]["isolated"] is True
    assert set(tasks.worked(run)) == set(NAMES)  # one may have been at work when its pool broke
    assert [r.getMessage().split("; ")[0] for r in caplog.records if r.levelname == "WARNING"] == [
        "a worker process died during Die"
    ]


def test_after_a_process_died_the_next_stage_has_new_ones(tmp_path: Path) -> None:
    run = run_in(tmp_path, workers=2)
    list(perform_all(run, Stage("Die", tasks.die_once), range(5)))

    results = dict(perform_all(run, Stage("Tell", tasks.tell), range(5)))

    assert told(results, "isolated") == [False] * 5


def test_an_item_that_always_kills_its_process_is_named(tmp_path: Path) -> None:
    run, stage = run_in(tmp_path, workers=2), Stage("Die", tasks.die_always)

    with pytest.raises(WorkerError) as error:
        list(perform_all(run, stage, range(5)))
    before = tasks.worked(run)
    (tmp_path / "mended").touch()
    results = dict(perform_all(run, stage, range(5)))

    assert str(error.value) == (
        "Die of 00001 must end, but its process was killed twice; look for an out-of-memory kill, "
        "use fewer --workers or smaller shards, and run the same command again: it goes on from "
        "here"
    )
    assert "00001" not in before
    assert told(results, "item") == NAMES
    assert set(tasks.worked(run)) == set(NAMES)  # one may have been at work when its pool broke


def test_an_image_that_aborts_its_decoder_is_an_answer(tmp_path: Path) -> None:
    run = run_in(tmp_path, workers=2)

    results = dict(perform_all(run, Stage("Look", tasks.abort_at_images), range(3)))

    assert results == dict.fromkeys(NAMES[:3], "image_undecodable")


def test_a_task_that_fails_stops_those_that_wait(tmp_path: Path) -> None:
    run = run_in(tmp_path, workers=2)

    with pytest.raises(ValueError, match=r"^item 0 will not do$"):
        list(perform_all(run, Stage("Fail", tasks.fail_first), range(20)))
    at_once = len(tasks.worked(run))
    time.sleep(1.5)

    assert (at_once < 4, len(tasks.worked(run)) < 8) == (True, True)
    results = dict(perform_all(run, Stage("Tell", tasks.tell), range(5)))  # the processes live on
    assert told(results, "item") == NAMES


def test_who_stops_listening_stops_those_that_wait(tmp_path: Path) -> None:
    run = run_in(tmp_path, workers=2)
    results = perform_all(run, Stage("Slow", tasks.tell_slowly), range(20))

    next(results)
    results.close()  # type: ignore[attr-defined]  # it is a generator
    time.sleep(1.5)

    assert len(tasks.worked(run)) < 10


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(("last", "said"), [(250, "1,750 of 1,750 rows"), (None, "3 of 3 shards")])
def test_progress_is_told_in_rows_where_all_shards_say_how_many_they_have(
    last: int | None,
    said: str,
    together: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "altmill")
    shards = [
        Shard(name=str(i), kind="metadata", columns={}, rows=rows)
        for i, rows in enumerate([1000, 500, last])
    ]

    items = bundle(shards, 1500) if together else shards
    list(perform_all(run_in(tmp_path), Stage("Tell", tasks.tell), items))

    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"Tell: {said}, ")
    assert line.endswith(" a second, 0 s left")

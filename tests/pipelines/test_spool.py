"""A spool that was cut anywhere has its first rows whole, and takes the others."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.spool import Fetched, read_spool, spooling

ROWS = {
    7: Fetched({"status": "success"}, b"\xff\xd8" + b"a" * 700),
    2: Fetched({"status": "failed_to_download", "error_message": "http_404"}, None),
    10: Fetched({"status": "success"}, b"\0" * 512),
    0: Fetched({"status": "success"}, b"b"),
}


def read_back(path: Path) -> dict[int, Fetched]:
    with spooling(path) as spool:
        rows = sorted(spool.rows)
    with read_spool(path) as read:
        return {row: read(row) for row in rows}


@given(share=st.floats(0, 1))
def test_what_was_cut_off_can_be_added_again(
    share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("spool") / "work" / "00000.tar"
    with spooling(path) as spool:
        for row, fetched in ROWS.items():
            spool.add(row, fetched)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(int(share * size))

    with spooling(path) as spool:
        left = [row for row in ROWS if row in spool.rows]
        for row in [*ROWS][len(left) :]:
            spool.add(row, ROWS[row])

    assert left == [*ROWS][: len(left)]
    assert share < 1 or len(left) == len(ROWS)
    assert read_back(path) == ROWS

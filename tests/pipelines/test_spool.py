"""A spool that was cut anywhere has its first rows whole, and takes the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.spool import Fetched, spooling

ROWS = {
    7: Fetched({"status": "success"}, b"\xff\xd8" + b"a" * 700),
    2: Fetched({"status": "failed_to_download", "error_message": "http_404"}, None),
    10: Fetched({"status": "success"}, b"\0" * 512),
    0: Fetched({"status": "success"}, b"b"),
}


@given(share=st.floats(0, 1))
def test_what_was_cut_off_can_be_added_again(
    share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("spool") / "work" / "00000.spool"
    with spooling(path) as spool:
        for row, fetched in ROWS.items():
            spool.add(row, fetched)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(int(share * size))

    with spooling(path) as spool:
        left = [row for row in ROWS if row in spool]
        for row in [*ROWS][len(left) :]:
            spool.add(row, ROWS[row])

    assert left == [*ROWS][: len(left)]
    assert share < 1 or len(left) == len(ROWS)
    with spooling(path) as spool:
        assert {row: spool.read(row) for row in range(99) if row in spool} == ROWS

"""Near hashes are linked exactly as by comparing all of them, whatever they share."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines import near
from pipelines.bands import Band, deal_bits, plan_bands, rearrange
from pipelines.forest import Forest, join_all
from pipelines.near import Crowd, Search

Hashes = NDArray[np.uint64]


def groups_plainly(hashes: list[int], most: int) -> list[int]:
    """Return the place of the first hash of each one's group: all pairs, and union-find."""
    parents = list(range(len(hashes)))

    def root(at: int) -> int:
        while parents[at] != at:
            at = parents[at]
        return at

    for at, one in enumerate(hashes):
        for before in range(at):
            if (one ^ hashes[before]).bit_count() <= most:
                ends = sorted((root(at), root(before)))
                parents[ends[1]] = ends[0]
    return [root(at) for at in range(len(hashes))]


def as_words(hashes: list[int], words: int) -> Hashes:
    parts = [[one >> 64 * n & (2**64 - 1) for n in range(words)] for one in hashes]
    return np.array(parts, np.uint64).reshape(-1, words)


@st.composite
def hashes(draw: st.DrawFn, words: int) -> list[int]:
    """Choose distinct hashes: any, chains of small steps, and bands that many share."""
    bits = 64 * words
    found = draw(st.lists(st.integers(0, 2**bits - 1), max_size=8))
    for _ in range(draw(st.integers(0, 30))):
        start = draw(st.sampled_from(found or [0]))
        flipped = draw(st.lists(st.integers(0, bits - 1), min_size=1, max_size=9))
        found.append(start ^ sum({1 << bit for bit in flipped}))
    if found and draw(st.booleans()):
        shared, rng = draw(st.sampled_from(found)), draw(st.randoms(use_true_random=False))
        kept = sum(1 << rng.randrange(bits) for _ in range(bits // 2))
        others = [rng.getrandbits(bits) for _ in range(30)]
        found += [shared & kept | other & ~kept & 2**bits - 1 for other in others]
    return list(dict.fromkeys(found))


def link_by_bands(words: Hashes, most: int) -> list[int]:
    """Link hashes band by band, as a run does, in slices of two keys' bits."""
    forest = Forest(len(words))
    for band in plan_bands(len(words) * 16, words.shape[1] * 64, most):
        order = np.argsort(band.keys(words[:, band.word]), kind="stable")
        here = words[order]
        search = Search(band, here[:, band.word].copy(), here.__getitem__, most)
        part = Forest(len(words))
        for first in range(0, 1 << band.width, 4):
            search.link(part, first, min(first + 4, 1 << band.width))
        part.settle()
        forest.link(order, order[part.labels])
    forest.settle()
    return forest.labels.tolist()


@pytest.mark.parametrize("crowds", ["none", "many", "only crowds"])
@pytest.mark.parametrize(("words", "most"), [(1, 0), (1, 3), (1, 8), (1, 15), (4, 31), (4, 63)])
@settings(max_examples=40)
@given(data=st.data())
def test_hashes_are_grouped_as_by_all_pairs(
    crowds: str, words: int, most: int, data: st.DataObject
) -> None:
    drawn = data.draw(hashes(words))
    expected = groups_plainly(drawn, most)
    with pytest.MonkeyPatch.context() as patch:
        if crowds != "none":
            patch.setattr(near, "_CROWD", 8)
            patch.setattr(near, "_DENSE", 2)
            patch.setattr(near, "_SAMPLE", 2)
        if crowds == "only crowds":
            patch.setattr(near, "pairs", lambda *_: 0)

        found = link_by_bands(as_words(drawn, words), most)
        crowd = Crowd(as_words(drawn, words), most).link(np.arange(len(drawn))) if drawn else []

    assert found == expected
    assert list(crowd) == expected


@given(
    hashes_=st.integers(1, 10**9),
    bits=st.integers(1, 256),
    most=st.integers(0, 63),
    data=st.data(),
)
def test_of_two_near_hashes_one_chunk_is_within_its_radius(
    hashes_: int, bits: int, most: int, data: st.DataObject
) -> None:
    bands = plan_bands(hashes_, bits, most)
    apart = data.draw(st.sets(st.integers(0, bits - 1), max_size=most))

    assert any(_flipped(band, apart) <= band.radius for band in bands)
    covered = sorted(band.word * 64 + band.low + n for band in bands for n in range(band.chunk))
    assert covered == list(range(bits))


def _flipped(band: Band, bits: set[int]) -> int:
    low = band.word * 64 + band.low
    return sum(low <= bit < low + band.width for bit in bits)


@given(st.lists(st.integers(0, 2**128 - 1), min_size=2, max_size=20, unique=True))
def test_dealt_bits_are_those_that_vary_and_distances_stay(drawn: list[int]) -> None:
    words = as_words(drawn, 2)
    ones = np.array([sum(one >> bit & 1 for one in drawn) for bit in range(128)])
    varying = int(((ones > 0) & (ones < len(drawn))).sum())
    bands = plan_bands(len(drawn), varying, 5)

    new = rearrange(words, deal_bits(ones, len(drawn), bands))

    apart = [int(np.bitwise_count(new[0] ^ row).sum()) for row in new]
    assert apart == [(drawn[0] ^ one).bit_count() for one in drawn]


@pytest.mark.parametrize(("shared_words", "share"), [(1, 0.25), (2, 0.6), (3, 0.02)])
def test_a_crowd_that_shares_a_band_is_not_all_its_pairs(
    shared_words: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(shared_words)
    words = rng.integers(0, 2**64, (100_000, 4), dtype=np.uint64)
    words[:, :shared_words] = 7
    words[1:2000:2] = words[:2000:2]
    words[1:2000:2, 3] ^= np.uint64(0x7FFFFFFF)  # 31 bits
    compared = 0
    count = np.bitwise_count

    def counting(apart: Hashes) -> Hashes:
        nonlocal compared
        compared += apart.size
        return count(apart)

    monkeypatch.setattr(near.np, "bitwise_count", counting)

    labels = Crowd(words, 31).link(np.arange(len(words)))

    assert (labels[1:2000:2] == labels[:2000:2]).all()
    assert compared < share * len(words) ** 2 / 2


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40),
    st.integers(1, 7),
)
def test_links_are_joined_in_one_pass_in_any_parts(links: list[tuple[int, int]], part: int) -> None:
    labels = np.arange(31)
    cut = [links[at : at + part] for at in range(0, len(links), part)]

    join_all(labels, (tuple(np.array(p, np.int64).reshape(-1, 2).T) for p in cut))  # type: ignore[misc]

    expected = list(range(31))
    for _ in expected:
        for left, right in links:
            expected[left] = expected[right] = min(expected[left], expected[right])
    assert labels.tolist() == expected

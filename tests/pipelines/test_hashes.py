"""Hashes: bit for bit those of imagehash and pdqhash, and at a reduced scale close to them."""

import io
import tarfile
import warnings
from collections.abc import Iterator

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageOps

from pipelines.hashes import MIN_QUALITY, dihedral, hashes, packed, shrink
from pipelines.images import decodes, read_header
from tests.shards import SHARED_DATA, photo, picture

LIMIT = 178_956_970
REALALT = SHARED_DATA / "realalt"
JPEG, PNG = b"\xff\xd8", b"\x89PNG"
SIZES = [(320, 240), (64, 64), (129, 65), (1000, 7), (20, 333), (5, 5), (640, 481), (1, 1)]


def bits_apart(a: str, b: str) -> int:
    return (int(a, 16) ^ int(b, 16)).bit_count()


def real_images(magic: bytes) -> Iterator[bytes]:
    """Yield images of realalt of one format."""
    for path in sorted(REALALT.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                image = file.read() if file else b""
                if image.startswith(magic):
                    yield image


def oriented(orientation: int, quality: int = 95) -> bytes:
    """Return a JPEG whose EXIF says how it is to be turned upright."""
    image = Image.open(io.BytesIO(photo(1)))
    exif = image.getexif()
    exif[274] = orientation
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("size", SIZES)
def test_exact_phash_is_imagehashs(size: tuple[int, int], kind: str) -> None:
    image = photo(sum(size), *size, kind)

    grids = shrink(image, LIMIT, exact=True)

    assert grids is not None
    assert hashes(grids).phash == str(imagehash.phash(Image.open(io.BytesIO(image))))


@pytest.mark.parametrize("size", SIZES)
def test_exact_pdq_is_pdqhashs(size: tuple[int, int]) -> None:
    pdqhash = pytest.importorskip("pdqhash", reason="needs a compiler to be installed")
    image = photo(sum(size), *size)
    pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))

    grids = shrink(image, LIMIT, exact=True)
    vector, quality = pdqhash.compute(pixels)

    assert grids is not None
    assert hashes(grids).pdq == np.packbits(vector > 0).tobytes().hex()
    assert hashes(grids).pdq_quality == quality


def test_known_hashes() -> None:
    """What pdqhash 0.2.8 and imagehash 4.3.2 said, for machines where they cannot be asked."""
    grids = shrink(photo(7, kind="PNG"), LIMIT, exact=True)

    assert grids is not None
    assert hashes(grids) == (
        "e963c5a19342b57a",
        "56fcab4da779444d24e1e7543f2af985e8dd3b272f164e21a0c478c29611fa43",
        83,
    )


@pytest.mark.skipif(not REALALT.exists(), reason="needs the shared data")
@pytest.mark.parametrize("magic", [JPEG, PNG])
def test_exact_hashes_of_real_images(magic: bytes) -> None:
    compared = 0
    for image in list(real_images(magic))[:400:8]:
        grids = shrink(image, LIMIT, exact=True)
        if grids is None:
            continue
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(image)) as opened:
            expected = imagehash.phash(ImageOps.exif_transpose(opened))
        assert hashes(grids).phash == str(expected)
        compared += 1

    assert compared > 20


@pytest.mark.skipif(not REALALT.exists(), reason="needs the shared data")
def test_fast_hashes_agree_with_exact_ones() -> None:
    """The measured agreement: mean 0.5 bits of 64 and 4 of 256, p99 12 and 22."""
    apart = []
    for image in list(real_images(JPEG))[::3]:
        header = read_header(image, LIMIT)
        if header.error or min(header.width or 0, header.height or 0) <= 200:
            continue
        fast, exact = (shrink(image, LIMIT, exact=mode) for mode in (False, True))
        if fast is None or exact is None or hashes(exact).pdq_quality < MIN_QUALITY:
            continue
        a, b = hashes(fast), hashes(exact)
        apart.append((bits_apart(a.phash, b.phash), bits_apart(a.pdq, b.pdq)))
    bits = np.array(apart)

    assert len(bits) > 100
    assert (bits.mean(axis=0) < (0.8, 5.5)).all()
    assert (np.percentile(bits, 95, axis=0) <= (4, 14)).all()


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_honoured(orientation: int, exact: bool) -> None:
    turned = oriented(orientation)
    upright = io.BytesIO()
    ImageOps.exif_transpose(Image.open(io.BytesIO(turned))).save(upright, "PNG")

    found, expected = (
        shrink(turned, LIMIT, exact=exact),
        shrink(upright.getvalue(), LIMIT, exact=True),
    )

    assert found is not None
    assert expected is not None
    assert bits_apart(hashes(found).phash, hashes(expected).phash) <= (0 if exact else 4)
    assert bits_apart(hashes(found).pdq, hashes(expected).pdq) <= (2 if exact else 12)


def test_variants_are_the_hashes_of_flipped_and_turned_images() -> None:
    image = Image.open(io.BytesIO(photo(3)))
    found = dihedral(photo(3), LIMIT)
    assert found is not None
    variants = [hashes(variant) for variant in found]

    for method in Image.Transpose:
        file = io.BytesIO()
        image.transpose(method).save(file, "PNG")
        turned = shrink(file.getvalue(), LIMIT, exact=True)
        assert turned is not None
        assert min(bits_apart(hashes(turned).phash, v.phash) for v in variants) <= 2
        assert hashes(turned).pdq in {variant.pdq for variant in variants}
    grids = shrink(photo(3), LIMIT, exact=True)
    assert grids is not None
    assert variants[0] == hashes(grids)
    assert len({v.pdq for v in variants}) == 8


def test_other_scenes_are_far_apart() -> None:
    found = [shrink(photo(seed), LIMIT, exact=False) for seed in range(40)]
    made = [hashes(grids) for grids in found if grids is not None]

    apart = [bits_apart(a.pdq, b.pdq) for a in made for b in made if a != b]

    assert len(made) == 40
    assert min(apart) > 63


def test_flat_images_have_no_quality() -> None:
    for image in (picture(300, 200, "JPEG"), photo(1, 4, 9), photo(2, 300, 4)):
        for exact in (True, False):
            grids = shrink(image, LIMIT, exact=exact)
            assert grids is not None
            assert hashes(grids).pdq_quality < MIN_QUALITY


def test_what_has_no_luminance_is_decoded_whole() -> None:
    for mode, options in (("CMYK", {}), ("RGB", {"keep_rgb": True}), ("L", {})):
        file = io.BytesIO()
        Image.open(io.BytesIO(photo(5))).convert(mode).save(file, "JPEG", **options)

        fast, exact = (shrink(file.getvalue(), LIMIT, exact=e) for e in (False, True))

        assert fast is not None
        assert exact is not None
        assert bits_apart(hashes(fast).pdq, hashes(exact).pdq) <= 12


def test_damaged_images_have_no_hashes() -> None:
    whole = photo(4)
    for damaged in (whole[: len(whole) // 2], whole[:20], b"", b"GIF89a", bytes(1000)):
        for exact in (True, False):
            assert shrink(damaged, LIMIT, exact=exact) is None


@pytest.mark.skipif(not (SHARED_DATA / "badimg").exists(), reason="needs the shared data")
def test_hashing_finds_the_same_images_damaged_as_decoding() -> None:
    files = [p for p in (SHARED_DATA / "badimg").rglob("*") if p.suffix != ".jsonl" and p.is_file()]
    compared = 0
    for path in files:
        image = path.read_bytes()
        if read_header(image, 10**8).error:
            continue
        compared += 1
        assert (shrink(image, 10**8, exact=False) is not None) == decodes(image, 10**8), path.name

    assert compared > 500


def test_packed_hashes_keep_their_bits() -> None:
    assert packed(["0000000000000001", "8000000000000000"], 64).tolist() == [[1], [1 << 63]]
    assert packed([], 256).shape == (0, 4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("tail", [b"", b"II*\0\xff\xff\xff\x7f", b"MM\0*" + b"\xff" * 40])
def test_damaged_exif_does_not_damage_an_image(kind: str, tail: bytes) -> None:
    file = io.BytesIO()
    Image.open(io.BytesIO(photo(6))).save(file, kind, exif=b"Exif\0\0" + tail)

    for exact in (True, False):
        assert shrink(file.getvalue(), LIMIT, exact=exact) is not None

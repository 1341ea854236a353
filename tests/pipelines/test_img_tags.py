"""What is found in a page, beside what other parsers find."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import process_time
from urllib.parse import urljoin

import pytest
from bs4 import BeautifulSoup, Tag

from pipelines.charset import decode
from pipelines.img_tags import (
    MAX_ATTRIBUTES,
    MAX_IMAGES,
    MAX_TEXT_CHARACTERS,
    Found,
    Image,
    PageError,
    clean,
    images_in_html,
    images_in_links,
    pixels,
)

HTML = Path(__file__).parents[3] / "shared" / "data" / "html"
PAGE = "https://shop.example/a/b.html"


def found(html: str) -> Found:
    return images_in_html(html.encode(), PAGE)


def only(html: str) -> Image:
    (image,) = found(html).images
    return image


def real_pages() -> list[Path]:
    return sorted(HTML.rglob("*.html"))


def by_html5lib(body: bytes, url: str) -> Iterator[tuple[str, str, str | None, str | None]]:
    """Yield URL, text, width and height of each image, read as browsers do, by plain means."""
    page = BeautifulSoup(body, "html5lib")
    for img in page.find_all("img"):
        assert isinstance(img, Tag)
        alt, src = img.get("alt"), img.get("src")
        if isinstance(alt, str) and isinstance(src, str) and alt.split():
            sizes = [str(img.get(name) or "") for name in ("width", "height")]
            width, height = (size if re.fullmatch("[1-9][0-9]*", size) else None for size in sizes)
            yield urljoin(url, src), " ".join(alt.split()), width, height


@pytest.mark.skipif(not HTML.is_dir(), reason="needs ../shared/data/html")
def test_real_pages_have_the_pairs_that_html5lib_finds_in_them() -> None:
    pages, pairs = 0, 0
    for path in real_pages():
        body, url = path.read_bytes(), f"https://docs.example/{path.name}"
        expected = Counter(by_html5lib(body, url))

        images = images_in_html(decode(body).html, url).images

        sizes = [(i.declared_width, i.declared_height) for i in images]
        told = [tuple(str(n) if n else None for n in size) for size in sizes]
        ours = Counter((i.url, i.text, *size) for i, size in zip(images, told, strict=True))
        assert ours == expected, path
        pages, pairs = pages + 1, pairs + len(images)

    assert (pages, pairs) == (215, 938)


def test_what_stands_around_an_image_is_kept() -> None:
    html = """<!doctype html><html lang="de-CH"><title> Schuhe &amp; mehr </title>
    <p>Vorher <script>unsichtbar()</script><style>p {}</style></p>
    <figure><div><img src="r.jpg" alt=" Ein \n roter Schuh " title="Neu" width="640px" height=480>
    </div><figcaption>Aus <b>Leder</b></figcaption></figure> Nachher"""

    assert only(html) == Image(
        url="https://shop.example/a/r.jpg",
        text="Ein roter Schuh",
        page_url=PAGE,
        page_title="Schuhe & mehr",
        page_language="de-CH",
        title="Neu",
        figure_caption="Aus Leder",
        text_around="Schuhe & mehr Vorher Aus Leder Nachher",
        declared_width=640,
        declared_height=480,
        source="src",
    )


@pytest.mark.parametrize(
    ("html", "caption"),
    [
        ("<figure><p><img src=x alt=a></p><figcaption>b</figcaption></figure>", "b"),
        ("<figure><figcaption>b</figcaption><figcaption>c</figcaption><img src=x alt=a>", "b"),
        ("<div><img src=x alt=a><figcaption>no figure's</figcaption></div>", ""),
        ("<figure><figcaption>another's</figcaption></figure><img src=x alt=a>", ""),
    ],
)
def test_a_caption_is_that_of_the_figure_around(html: str, caption: str) -> None:
    assert only(html).figure_caption == caption


@pytest.mark.parametrize(
    ("html", "url", "source"),
    [
        ("<base href='/i/'><img alt=a src=x.jpg>", "https://shop.example/i/x.jpg", "src"),
        ("<img alt=a src=x.jpg><base href=//c.example>", "https://c.example/x.jpg", "src"),
        (
            "<img alt=a src='data:,x' data-original='l.jpg'>",
            "https://shop.example/a/l.jpg",
            "data-original",
        ),
        (
            "<img alt=a data-srcset='s.jpg 1x, t.jpg 2x'>",
            "https://shop.example/a/t.jpg",
            "data-srcset",
        ),
        ("<img alt=a srcset='s.jpg 9w, t.jpg 8w'>", "https://shop.example/a/s.jpg", "srcset"),
        (
            "<picture><source srcset='w.webp 2x'><source srcset='j.jpg'><img alt=a></picture>",
            "https://shop.example/a/w.webp",
            "picture",
        ),
        ("<noscript><img alt=a src=n.jpg></noscript>", "https://shop.example/a/n.jpg", "src"),
        ("<svg><title>t</title></svg><IMG ALT=a SRC=s.jpg>", "https://shop.example/a/s.jpg", "src"),
        (
            "<img alt=a src='j.jpg?a=1&amp;copy=2&lt'>",
            "https://shop.example/a/j.jpg?a=1&copy=2%3C",
            "src",
        ),
    ],
)
def test_the_url_is_taken_from_where_it_stands(html: str, url: str, source: str) -> None:
    image = only(html)

    assert (image.url, image.source) == (url, source)


@pytest.mark.parametrize(
    ("html", "kinds"),
    [
        ("<img src=x>", {"alt_missing": 1}),
        ("<img src=x alt><img src=x alt=' &nbsp;\t&#1;\u3000'>", {"alt_empty": 2}),
        ("<img alt=a><img alt=a src=''><img alt=a src=' '>", {"url_missing": 3}),
        ("<img alt=a src=javascript:x()>", {"url_javascript": 1}),
        ("<img alt=a src=data:image/gif;base64,R0>", {"url_data": 1}),
        ("<img alt=a src=http://[>", {"url_invalid": 1}),
        ("<img alt=a src=data:,x data-src=javascript:x()>", {"url_javascript": 1}),
        ("<script><img alt=a src=x></script><!-- <img alt=a src=x> --><textarea><img alt=a>", {}),
        (f"<img src=x alt='{'a' * (MAX_TEXT_CHARACTERS + 1)}'>", {"text_too_long": 1}),
    ],
)
def test_an_image_without_a_pair_is_of_a_kind(html: str, kinds: dict[str, int]) -> None:
    said = found(f"<p>{html}")

    assert +said.kinds == kinds
    assert said.images == []


def test_a_text_is_as_a_page_would_show_it() -> None:
    assert only("<img src=x alt='&#x1F45F; &eacute;\x01\n\x85\u3000b&#0;\ufdd0'>").text == (
        "\U0001f45f é b\ufffd\ufdd0"
    )
    assert clean("a\ud83d\nb") == "a? b"


@pytest.mark.parametrize(
    ("declared", "size"),
    [
        *(("640", 640), (" +64px", 64), ("64.9", 64), ("0", None), ("-5", None), ("", None)),
        *(("100%", None), ("33.3 %", None), ("auto", None), ("9" * 12, None)),
    ],
)
def test_a_declared_size_is_in_pixels(declared: str, size: int | None) -> None:
    assert pixels(declared) == size


def test_control_characters_around_an_image_are_white_space() -> None:
    assert only("a\x01 \x02<img src=x alt=c>\x03b\x0b\uffff").text_around == "a b \uffff"


def test_a_page_with_the_mark_itself_has_no_text_around_its_images() -> None:
    assert only("a \ufdd0 b <img src=x alt=c> d").text_around == ""


def test_of_a_page_with_too_many_images_the_rest_are_counted() -> None:
    said = found("<img src=x.jpg alt=a>" * (MAX_IMAGES + 7))

    assert len(said.images) == MAX_IMAGES
    assert +said.kinds == {"beyond_page_limit": 7}


def test_frames_are_counted_and_what_is_in_them_is_not_this_pages() -> None:
    said = found("<iframe srcdoc='<img alt=a src=x>'><img alt=a src=x></iframe>" * 3 + "<img>")

    assert (said.notes["frames"], said.images, +said.kinds) == (3, [], {"alt_missing": 1})


@pytest.mark.parametrize(
    ("html", "kind"),
    [
        ("", "empty"),
        ("<!-- -->", "empty"),
        ("<div>" * 100_000, "too_deep"),
        ("".join(f"<font a={n}><p>" for n in range(50_000)), "too_deep"),
        ("<img " + " ".join(f"a{n}" for n in range(100_000)) + ">", "too_many_attributes"),
        ("<p>" + "<img " + "".join(f"a{n}='>'" for n in range(50_000)), "too_many_attributes"),
    ],
)
def test_a_page_that_would_take_minutes_is_refused(html: str, kind: str) -> None:
    with pytest.raises(PageError, match=f"^{kind}$"):
        found(html)


@pytest.mark.parametrize(
    "html",
    [
        *(
            "<div>" * 2000 + "</p>" * 20_000,
            "<a <b " * 20_000,
            "<img alt='" * 20_000,
            "<" * 200_000,
        ),
        *("<figure><figcaption>" * 900, "<b><i><p>" * 20_000, "</x>" * 50_000, "&#" * 200_000),
        *("<!--" * 50_000, "<script>" * 50_000, "<svg><title>" * 20_000, "<table><tr>" * 800),
        f"<img src='data:image/png;base64,{'A' * 500_000}' alt=a>" * 4,
        f"<img alt=a srcset='{'a 1w (' * 50_000}'>" * 4,
        " ".join(f"<p {'a=b ' * (MAX_ATTRIBUTES // 2)}>" for _ in range(100)),
    ],
    ids=lambda html: html[:12],
)
def test_odd_pages_are_read_soon(html: str) -> None:
    start = process_time()
    try:
        found(html)
    except PageError as error:
        assert str(error) in {"empty", "too_deep", "too_many_attributes"}  # noqa: PT017

    assert process_time() - start < 2


def test_the_links_of_a_wat_record_give_the_pairs_of_their_images() -> None:
    links = [
        {"path": "IMG@/src", "url": "../x.jpg", "alt": "a\ud83d shoe ", "title": "t"},
        {"path": "IMG@/src", "url": "y.jpg"},
        {"path": "IMG@/src", "alt": "a"},
        {"path": "IMG@/src", "url": ["//c.example/z.jpg", "other"], "alt": ["b", "c"]},
        {"path": "IMG@/src", "url": 7, "alt": {}},
        {"path": "A@/href", "url": "z", "alt": "no image"},
    ]
    head = {"Title": "T", "Base": "/i/j/", "Metas": [{"name": "HTML@/lang", "content": "fr"}, 3]}

    said = images_in_links(links, PAGE, head)

    pairs = [(i.url, i.text, i.title, i.page_title, i.page_language) for i in said.images]
    assert pairs == [
        ("https://shop.example/i/x.jpg", "a? shoe", "t", "T", "fr"),
        ("https://c.example/z.jpg", "b", "", "T", "fr"),
    ]
    assert +said.kinds == {"alt_missing": 1, "url_missing": 1, "alt_empty": 1}

"""Which URL of an image is its own, and where it leads."""

import pytest

from pipelines.links import (
    MAX_URL_CHARACTERS,
    LinkError,
    base_of,
    candidates,
    is_idn,
    largest,
    resolve,
)

PAGE = "https://shop.example/a/b.html?c=d"


@pytest.mark.parametrize(
    ("link", "url"),
    [
        ("x.jpg", "https://shop.example/a/x.jpg"),
        ("/x.jpg#top", "https://shop.example/x.jpg"),
        ("../../../x.jpg", "https://shop.example/x.jpg"),
        ("//cdn.example/x.jpg", "https://cdn.example/x.jpg"),
        ("?size=2", "https://shop.example/a/b.html?size=2"),
        ("HTTP://Cdn.Example:80/x y.jpg", "http://cdn.example/x%20y.jpg"),
        (" \n http://a.example/x\t\n.jpg\x01", "http://a.example/x.jpg"),
        ("http:\\\\a.example\\x.jpg", "http://a.example/x.jpg"),
        ("http://\u0440\u0430\u0443\u0440\u0430l.example/x", "http://xn--l-7sba6dbr.example/x"),
        ("http://faß.example/ü", "http://xn--fa-hia.example/%C3%BC"),
        ("http://0x7f.1/x", "http://127.0.0.1/x"),
    ],
)
def test_a_link_leads_where_a_browser_goes(link: str, url: str) -> None:
    assert resolve(link, PAGE) == url


@pytest.mark.parametrize(
    ("link", "kind"),
    [
        ("javascript:alert(1)", "url_javascript"),
        (" Java\nScript:alert(1)", "url_javascript"),
        ("\x01DATA:image/png;base64," + "A" * 100_000, "url_data"),
        ("file:///etc/passwd", "url_other_scheme"),
        ("blob:https://a/1", "url_other_scheme"),
        ("about:blank", "url_other_scheme"),
        ("http://a b/x.jpg", "url_invalid"),
        ("http://a\x00b/x.jpg", "url_invalid"),
        ("http://[::1/x.jpg", "url_invalid"),
        ("http://a:99999/x.jpg", "url_invalid"),
        ("http://a/\ud800", "url_invalid"),
        ("/" + "x" * MAX_URL_CHARACTERS, "url_too_long"),
    ],
)
def test_a_link_to_no_web_image_is_of_a_kind(link: str, kind: str) -> None:
    with pytest.raises(LinkError, match=f"^{kind}$"):
        resolve(link, PAGE)


def test_without_a_base_only_whole_urls_lead_anywhere() -> None:
    assert resolve("https://a.example/x", None) == "https://a.example/x"
    with pytest.raises(LinkError, match="url_without_base"):
        resolve("x.jpg", None)


@pytest.mark.parametrize(
    ("page", "href", "base"),
    [
        (PAGE, None, PAGE),
        (PAGE, "/img/", "https://shop.example/img/"),
        (PAGE, "//cdn.example/", "https://cdn.example/"),
        (PAGE, "javascript:alert(1)", PAGE),
        (PAGE, "http://[", PAGE),
        (None, "https://a.example/", "https://a.example/"),
        (None, "img/", None),
        (None, None, None),
    ],
)
def test_links_are_relative_to_the_base_tag(
    page: str | None, href: str | None, base: str | None
) -> None:
    assert base_of(page, href) == base


@pytest.mark.parametrize(
    ("srcset", "url"),
    [
        ("a.jpg", "a.jpg"),
        ("a.jpg 2x, b.jpg 2x", "a.jpg"),
        ("a.jpg 1x, b.jpg 2x", "b.jpg"),
        ("a.jpg 640w,b.jpg 1280w , c.jpg 320w", "b.jpg"),
        ("a.jpg, b.jpg 1.5x", "b.jpg"),
        ("a,b.jpg 2w, c.jpg 1w", "a,b.jpg"),
        ("data:image/png;base64,AA== 1x, b.jpg 2x", "b.jpg"),
        (" , ,a.jpg 1w (x, y) , b.jpg 2w", "b.jpg"),
        ("", ""),
        (" , ", ""),
        ("a.jpg 1w, " * 10_000, ""),
    ],
)
def test_of_a_set_the_largest_is_taken(srcset: str, url: str) -> None:
    assert largest(srcset) == url


def test_a_late_source_comes_before_its_placeholder() -> None:
    img = {"src": "blank.gif", "data-src": "a.jpg", "srcset": "b.jpg 2x", "data-srcset": " "}

    found = list(candidates(img, iter(["", "c.jpg 1w, d.jpg 2w"])))

    assert found == [
        ("data-src", "a.jpg"),
        ("src", "blank.gif"),
        ("srcset", "b.jpg"),
        ("picture", "d.jpg"),
    ]


def test_a_host_with_letters_that_look_alike_is_noticed() -> None:
    assert is_idn("http://xn--l-7sba6dbr.example/x")
    assert not is_idn("http://example.com/xn--x")

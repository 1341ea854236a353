"""Lists of URLs hold anything; what comes of it is a URL for HTTP, or a failure's name."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from pipelines.failures import FetchFailedError, check_image
from pipelines.opt_outs import opts_out
from pipelines.urls import UnusableError, follow, read_url

NAMES = ("url_missing", "url_invalid", "url_scheme", "url_credentials", "url_port")
BASE = URL("https://e.example/a/b.html")
anything = st.text() | st.text(alphabet="htp:/.@[]%#?0a\0\r\n\u00e9\u0430 ").map("http://{}".format)


def outcome(read: Callable[[], URL]) -> URL | str:
    try:
        return read()
    except UnusableError as error:
        return str(error)


@given(text=anything)
@example("http://h/\ud800")
@example("http://e.example\r\nHost: other/")
@example("http://[]@")
@example("http://\u2488com/")
def test_any_text_is_a_url_or_has_a_name(text: str) -> None:
    for url in (outcome(lambda: read_url(text)), outcome(lambda: follow(BASE, text))):
        if isinstance(url, str):
            assert url in NAMES
        else:
            assert url.scheme in ("http", "https")
            assert url.raw_host
            assert not any(map(str.isspace, f"{url.raw_host}{url.raw_path_qs}"))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (
            "http://b\u00fccher.example/\u00e4?q=\u00fc",
            "http://xn--bcher-kva.example/%C3%A4?q=%C3%BC",
        ),
        (" HTTPS://E.Example:443/a b.jpg#top ", "https://e.example/a%20b.jpg"),
        ("http://\u0430pple.example/", "http://xn--pple-43d.example/"),
        ("http://e.example:8080", "http://e.example:8080/"),
    ],
)
def test_hosts_and_paths_are_ascii(text: str, url: str) -> None:
    read = read_url(text)

    assert f"{read.origin()}{read.raw_path_qs}" == url


@given(header=st.text())
def test_any_header_says_yes_or_no(header: str) -> None:
    assert opts_out([header], "altmill") in (True, False)


@given(body=st.binary(max_size=600), declared=st.text())
def test_any_body_is_an_image_or_has_a_short_name(body: bytes, declared: str) -> None:
    with suppress(FetchFailedError):
        check_image(body, declared)
        return
    with pytest.raises(FetchFailedError, match=r"^(empty|not_an_image:[\w./+-]{1,80})$"):
        check_image(body, declared)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/c.jpg", "https://e.example/c.jpg"),
        ("c.jpg?x=1", "https://e.example/a/c.jpg?x=1"),
        ("//f.example/c.jpg", "https://f.example/c.jpg"),
        ("http://f.example", "http://f.example/"),
    ],
)
def test_redirects_may_be_relative(location: str, url: str) -> None:
    read = follow(BASE, location)

    assert f"{read.origin()}{read.raw_path_qs}" == url

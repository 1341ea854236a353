"""Find the images of a page that have a text, and what stands around them."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lxml import etree

from pipelines.links import LinkError, base_of, candidates, is_idn, resolve

MAX_IMAGES = 10_000
MAX_TEXT_CHARACTERS = 8000
MAX_ATTRIBUTES = 2000
"""Of a page, an alt-text, a tag: beyond them a page is hostile, or broken (ours)."""

_AROUND_CHARACTERS = 200
_CAPTION_CHARACTERS = 1000
_FIGURE_DEPTH = 16
"""How far above an image its figure may be."""

_MARK = "\ufdd0"  # a code point that is no character and that XML allows
_TAGS = ("html", "base", "title", "img", "figcaption", "iframe", "frame", "script", "style")
_BLANK = re.compile(r"[\0-\x20\x7f-\xa0\s]+")
_DIGITS = re.compile(r"[\t\n\f\r ]*\+?(\d{1,9})(?!\d|[.\d]*\s*%)")
_CHECKED_BYTES = 1 << 16
_MANY_ATTRIBUTES = re.compile(
    rb"""<[a-z][^\s/>]*+(?>[\s/]*+[^\s/>][^\s/>=]*+"""
    rb"""(?>\s*+=\s*+(?>"[^"]*+"|'[^']*+'|[^\s>]*+))?+){%d}""" % MAX_ATTRIBUTES,
    re.IGNORECASE,
)


class Image(NamedTuple):
    """An image with its text: a row of what is extracted, but for its uid."""

    url: str
    text: str
    page_url: str | None
    page_title: str
    page_language: str
    title: str
    figure_caption: str
    text_around: str
    declared_width: int | None
    declared_height: int | None
    source: str


@dataclass(slots=True)
class Found:
    """What was found in a page."""

    images: list[Image] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    """How many `<img>` are of each kind that gives no pair."""
    notes: Counter[str] = field(default_factory=Counter)
    """How often something else is worth a mention."""


class PageError(ValueError):
    """A page cannot be read; the message is the kind."""


def images_in_html(html: bytes, page_url: str | None, language: str = "") -> Found:
    """Find the images of a page that have a text.

    Args:
        html: In UTF-8.
        page_url: None if it is not known.
        language: What the HTTP header says of it.

    Raises:
        PageError: The page is empty, or made to be slow.
    """
    root, found = _parse(html), Found()
    tags: dict[str, list[Any]] = {name: [] for name in _TAGS}
    for element in root.iter(*_TAGS):
        tags[element.tag].append(element)
    found.notes["frames"] = len(tags["iframe"]) + len(tags["frame"])
    imgs = tags["img"]
    found.kinds["beyond_page_limit"] = len(imgs[MAX_IMAGES:])
    base = next((b.get("href") for b in tags["base"] if b.get("href") is not None), None)
    base = base_of(page_url, base)
    kept = [pair for img in imgs[:MAX_IMAGES] if (pair := _pair(img, base, found))]
    title = clean(tags["title"][0].text or "")[:_CAPTION_CHARACTERS] if tags["title"] else ""
    language = next((e.get("lang") for e in tags["html"] if e.get("lang")), language)
    captions = _captions(tags["figcaption"])
    around = _texts_around(root, [pair[0] for pair in kept], tags["script"] + tags["style"])
    for (img, url, text, source), beside in zip(kept, around, strict=True):
        found.images.append(
            Image(
                url=url,
                text=text,
                page_url=page_url,
                page_title=title,
                page_language=clean(language)[:35],
                title=clean(img.get("title", ""))[:_CAPTION_CHARACTERS],
                figure_caption=_caption_of(img, captions) if captions else "",
                text_around=beside,
                declared_width=pixels(img.get("width", "")),
                declared_height=pixels(img.get("height", "")),
                source=source,
            )
        )
    return found


def images_in_links(
    links: Sequence[Mapping[str, Any]], page_url: str | None, head: Mapping[str, Any]
) -> Found:
    """Find the images of a page in the links that Common Crawl's WAT has of it.

    It has the `src` of images, with `alt` and `title`; no size, no set of sources, no text.
    """
    found = Found()
    imgs = [link for link in links if link.get("path") == "IMG@/src"]
    found.kinds["beyond_page_limit"] = len(imgs[MAX_IMAGES:])
    base = base_of(page_url, _string(head.get("Base")) or None)
    metas = {_string(m.get("name")).lower(): _string(m.get("content")) for m in _metas(head)}
    title = clean(_string(head.get("Title")))[:_CAPTION_CHARACTERS]
    language = clean(metas.get("html@/lang", ""))[:35]
    for link in imgs[:MAX_IMAGES]:
        img = {name: _string(link[name]) for name in ("alt", "title") if name in link}
        img["src"] = _string(link.get("url"))
        pair = _pair(img, base, found)
        if pair:
            _, url, text, source = pair
            beside = clean(img.get("title", ""))[:_CAPTION_CHARACTERS]
            row = (url, text, page_url, title, language, beside, "", "", None, None, source)
            found.images.append(Image(*row))
    return found


def clean(text: str) -> str:
    """Collapse white space, as a page that is shown does, and control characters with it."""
    text = _BLANK.sub(" ", text).strip()
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def pixels(declared: str) -> int | None:
    """Return a declared width or height; None if it is no number of pixels above 0."""
    digits = _DIGITS.match(declared)
    return (int(digits[1]) or None) if digits else None


def _parse(html: bytes) -> Any:
    if len(html) > _CHECKED_BYTES and _MANY_ATTRIBUTES.search(html):
        raise PageError("too_many_attributes")  # libxml2 compares each with all before
    parser = etree.HTMLParser(
        encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True, collect_ids=False
    )
    try:
        root = etree.fromstring(html, parser)
    except etree.XMLSyntaxError:
        root = None
    if root is None:
        raise PageError("empty")
    if any("Excessive depth" in error.message for error in parser.error_log[-1:]):
        raise PageError("too_deep")
    return root


def _pair(img: Any, base: str | None, found: Found) -> tuple[Any, str, str, str] | None:
    """Return an image's element, URL, text and the attribute of its URL; count what has none."""
    alt = img.get("alt")
    text = clean(alt[: MAX_TEXT_CHARACTERS + 1]) if alt else ""
    if not text:
        found.kinds["alt_missing" if alt is None else "alt_empty"] += 1
        return None
    if len(alt) > MAX_TEXT_CHARACTERS:
        found.kinds["text_too_long"] += 1
        return None
    kind = ""
    for source, link in candidates(img, _sources(img)):
        try:
            url = resolve(link, base)
        except LinkError as error:
            kind = kind or str(error)
            continue
        found.notes["idn_hosts"] += is_idn(url)
        return img, url, text, source
    found.kinds[kind or "url_missing"] += 1
    return None


def _sources(img: Any) -> Iterator[str]:
    """Yield the sets of the sources beside an `<img>` in a `<picture>`."""
    parent = None if isinstance(img, dict) else img.getparent()
    while parent is not None and parent.tag == "source":  # libxml2 does not know it has no content
        parent = parent.getparent()
    if parent is not None and parent.tag == "picture":
        for source in parent.iter("source"):
            yield source.get("srcset", "")


def _captions(elements: Sequence[Any]) -> dict[Any, str]:
    """Return the caption of each figure."""
    captions: dict[Any, str] = {}
    for element in elements[:MAX_IMAGES]:
        figure = element.getparent()
        if figure is not None and figure.tag == "figure" and figure not in captions:
            captions[figure] = clean(_text(element, _CAPTION_CHARACTERS))
    return captions


def _text(element: Any, characters: int) -> str:
    """Return the beginning of an element's text."""
    parts, length = [], 0
    for part in element.itertext():
        parts.append(part)
        length += len(part)
        if length >= characters:
            break
    return "".join(parts)[:characters]


def _caption_of(img: Any, captions: Mapping[Any, str]) -> str:
    for _, above in zip(range(_FIGURE_DEPTH), img.iterancestors(), strict=False):
        if above in captions:
            return captions[above]
    return ""


def _texts_around(root: Any, imgs: Sequence[Any], unseen: Sequence[Any]) -> list[str]:
    """Return the text before and after each image, as far as the next such image."""
    if not imgs:
        return []
    for element in unseen:
        element.text = None
    for img in imgs:
        img.text = _MARK  # which nothing else can be inside it
    texts = etree.tostring(root, method="text", encoding="unicode").split(_MARK)
    if len(texts) != len(imgs) + 1:
        return [""] * len(imgs)  # the page has the mark itself
    before = [clean(text[-2 * _AROUND_CHARACTERS :])[-_AROUND_CHARACTERS:] for text in texts]
    after = [clean(text[: 2 * _AROUND_CHARACTERS])[:_AROUND_CHARACTERS] for text in texts]
    return [f"{a} {b}".strip() for a, b in zip(before, after[1:], strict=False)]


def _metas(head: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    metas = head.get("Metas")
    return [meta for meta in metas if isinstance(meta, dict)] if isinstance(metas, list) else []


def _string(value: Any) -> str:
    """Return a value of JSON that should be text; a repeated field is a list in WAT."""
    value = value[0] if isinstance(value, list) and value else value
    return value if isinstance(value, str) else ""

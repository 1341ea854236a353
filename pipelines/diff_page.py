"""Show two runs side by side on one page, which opens from disk and asks nothing of a network.

Captions come from the open web: each is cut, its invisible characters are spelt out, and it is
escaped.  The page has no script; its charts are drawn before.
"""

from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import vl_convert

from pipelines.charts import CONFIG, DROPPED, KEPT
from pipelines.diff import FATES, Told
from pipelines.page import pages
from recaption.files import write_json, write_text

_SIZE_PX = {"width": 320, "height": 120}
_COLOURS = {"a": DROPPED, "b": KEPT}


def write_diff(told: Told, folder: Path) -> Path:
    """Write `index.html`, and `diff.json` without pictures, into a folder; return the page."""
    changes = [
        change | {"examples": [pair | {"picture": None} for pair in change["examples"]]}
        for change in told["changes"]
    ]
    write_json(folder / "diff.json", told | {"changes": changes})
    write_text(folder / "index.html", render(told))
    return folder / "index.html"


def render(told: Told) -> str:
    """Return the page as HTML; `told` is from `diff.compare_runs`."""
    kept = {one["column"]: one for one in told["drift"] if one["of"] == "kept"}
    order = sorted(told["distributions"], key=lambda column: -kept[column]["psi"])
    return _page().render(
        told=told,
        fates=FATES,
        drift=sorted(told["drift"], key=lambda one: -one["psi"]),
        charts={column: _chart(column, told["distributions"][column]) for column in order},
        kept=kept,
    )


def _chart(column: str, bins: Told) -> markupsafe.Markup:
    """Draw a column's shares in both runs as two outlines."""
    edges = bins["edges"]
    kind = "linear" if bins["scale"] == "linear" else "log" if edges[0] > 0 else "symlog"
    x = {
        "field": "at",
        "type": "quantitative",
        "scale": {"type": kind, "domain": [edges[0], edges[-1]], "nice": False},
        "axis": {"title": None, "format": "~s", "tickCount": 5, "grid": False},
    }
    y = {"field": "share", "type": "quantitative", "axis": {"title": None, "format": "~%"}}
    y["axis"] |= {"tickCount": 3, "domain": False}  # type: ignore[operator]
    layers = [
        {
            "data": {"values": _outline(edges, bins[side])},
            "mark": {
                "type": "area" if side == "a" else "line",
                "interpolate": "step-after",
                "color": colour,
                "opacity": 0.45 if side == "a" else 1,
                "strokeWidth": 1.6,
                "point": False,
            },
            "encoding": {"x": x, "y": y},
        }
        for side, colour in _COLOURS.items()
    ]
    config = CONFIG | {"autosize": {"type": "fit", "contains": "padding"}, "padding": 4}
    svg = vl_convert.vegalite_to_svg(_SIZE_PX | {"layer": layers, "config": config})
    label = f'role="img" aria-label="{column} in both runs" viewBox='
    return markupsafe.Markup(svg.replace("viewBox=", label, 1))  # of numbers, and our own names


def _outline(edges: list[float], shares: list[float]) -> list[dict[str, Any]]:
    """Return where a histogram's outline steps."""
    steps = zip(edges, [*shares, shares[-1]], strict=True)
    return [{"at": at, "share": share} for at, share in steps]


@cache
def _page() -> jinja2.Template:
    return pages().get_template("diff.html.j2")

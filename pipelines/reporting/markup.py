"""HTML and SVG as strings that are safe by construction: text is escaped unless it is markup already."""

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

VOID = frozenset({"img", "input", "link", "meta", "br"})


class Html(str):
    """Markup, to be inserted as it is."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: object) -> Html:
    """An element. `class_` and `for_` lose their underscore, other underscores become hyphens; None leaves one out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[str]) -> Html:
    """Markup one after another; plain text is escaped."""
    return Html("".join(child if isinstance(child, Html) else html.escape(child) for child in children))


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, class_: str | None = None, numeric: Sequence[int] = ()
) -> Html:
    """A table with a header row; the columns in `numeric` are aligned right."""

    def row(cells: Sequence[str], kind: str) -> Html:
        return tag("tr", *(tag(kind, cell, class_="number" if i in numeric else None) for i, cell in enumerate(cells)))

    body = tag("tbody", *(row(cells, "td") for cells in rows))
    return tag("div", tag("table", tag("thead", row(head, "th")), body), class_="scroll")


def data_uri(kind: str, content: bytes) -> str:
    """Bytes as a link that needs no file; `kind` is the media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def asset(name: str) -> Html:
    """A script or style sheet that lies beside this module."""
    return Html((Path(__file__).parent / name).read_text(encoding="utf-8"))

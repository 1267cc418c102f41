"""A page that needs no other file: figures are embedded, nothing is loaded from elsewhere."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxff.report.canvas import data_uri

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Section", "Table", "facts", "page"]


@dataclass(frozen=True)
class Table:
    """Rows of text under a line of headings.

    Attributes:
        columns: Headings, with units; none for a list of names and values.
        rows: Cells as they are to be shown.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def facts(values: Mapping[str, str]) -> Table:
    """Names and values as a table."""
    return Table((), tuple((name, value) for name, value in values.items()))


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        heading: Title.
        text: Plain text; lines are kept.
        table: A table, or preformatted text that is shown in a fixed-width font.
        figure: A figure, embedded as an image.
        caption: What the figure shows, below it and for readers who do not see it.
    """

    heading: str
    text: str = ""
    table: Table | str = ""
    figure: Figure | None = None
    caption: str = ""


_STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; max-width: 54rem; margin: 2rem auto;
       padding: 0 1rem; color: #1d2430; }
h1 { font-size: 1.6rem; margin-bottom: 0.2rem; }
h2 { font-size: 1.15rem; margin-top: 2.4rem; border-bottom: 1px solid #d9dee5; }
pre { background: #f4f5f7; padding: 0.8rem 1rem; overflow-x: auto; font-size: 0.88rem; }
p { white-space: pre-line; } img { max-width: 100%; display: block; margin: 0 auto; }
figure { margin: 1rem 0; } figcaption, .note { color: #5b6573; font-size: 0.9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.93rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.22rem 1.1rem 0.22rem 0; text-align: left; vertical-align: top; }
th { border-bottom: 1px solid #9aa5b1; font-weight: 600; }
td { border-bottom: 1px solid #edf0f3; } td.number, th.number { text-align: right; }
td.name { color: #5b6573; white-space: nowrap; }
"""
_NUMBER = re.compile(r"[-(<>≤≥±+−–]*\s*(\d[-\d.,\s()±+−e]*i?)?%?")


def page(title: str, sections: Sequence[Section], note: str = "") -> str:
    """The page as HTML.

    Args:
        title: Title of the page.
        sections: Its parts, in order.
        note: A line below the title.
    """
    parts = [
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n"
    ]
    if note:
        parts.append(f'<p class="note">{html.escape(note)}</p>\n')
    parts += [_section(section) for section in sections]
    return "".join([*parts, "</body>\n</html>\n"])


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.heading)}</h2>\n"]
    if section.text:
        parts.append(f"<p>{html.escape(section.text)}</p>\n")
    if isinstance(section.table, Table):
        parts.append(_table(section.table))
    elif section.table:
        parts.append(f"<pre>{html.escape(section.table)}</pre>\n")
    if section.figure is not None:
        alt = html.escape(section.caption or section.heading, quote=True)
        parts.append(f'<figure><img alt="{alt}" src="{data_uri(section.figure)}">\n')
        if section.caption:
            parts.append(f"<figcaption>{html.escape(section.caption)}</figcaption>\n")
        parts.append("</figure>\n")
    return "".join(parts)


def _table(table: Table) -> str:
    width = max((len(row) for row in table.rows), default=len(table.columns))
    # Columns of numbers are set flush right; names and values flush left.
    numeric = [
        bool(table.columns)
        and i > 0
        and all(_NUMBER.fullmatch(row[i]) for row in table.rows if i < len(row))
        for i in range(width)
    ]
    lines = ['<div class="wide"><table>']
    if table.columns:
        cells = (_cell("th", name, numeric[i], False) for i, name in enumerate(table.columns))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    for row in table.rows:
        cells = (_cell("td", cell, numeric[i], i == 0) for i, cell in enumerate(row))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</table></div>\n"])


def _cell(tag: str, text: str, numeric: bool, first: bool) -> str:
    kind = ' class="number"' if numeric else ' class="name"' if first else ""
    return f"<{tag}{kind}>{html.escape(text)}</{tag}>"

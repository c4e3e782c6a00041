"""How do the pages about rankers look? The styles that several of them share, and pictures inside a page.

A style goes into a template as it is: no value of a report is part of it.
"""

from __future__ import annotations

import base64
from pathlib import Path

REPORT_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; background: #fff; max-width: 76rem; }
body { margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 1rem 0; }
dt { color: #616e7c; } dd { margin: 0; } .scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid #e4e7eb; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 2px solid #9aa5b1; }
small { color: #616e7c; font-weight: 400; display: block; } img { max-width: 100%; height: auto; }
code { font-size: .9em; } ul { margin: .25rem 0; }
"""
"""Pages that judge a ranker: facts on top, then a table with names on the left and figures on the right."""

SLOTS_STYLE = """
 body {font: 15px/1.5 system-ui, sans-serif; color: #1f2937; max-width: 76rem; margin: 2rem auto; padding: 0 1rem}
 h1 {font-size: 1.5rem; margin-bottom: .2rem} h2 {font-size: 1.1rem; margin-top: 2rem}
 img {width: 100%} .muted, small {color: #6b7280} small {display: block} .wide {overflow-x: auto}
 table {border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem}
 th, td {padding: .25rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #e5e7eb}
 th {font-weight: 600; border-bottom: 2px solid #9ca3af} td.l, th.l {text-align: left}
"""
"""Pages about an error memory: one wide picture, then narrow tables with a row per slot of time."""


def picture(path: Path) -> str:
    """Return a PNG file as the `src` of an image, so that the page needs no other file."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"

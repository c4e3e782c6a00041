"""How does one page stand inside another? Its words, tables and pictures, in the style of the page around it.

A frame would need a script to be as high as what it holds. So the tags that are known to be harmless are written anew,
and everything else of the inner page is left out: scripts, styles, addresses, forms, frames.
"""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser

_VOID = frozenset({"br", "hr", "img"})
_KEPT = _VOID | {
    "h1", "h2", "h3", "h4", "p", "div", "span", "section", "main", "figure", "figcaption", "ul", "ol", "li", "dl", "dt",
    "dd", "table", "thead", "tbody", "tr", "th", "td", "small", "code", "pre", "b", "i", "u", "em", "strong",
}  # fmt: skip
_SILENT = {"script", "style", "title", "template", "iframe", "object", "svg", "textarea", "select", "noscript"}
"""Tags whose content is no part of what a reader sees, or cannot be kept."""
_ATTRIBUTES = frozenset({"class", "role", "aria-label", "alt", "colspan", "rowspan"})
_PLACE = re.compile(r"((left|width):-?[\d.]+%;?)+")
_PNG = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]*")


def embedded(page: str) -> str:
    """Return the body of a page as HTML that can stand inside another page; its tags are closed in order."""
    return _Body(page).html()


class _Body(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self._parts: list[str] = []
        self._open: list[str] = []
        self._silent: list[str] = []
        self.feed(page)
        self.close()

    def html(self) -> str:
        return "".join([*self._parts, *(f"</{tag}>" for tag in reversed(self._open))])

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        """Return where a section such as ``<![CDATA[`` ends; Python raises where it has no name."""
        try:
            return super().parse_marked_section(i, report)
        except AssertionError:
            return self.parse_bogus_comment(i, report=False)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent.append(tag)
        if self._silent or tag not in _KEPT:
            return
        kept = "".join(f' {name}="{escape(value or "")}"' for name, value in attrs if _harmless(name, value or ""))
        self._parts.append(f"<{tag}{kept}>")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._silent:
            if tag in self._silent:
                del self._silent[self._silent.index(tag) :]
        elif tag in self._open:
            while True:
                closed = self._open.pop()
                self._parts.append(f"</{closed}>")
                if closed == tag:
                    break

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._parts.append(escape(data, quote=False))


def _harmless(name: str, value: str) -> bool:
    if name == "style":
        return _PLACE.fullmatch(value) is not None
    if name == "src":
        return _PNG.fullmatch(value) is not None
    return name in _ATTRIBUTES

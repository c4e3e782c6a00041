"""Is a text from the data shown as what it is, wherever it stands in Markdown?"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from features.ground.markdown import code, table, text

READ = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table")
HOSTILE = [
    "<img src=x onerror=alert(1)>", "<script>alert(1)</script>", "a|b", "a\n\n# b", "[x](javascript:alert(1))",
    "![x](http://evil.example/x.png)", "`code`", "*b*", "<http://evil.example>", "a\\|b", "&lt;b&gt;", "a\r\n| c | d |",
    "~~x~~", "$x$", "`<b>`", "`|", "\u2028# x", "a`|`b",
]  # fmt: skip


def kinds(markdown: str) -> set[str]:
    found = set()
    for token in READ.parse(markdown):
        found |= {token.type} | {child.type for child in token.children or ()}
    return found


def cells(markdown: str) -> list[str]:
    """The text of every cell of a table."""
    tokens = READ.parse(markdown)
    inline = [after for before, after in pairwise(tokens) if before.type in ("th_open", "td_open")]
    return ["".join(child.content for child in token.children or ()) for token in inline]


PLAIN = {"paragraph_open", "inline", "text", "text_special", "paragraph_close"}
TABLE = {f"{part}_{end}" for part in ("table", "thead", "tbody", "tr", "th", "td") for end in ("open", "close")}


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("write", [text, code])
def test_a_value_in_a_table_is_one_cell_without_markup(value: str, write: object) -> None:
    assert callable(write)
    shown = table(["name", "rows"], [[write(value), "1"]])
    assert kinds(shown) <= PLAIN | TABLE | {"code_inline"}
    assert cells(shown)[0::2] == ["name", cells(shown)[2]] and len(cells(shown)) == 4
    assert "<" not in shown


@given(st.text(alphabet=st.sampled_from("<>|`*_[]()!#\\&\n\r \t~$abc"), min_size=1, max_size=12))
def test_whatever_it_holds_no_markup_begins(value: str) -> None:
    assert kinds(f"in {text(value)}.") <= PLAIN
    shown = table(["name", "rows"], [[code(value), "1"]])
    assert kinds(shown) <= PLAIN | TABLE | {"code_inline"} and len(cells(shown)) == 4


def test_an_ordinary_name_stays_readable() -> None:
    assert code("age_band") == "`age_band`"
    assert cells(table(["a"], [[text("25–34 & more_or_less")]])) == ["a", "25–34 & more_or_less"]

"""Tables of the benchmarks, and the pages in ``docs/`` that keep them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path


def markdown(rows: Iterable[Sequence[str]]) -> str:
    """A table of rows of cells, of which the first are headings."""
    header, *rest = rows
    lines = [header, ["---"] * len(header), *rest]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def renew(page: Path, text: str, name: str = "table") -> None:
    """Puts a text where a page has ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = page.read_text(encoding="utf-8").split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")

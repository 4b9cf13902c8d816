"""The pages for users: each link leads somewhere, and each page is found from the README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "charts" / "keelage" / "README.md"]


def links(page: Path) -> list[tuple[Path, str]]:
    """File and anchor of each link to a file of ours; what stands in a block of code is none."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    found = (link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link)
    return [((page.parent / path).resolve() if path else page, anchor) for path, _, anchor in found]


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_somewhere(page: Path) -> None:
    dead = [
        f"{path.relative_to(ROOT)}#{anchor}"
        for path, anchor in links(page)
        if not path.exists() or (anchor and anchor not in anchors(path))
    ]
    assert dead == []


def test_each_page_is_found_from_the_readme() -> None:
    found, ahead = set[Path](), [README]
    while ahead:
        page = ahead.pop()
        if page in found:
            continue
        found.add(page)
        if page.is_dir():
            ahead += page.iterdir()
        elif page.suffix == ".md":
            ahead += [path for path, _ in links(page)]
    assert [str(page.relative_to(ROOT)) for page in PAGES if page not in found] == []

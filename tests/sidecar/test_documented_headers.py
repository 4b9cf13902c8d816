"""The page of headers names all of them, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import keelage_sidecar
from keelage_sidecar.core.cascade import Outcome
from keelage_sidecar.core.log_line import CallRecord
from keelage_sidecar.shell.story import CacheUse

SOURCE = Path(keelage_sidecar.__file__).parent
PAGE = (Path(__file__).parents[2] / "docs" / "headers.md").read_text()
ROWS = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| `x-keelage-")]


def test_every_header_that_the_code_knows_is_on_the_page_once() -> None:
    known = {
        name for path in SOURCE.rglob("*.py") for name in re.findall(r'b"(x-keelage-[a-z-]*[a-z])"', path.read_text())
    }
    told = [re.findall(r"`(x-keelage-[a-z-]+): ", row[0])[0] for row in ROWS]
    assert sorted(told) == sorted(known)


def test_no_header_is_put_together_where_the_page_would_miss_it() -> None:
    pieces = [path.name for path in SOURCE.rglob("*.py") for _ in re.findall(r'"x-keelage-" *[+%]', path.read_text())]
    assert pieces == []


def test_every_field_that_the_page_names_is_in_the_log_line() -> None:
    named = {name for row in ROWS for name in re.findall(r"`(\w+)`", row[-1])}
    assert named <= set(CallRecord.__struct_encode_fields__)


def test_every_word_that_a_cache_or_cascade_may_say_is_named() -> None:
    cascade, cache = (next(row for row in ROWS if f"`x-keelage-{name}:" in row[0]) for name in ("cascade", "cache"))
    assert set(re.findall(r"`(\w+)`", cascade[2])) == set(Outcome)
    assert set(re.findall(r"`(\w+)`", cache[2])) - {"age"} == set(CacheUse) - {CacheUse.NONE}


def test_links_lead_to_headings() -> None:
    for page, heading in re.findall(r"\]\((\w+\.md)(?:#([\w-]+))?\)", PAGE):
        text = (Path(__file__).parents[2] / "docs" / page).read_text()
        headings = {
            re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-")
            for line in text.splitlines()
            if line.startswith("#")
        }
        assert not heading or heading in headings, (page, heading)

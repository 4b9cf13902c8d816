"""What a question says word for word, but for what makes no difference to its answer. Pure.

Two questions may share an answer only where this is equal, whatever an embedder says of them: it puts `enable` and
`disable`, or Paris and London, as near to each other as a question and its own paraphrase.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from keelage_sidecar.core import lexicon

BEFORE_WORDS = "|"
"""Stands between what is said of the whole question, its language and form, and its words."""
TEXT_MAX = 2_000
"""Characters: a longer text is a document, and no question that somebody else asks in other words."""

_QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|„([^“”]+)[“”]|«([^»]+)»|`([^`]+)`|(?<!\w)['‘]([^'’]+)['’](?!\w)")
_LETTERS = re.compile(r"[^\W\d_]+(?:[-'’.][^\W\d_]+)*")
_NUMBER = re.compile(r"([-+−]?)([€$£]?)(\d[\d.,]*\d|\d)(%|€|\$|£|°?[^\W\d_]{1,3})?")
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(\.\d+)?")
_TAUSENDER = re.compile(r"\d{1,3}(\.\d{3})+(,\d+)?")
_POLITE = re.compile(rf"\s*(?:{'|'.join(lexicon.POLITE)})\s*", re.IGNORECASE)
_POLITE_END = re.compile(rf"(?:{'|'.join(lexicon.POLITE_ENDS)})[\s.!?]*$", re.IGNORECASE)
_TO_ME = re.compile(lexicon.TO_ME, re.IGNORECASE | re.DOTALL)
_OPENING, _CLOSING = "([{¿¡", "?!.,;:)]}…"
_CONTRACTED = {"can't": ["can", "not"], "cannot": ["can", "not"], "won't": ["will", "not"], "i'm": ["i", "am"]}
_HOW_TO = re.compile(lexicon.HOW_TO, re.IGNORECASE)
_DASHES = frozenset("-–—")
_PHRASES = {tuple(phrase.split()): word for phrase, word in lexicon.PHRASES}


def wording(text: str) -> tuple[str, ...]:
    """The words that matter, in their order; empty where nothing is asked, or too much.

    Numbers, units, identifiers and what stands in quotation marks stay as they are written, and nothing is left out
    but politeness and who asks. A leading `In 2018,` goes to the end.
    """
    if len(text) > TEXT_MAX:
        return ()
    said = unicodedata.normalize("NFC", text).strip()
    bare = _bare(said)
    german = _is_german(bare)
    text = _turned(bare)
    any_such = _HOW_TO.match(text) is not None
    words: list[str] = []
    being: set[str] = set()
    for word in _joined(list(_words(text, german))):
        form = (lexicon.BEING_GERMAN if german else lexicon.BEING).get(word)
        if form is not None:
            being.add(form)
        else:
            words.append("a" if any_such and word in ("the", "my") else word)
    if not words:
        return ()
    asks = bare.split()[0].lower().strip(_OPENING + _CLOSING) in lexicon.ASKING or (bare == said and said[-1] == "?")
    return ("de" if german else "en", "?" if asks else ".", *sorted(being), BEFORE_WORDS, *words)


def _bare(text: str) -> str:
    """Without the politeness around it."""
    while (found := _POLITE.match(text)) and found.end() < len(text):
        text = text[found.end() :]
    while (found := _POLITE_END.search(text)) and found.start() > 0:
        text = text[: found.start()]
    to_me = _TO_ME.fullmatch(text)
    return text if to_me is None else to_me["order"]


def _is_german(text: str) -> bool:
    words = text.lower().replace("ß", "ss").split()
    return any(word.strip(_OPENING + _CLOSING) in lexicon.GERMAN for word in words)


def _turned(text: str) -> str:
    """`On Debian, how …?` as `how … on Debian`."""
    first, comma, rest = text.partition(", ")
    begins = first.split(maxsplit=1)
    if not comma or "," in rest or len(begins) < 2 or begins[0].lower() not in lexicon.LEADS:
        return text
    return f"{rest.rstrip(' ?!.')} {first}"


def _words(text: str, german: bool) -> Iterator[str]:
    place = 0
    for quoted in _QUOTED.finditer(text):
        yield from _unquoted(text[place : quoted.start()], german)
        yield '"' + next(each for each in quoted.groups() if each is not None).strip(" .,")
        place = quoted.end()
    yield from _unquoted(text[place:], german)


def _unquoted(text: str, german: bool) -> Iterator[str]:
    after_number = doing = False
    before = ""
    chunks = text.split()
    for place, raw in enumerate(chunks):
        chunk = raw.lstrip(_OPENING).rstrip(_CLOSING)
        last = place == len(chunks) - 1
        number = _NUMBER.fullmatch(chunk)
        low = chunk.lower()
        if number is not None:
            sign, currency, digits, unit = number.groups()
            yield sign.replace("−", "-") + _plain_number(digits, german)
            yield from (_same(each, german) for each in (currency, unit) if each)
        elif not _LETTERS.fullmatch(chunk):
            if chunk and chunk not in _DASHES:
                yield _same(chunk, german)
        elif after_number and len(chunk) <= 3:
            yield chunk  # a unit: mW is not MW
        elif low in lexicon.DOING and not doing and not last and not german:
            doing = True
        elif low in lexicon.FIRST_PERSON and before and before not in lexicon.BEFORE_FIRST_PERSON:
            yield chunk
        elif not _is_means(low, before):
            yield from _word(chunk, german, first=place == 0, last=last or raw != chunk)
        if low not in (lexicon.FIRST_PERSON_GERMAN if german else lexicon.FIRST_PERSON):
            before = low
        after_number = number is not None and not number.group(4)


def _is_means(word: str, before: str) -> bool:
    """`how to`, `how can I` and `how I can` are `how do I`."""
    return before in lexicon.MEANS and (word in lexicon.ABILITY or (word == "to" and before == "how"))


def _word(word: str, german: bool, *, first: bool, last: bool) -> Iterator[str]:
    """`first` and `last` of its clause."""
    low = word.lower().replace("ß", "ss").replace("’", "'")
    if (len(word) > 1 and word.isupper()) or (not first and word[0].isupper() and low in lexicon.CASED):
        yield word
        return
    if german:
        yield from _german_word(low, last=last)
        return
    name = not first and word[0].isupper()
    if low in _CONTRACTED:
        parts = _CONTRACTED[low]
    elif low.endswith("n't"):
        parts = [low[:-3], "not"]
    elif low.endswith("'s") and low[:-2] in lexicon.SHORT:
        parts = [low[:-2], "is"]
    else:
        parts = [low.replace("-", "")]
    for part in parts:
        if part in lexicon.DETERMINERS:
            yield lexicon.DETERMINERS[part]
        elif part not in lexicon.FIRST_PERSON:
            yield lexicon.NUMBERS.get(part) or _same(part if name else _singular(part), german)


def _german_word(low: str, *, last: bool) -> Iterator[str]:
    if low == "ein" and last:
        yield "ein_"  # of `einschalten`: no article
    elif low in lexicon.DETERMINERS_GERMAN:
        yield lexicon.DETERMINERS_GERMAN[low]
    elif low not in lexicon.FIRST_PERSON_GERMAN:
        low = low.replace("-", "")
        yield lexicon.NUMBERS_GERMAN.get(low) or _same(low, german=True)


def _joined(words: list[str]) -> Iterator[str]:
    """With one word for the phrases that have one."""
    skip = False
    for word, following in zip(words, [*words, ""][1:], strict=True):
        if skip:
            skip = False
            continue
        phrase = _PHRASES.get((word, following))
        skip = phrase is not None
        yield phrase or word


def _singular(word: str) -> str:
    if len(word) < 4 or not word.endswith("s") or word in lexicon.SINGULAR_AS_IT_IS:
        return word
    if word.endswith(("ss", "us", "is", "ics", "'s")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("xes", "ches", "shes", "sses")):
        return word[:-2]
    return word[:-1]


def _same(word: str, german: bool) -> str:
    return (lexicon.SAME_GERMAN if german else lexicon.SAME).get(word, word)


def _plain_number(digits: str, german: bool) -> str:
    """Without what groups its thousands; otherwise as it is written."""
    if german and _TAUSENDER.fullmatch(digits):
        return digits.replace(".", "")
    if not german and _THOUSANDS.fullmatch(digits):
        return digits.replace(",", "")
    return digits

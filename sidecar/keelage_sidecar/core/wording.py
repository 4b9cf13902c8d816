"""What a question says word for word, but for what makes no difference to its answer. Pure.

Two questions may share an answer only where this is equal, whatever an embedder says of them: it puts `enable` and
`disable`, or Paris and London, as near to each other as a question and its own paraphrase.

All that is written counts, in its order: blanks within a line do not, and the few ways of asking do not that are
named here and in `lexicon`. Each of them is looked for at one place only, where it cannot mean anything else.
"""

from __future__ import annotations

import re
import unicodedata

from keelage_sidecar.core import lexicon

BEFORE_WORDS = "|"
"""Stands between what is said of the whole question, its language and form, and its words."""
TEXT_MAX = 2_000
"""Characters: a longer text is a document, and no question that somebody else asks in other words."""

_PIECES = re.compile(
    r"\"[^\"]*\"|“[^”]*”|„[^“”]*[“”]|«[^»]*»|`[^`]*`|(?<!\w)['‘][^'’]*['’](?!\w)|\n\s*|\S+?(?=[\"“„«`]|\s|$)"
)
"""What is quoted, the beginning of a line, a word."""
_NUMBER = re.compile(r"([-+−]?)([€$£]?)(\d[\d.,]*\d|\d)(%|€|\$|£|°[CF]?)?")
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(\.\d+)?")
_TAUSENDER = re.compile(r"\d{1,3}(\.\d{3})+(,\d+)?")
_ASIDE = re.compile(rf"\s*(?:{'|'.join(lexicon.ASIDE)})\s*", re.IGNORECASE)
_ORDER = re.compile(rf"\s*(?:{'|'.join(lexicon.ORDERS)})\s*", re.IGNORECASE)
_POLITE_END = re.compile(rf"(?:{'|'.join(lexicon.POLITE_ENDS)})[\s.!?]*$", re.IGNORECASE)
_END = re.compile(r"(?<=[^\W\d_]{2})[\s?!.]+$|(?<!\s)\s*\?+$")
"""No `5!` and no `12.5.`: there the mark belongs to the word."""
_HOW_TO = re.compile(
    r"how (?:(?:do|can|could) i|i (?:can|could)|to)(?!\S)|(wie) (?:kann|könnte) (?:ich|man)(?!\S)", re.IGNORECASE
)
_HAVE_TO = re.compile(r"do i (?:have|need) to(?!\S)", re.IGNORECASE)
_DO_TWO = {tuple(phrase.split()): word for phrase, word in lexicon.DO_TWO}


def wording(text: str) -> tuple[str, ...]:
    """The words that matter, in their order; empty where nothing is asked, or too much."""
    if len(text) > TEXT_MAX:
        return ()
    said = unicodedata.normalize("NFC", text).strip()
    bare, told = _bare(said)
    question = _END.sub("", bare)
    german = any(word.strip("?!.,;:").lower() in lexicon.GERMAN for word in question.split())
    to_do = _HOW_TO.match(question)
    if to_do is not None:
        question = f"{'wie' if to_do[1] else 'how'}{question[to_do.end() :]}"
    elif (must := _HAVE_TO.match(question)) is not None:
        question = f"do I have to{question[must.end() :]}"
    pieces: list[str] = _PIECES.findall(question)
    of_words = not lexicon.OF_WORDS.isdisjoint(pieces)
    words = pieces if of_words else []
    for place, piece in enumerate([] if of_words else pieces):
        following = pieces[place + 1] if place + 1 < len(pieces) else ""
        words += _words(_begun(piece) if place == 0 else piece, words[-1] if words else "", following, german)
    if not any(character.isalnum() for word in words for character in word):
        return ()
    words = _done(words) if to_do is not None or words[0] == "wie" else _straight(words)
    asks = words[0] in lexicon.ASKING or (not told and said.endswith("?"))
    return ("de" if german else "en", "?" if asks else ".", BEFORE_WORDS, *words)


def _bare(text: str) -> tuple[str, bool]:
    """Without the politeness around it, and whether somebody is asked to tell the answer."""
    told = False
    while True:
        found = _ASIDE.match(text)
        if found is None:
            found = _ORDER.match(text)
            told = told or (found is not None and found.end() < len(text))
        if found is None or found.end() >= len(text):
            break
        text = text[found.end() :]
    while (found := _POLITE_END.search(text)) and found.start() > 0:
        text = text[: found.start()]
    return text, told


def _begun(word: str) -> str:
    """The first word as it is within a sentence."""
    low = word[0].lower() + word[1:]
    stem = re.split("['’]", low)[0]
    return low if stem in lexicon.BEGINNINGS or stem.removesuffix("n") in lexicon.BEGINNINGS else word


def _words(piece: str, before: str, following: str, german: bool) -> list[str]:
    number = _NUMBER.fullmatch(piece)
    units = lexicon.UNITS_GERMAN if german else lexicon.UNITS
    named = units if following in lexicon.BEHIND_UNITS else {}
    if number is not None:
        sign, currency, digits, unit = number.groups()
        plain = sign.replace("−", "-") + _plain_number(digits, german)
        return [plain, *(named.get(each, each) for each in (currency, unit) if each)]
    if piece[0] == "“" and piece[-1] == "”":
        return [f'"{piece[1:-1]}"']
    if piece in named and before[-1:].isdigit():
        return [named[piece]]
    if german:
        return [lexicon.NUMBERS_GERMAN.get(piece) or lexicon.SAME_GERMAN.get(piece, piece)]
    word = piece.replace("’", "'")
    if word in ("can't", "cannot"):
        return ["can", "not"]
    if word == "won't":
        return ["will", "not"]
    if word.endswith("n't"):
        return [word[:-3], "not"]
    if word.endswith("'s") and word[:-2] in lexicon.MOVING and following in lexicon.BEFORE_NAMED:
        return [word[:-2], "is"]
    if word == "i" and before in lexicon.BEFORE_FIRST_PERSON:
        return ["I"]
    return [lexicon.NUMBERS.get(word) or lexicon.SAME.get(word, piece)]


def _done(words: list[str]) -> list[str]:
    """Behind `how` or `wie`: one word for what is to be done."""
    rest = words[2:]
    if len(words) > 1:
        words = [words[0], lexicon.DO.get(words[1], words[1]), *rest]
    if len(words) > 3 and (phrase := _DO_TWO.get((words[1], words[2]))):
        return [words[0], phrase, *words[3:]]
    if len(words) > 2 and words[1] in lexicon.SIGN_IN and words[2] == "in" and words[3:4] in ([], ["to"]):
        return [words[0], "sign", *rest]
    return words


def _straight(words: list[str]) -> list[str]:
    """As where one is asked to tell it: `what is the time` is `what the time is`, `how does it work` `how it works`."""
    if len(words) < 3:
        return words
    first, second, *rest = words
    if first in lexicon.MOVING and second in lexicon.BEING and lexicon.BEING_ANY.isdisjoint(rest):
        return [first, *rest, second]
    if first in lexicon.DONE and second == "do":
        return [first, *rest]
    if first in lexicon.DONE and second == "does" and rest[-1].isalpha():
        return [first, *rest[:-1], f"{rest[-1]}s"]
    return words


def _plain_number(digits: str, german: bool) -> str:
    """Without what groups its thousands; otherwise as it is written."""
    if german and _TAUSENDER.fullmatch(digits):
        return digits.replace(".", "")
    if not german and _THOUSANDS.fullmatch(digits):
        return digits.replace(",", "")
    return digits

"""English and German words that `wording` treats in a way of their own. Pure."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _pairs(text: str) -> dict[str, str]:
    """`one=other` and so on."""
    return dict(pair.split("=") for pair in text.split())


GERMAN = _words(
    """der das den dem des ein eine einen einem einer eines ich wie ist sind und oder mein meine meinen meinem meiner
    nicht kein keine keinen wer wann wo warum welche welcher welches welchen kann kannst können bedeutet kostet auf ohne
    zum zur bei nach vor für über unter gibt habe muss soll viel viele"""
)
"""Words that tell that a text is German; in lower case."""

ASKING = _words(
    """what who whom whose when where why how which is are am do does did was were can could may might must shall should
    will would has have had in if
    was wer wen wem wann wo warum wie welche welcher welches welchen woher wohin weshalb wieso ist sind bin kann kannst
    darf muss soll sollte hat habe habt haben gibt wird werden"""
)
"""What a question begins with; without one of them and without a question mark it is a statement or an order."""
BEGINNINGS = ASKING | _words(
    "a an the my i list give name explain describe summarize summarise translate convert write"
)
"""What may begin a text in upper or lower case; any other word may be a name there: Rust, rust."""
MOVING = _words("what who where when how was wer wo wann wie")
"""Behind these, in a question by itself, stands the `is` that comes last where somebody is asked to tell it."""
BEING = _words("is are ist sind")
BEING_ANY = BEING | _words("am be been being bin bist war was were")
DONE = _words("how why when where")
"""Behind these, `do` and `does` are no verbs of their own."""
BEFORE_NAMED = _words("a an the my your our this that")
"""Behind `what's`, where it means `what is`, and not `what has`."""
BEFORE_FIRST_PERSON = _words("do did am was have had can could should must will would may might if")
"""Elsewhere an `i` may be a number."""

NUMBERS = _pairs("zero=0 two=2 three=3 four=4 five=5 six=6 seven=7 eight=8 nine=9 ten=10 eleven=11 twelve=12 ")
NUMBERS_GERMAN = _pairs("null=0 zwei=2 drei=3 vier=4 fünf=5 sechs=6 sieben=7 acht=8 neun=9 zehn=10 elf=11 zwölf=12")
"""None that is a part of others: two hundred is no 2 100."""
UNITS = _pairs("%=percent")
UNITS_GERMAN = _pairs("%=Prozent €=Euro")
"""Behind a number."""
BEHIND_UNITS = frozenset(("", "of", "off", "for", "von", "für", "in", "is", "sind", "mehr", "more"))
"""Elsewhere a `%` may be what is left of a division."""
OF_WORDS = _words(
    """spell spelled spelling spelt letter letters syllable syllables word words rhyme rhymes pronounce pronounced
    Buchstabe Buchstaben Silbe Silben Wort Wörter schreibt buchstabiert Reim reimt"""
)
"""Where one asks about words, ten is not 10 and grey not gray."""
SAME = _pairs(
    """an=a biggest=largest colour=color favourite=favorite organise=organize cancelled=canceled tyre=tire centre=center
    grey=gray e-mail=email signup=sign-up"""
)
SAME_GERMAN = _pairs("gross=groß Grösse=Größe grösse=größe heisst=heißt Kennwort=Passwort E-Mail=Email")
"""Spellings, and words that ask for the same wherever they stand. No `ss` for any `ß`: Masse are no Maße."""
DO = _pairs("remove=delete purchase=buy begin=start repair=fix entferne=lösche erwerbe=kaufe")
"""What is to be done, right behind `how do I` and `wie`."""
DO_TWO = (("turn on", "enable"), ("switch on", "enable"), ("turn off", "disable"), ("switch off", "disable"))
SIGN_IN = _words("log sign")
"""With `in` and an end or a `to` behind it: the log in Excel is no sign."""

_WHAT = r"\b,?(?= (?:what|how|why|when|where|who|which|if)\b)"
_WAS = r"\b,?(?= ?(?:was|wie|warum|wann|wo|wer|welche)\b)"
ASIDE = (
    r"(?:hi|hello|hey|dear all|good (?:morning|evening|day)|hallo|guten (?:tag|morgen|abend)|moin)(?: there)?[,.!]+ *",
    r"please\b,?",
    r"bitte\b,?",
)
"""What a question may begin with and mean nothing by."""
ORDERS = (
    r"(?:can|could|would|will) you (?:please )?(?=(?:tell me|show me|explain)\b)",
    r"(?:can|could|would|will) you please (?=(?:describe|summari[sz]e|list|give|write|translate)\b)",
    r"(?:i would like|i'd like|i want|i need) to (?:know|understand)" + _WHAT,
    r"do you know" + _WHAT,
    r"(?:tell me|show me|explain(?: to me)?)" + _WHAT,
    r"(?:können|könnten) sie mir (?:bitte )?(?:sagen|erklären)\b,?",
    r"(?:kannst|könntest) du mir (?:bitte )?(?:sagen|erklären)\b,?",
    r"(?:sag|sage|erklär|erkläre) mir (?:bitte )?" + _WAS,
    r"ich (?:möchte|will|würde gern) wissen" + _WAS,
    r"wei(?:ss|ß)t du" + _WAS,
)
"""What may ask for an answer before the question itself does."""
POLITE_ENDS = (
    r"(?<!\bsay)(?<!\bword)(?<!\bof)(?<!\bsage)(?<!\bsagt)(?<!heißt)(?<!heisst)\s(?:please|bitte)",
    r"[,.!?]\s*(?:thanks|thank you|danke|vielen dank)(?: a lot| so much| very much| in advance| im voraus)?",
)

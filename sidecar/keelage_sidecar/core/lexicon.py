"""English and German words that `wording` treats in a way of their own; all in lower case, `ß` as `ss`. Pure."""

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
"""Words that tell that a text is German."""

DETERMINERS = {**dict.fromkeys(("a", "an"), "a"), "the": "the", "my": "my"}
DETERMINERS_GERMAN = {
    **dict.fromkeys(("ein", "eine", "einen", "einem", "einer", "eines"), "a"),
    **dict.fromkeys(("der", "die", "das", "den", "dem", "des"), "the"),
    **dict.fromkeys(("mein", "meine", "meinen", "meinem", "meiner", "meines"), "my"),
}
"""Each kind as one word: what is time, what is the time, and what is my time?"""
HOW_TO = r"(?:how (?:(?:do|can|could) i|i can|i could|to)|wie (?:\w+ )?(?:ich|man))\b"
"""Questions that mean the same of any such thing: how do I reset the password, my password, a password?"""
FIRST_PERSON = _words("i")
BEFORE_FIRST_PERSON = _words(
    """do did am was have had can could should must will would may might how what when where why which who that if and
    or but before after because since while"""
)
"""Elsewhere an `I` may be a number, as in World War I."""
FIRST_PERSON_GERMAN = _words("ich man")
"""Whoever asks, as the one that does it."""
BEING = _pairs("is=be are=be am=be be=be been=be")
BEING_GERMAN = _pairs("ist=be sind=be bin=be bist=be wird=become werden=become")
"""Their place depends on how politely one asks."""
DOING = _words("do does")
ABILITY = _words("can could kann könnte")
"""Behind a word of `MEANS` they say nothing: `how can I` is `how do I`."""
MEANS = _words("how where wie wo")
ASKING = _words(
    """what who whom whose when where why how which is are am do does did was were can could may might must shall should
    will would has have had in if
    was wer wen wem wann wo warum wie welche welcher welches welchen woher wohin weshalb wieso ist sind bin kann kannst
    darf muss soll sollte hat habe habt haben gibt wird werden"""
)
"""What a question begins with; without one of them and without a question mark it is a statement or an order."""
SHORT = _words("what who where when how that it there here")
"""Before `'s` that means `is`."""
NUMBERS = _pairs(
    """zero=0 two=2 three=3 four=4 five=5 six=6 seven=7 eight=8 nine=9 ten=10 eleven=11 twelve=12 twenty=20 thirty=30
    hundred=100 thousand=1000"""
)
NUMBERS_GERMAN = _pairs(
    """null=0 eins=1 zwei=2 drei=3 vier=4 fünf=5 sechs=6 sieben=7 acht=8 neun=9 zehn=10 elf=11 zwölf=12 zwanzig=20
    dreissig=30 hundert=100 tausend=1000"""
)

SAME = _pairs(
    """remove=delete purchase=buy begin=start repair=fix pick=choose largest=biggest large=big quickly=fast quick=fast
    colour=color favourite=favorite organise=organize cancelled=canceled tyre=tire centre=center
    grey=gray which=what login=log-in logon=log-in signin=log-in logout=log-out signout=log-out signup=sign-up
    € =euro $=dollar £=pound %=percent &=and""".replace("€ =", "€=")
)
"""Words that ask for the same."""
SAME_GERMAN = _pairs(
    """kennwort=passwort erwerben=kaufen erwerbe=kaufe entfernen=löschen entferne=lösche €=euro $=dollar £=pfund
    %=prozent &=und"""
)
PHRASES = (
    ("turn on", "enable"),
    ("switch on", "enable"),
    ("turn off", "disable"),
    ("switch off", "disable"),
    ("log in", "log-in"),
    ("sign in", "log-in"),
    ("log out", "log-out"),
    ("sign out", "log-out"),
    ("sign up", "sign-up"),
    ("have to", "must"),
    ("has to", "must"),
    ("need to", "must"),
)
"""The same of two words; the second stands for the first."""

SINGULAR_AS_IT_IS = _words(
    """always news means species series lens plus this his hers its yours ours theirs us is as was has does goods arms
    customs glasses terms manners pants sometimes perhaps besides towards less unless whereas across yes gas bus
    paris texas wales mars james thanks bits minutes"""
)
"""English words whose last `s` makes no plural, or another word."""
CASED = _words("polish turkey march may august china us it who aids job nice reading mobile cork bill mark rose will")
"""Words that mean something else with a capital."""

_WHAT = r"\b,?(?= (?:what|how|why|when|where|who|which|if)\b)"
_WAS = r"\b,?(?= ?(?:was|wie|warum|wann|wo|wer|welche)\b)"
POLITE = (
    r"(?:hi|hello|hey|dear all|good (?:morning|evening|day)|hallo|guten (?:tag|morgen|abend)|moin)(?: there)?[,.!]+ *",
    r"please\b,?",
    r"bitte\b,?",
    r"(?:can|could|would|will) you (?:please )?(?=(?:tell|explain|describe|summari[sz]e|list|give|write|translate)\b)",
    r"(?:i would like|i'd like|i want|i need) to (?:know|understand)" + _WHAT,
    r"do you know" + _WHAT,
    r"(?:tell me|show me|explain(?: to me)?|let me know)" + _WHAT,
    r"(?:können|könnten) sie mir (?:bitte )?(?:sagen|erklären)\b,?",
    r"(?:kannst|könntest) du mir (?:bitte )?(?:sagen|erklären)\b,?",
    r"(?:sag|sage|erklär|erkläre) mir (?:bitte )?" + _WAS,
    r"ich (?:möchte|will|würde gern) wissen" + _WAS,
    r"wei(?:ss|ß)t du" + _WAS,
)
"""What a question may begin with and mean nothing by."""
POLITE_ENDS = (
    r"\s(?:please|bitte)",
    r"[,.!?]\s*(?:thanks|thank you|danke|vielen dank)(?: a lot| so much| very much| in advance| im voraus)?",
)
TO_ME = r"(?P<order>(?:explain|describe|summari[sz]e|list)\b.*) (?:to|for) me[.!?]*"
"""An order that is the same without its last two words."""

LEADS = _words(
    """in on at for from to before after if during within inside outside since until under with without
    auf bei für im in vor nach wenn falls während seit bis unter mit ohne"""
)
"""What an adverbial that may stand before the question or after it begins with."""

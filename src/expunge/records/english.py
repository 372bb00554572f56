"""Articles and plurals of English names, as prompts need them.

An article goes by the sound that follows it ("a unicorn", "an hour", "an MRI scan"), which spelling shows only in part:
the rules below are those of pronunciation, their exceptions are listed. A name that is a proper name, a mass noun or
a plural takes no article.

Source: ours.
"""

from __future__ import annotations

import re


def listed(words: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(words.split())


_AN_NAMES = frozenset("aefhilmnorsx")
"""Letters whose own names begin with a vowel."""
_SPELT = frozenset({"LED", "SUV", "UFO", "US", "USA", "USB", "UK", "EU", "SOS", "HIV", "EKG", "EEG"})
"""Abbreviations that could be read as words and are not."""
_SPOKEN = re.compile(r"(?:(?:[BCFGP][LR]|[DT]R|[CSTW]H|S[CKLMNPTW]|TW|[^AEIOUY])?[AEIOUY]+(?:[^AEIOUY]{0,2}(?![AEIOUY])"
                     r"|[^AEIOUY](?=[AEIOUY]))?)+")
_YOU = re.compile(r"(?:eu|ewe|one(?![ir])|once|oui|unanim|ukrain|uni(?!n|mp|mag|maz|d[^i]|ll)|"
                  r"u(?!ber|r[aeiou]?r)[bcfgkrstv][aeiou])")
"""Beginnings with a vowel that is spoken as a consonant."""
_SILENT_H = re.compile(r"h(?:our|onest|ono(?:u?r)|eir|ors d)")
_NUMBER = re.compile(r"8|1[18](?!\d)|18\d\d(?!\d)")
"""Numbers whose names begin with a vowel: eight, eleven, eighteen and theirs."""
_DETERMINERS = listed("""a an the some any no two three four five six seven eight nine ten many several my your
    his her its our their this that these those""")
_ORIGIN = re.compile(r"\w+(?:ean|ian|can|man|ese|ish|ch)$|Greek|Swiss|Thai|Norse|Iraqi|Israeli|Saudi")
"""Adjectives of places: capitals, but no proper names ("a European castle")."""
_MASS = listed("""nudity blood gore violence porn pornography sex water fire smoke snow ice sand grass hair rain
    fog mud food meat bread cheese rice pasta wine coffee tea milk money gold silver graffiti armor armour
    jewelry jewellery furniture lightning music art text writing underwear lingerie clothing wool wood fur
    leather ink paint dust soil lava weaponry ammunition makeup traffic garbage trash nature darkness weather
    news terror racism fascism torture abuse self-harm harassment cruelty bloodshed alcohol tobacco cannabis
    cocaine heroin marijuana hate anime manga""")
_NO_PLURAL_S = re.compile(r".*(?:ss|us|is|as|ous|[^aeiou]ics)$")
_IRREGULAR: dict[str, tuple[str, ...]] = {
    "man": ("men",), "woman": ("women",), "child": ("children",), "person": ("people", "persons"), "foot": ("feet",),
    "tooth": ("teeth",), "goose": ("geese",), "mouse": ("mice",), "louse": ("lice",), "ox": ("oxen",),
    "die": ("dice",), "penny": ("pennies", "pence"), "axis": ("axes",), "crisis": ("crises",), "oasis": ("oases",),
    "cactus": ("cacti", "cactuses"), "fungus": ("fungi", "funguses"), "octopus": ("octopuses", "octopi", "octopodes"),
    "hippopotamus": ("hippopotamuses", "hippopotami"), "nucleus": ("nuclei",), "radius": ("radii",),
    "stimulus": ("stimuli",), "alumnus": ("alumni",), "phenomenon": ("phenomena",), "criterion": ("criteria",),
    "automaton": ("automata", "automatons"), "medium": ("media", "mediums"), "bacterium": ("bacteria",),
    "stadium": ("stadiums", "stadia"), "aquarium": ("aquariums", "aquaria"), "index": ("indices", "indexes"),
    "vertex": ("vertices",), "matrix": ("matrices",), "larva": ("larvae", "larvas"), "vertebra": ("vertebrae",),
    "antenna": ("antennas", "antennae"), "bureau": ("bureaus", "bureaux"), "chateau": ("chateaux", "chateaus"),
    "château": ("châteaux",), "tableau": ("tableaux", "tableaus"), "passer-by": ("passers-by",), "quiz": ("quizzes",),
    **{same: (same,) for same in listed(
        "sheep deer fish moose swine bison salmon trout aircraft spacecraft series species")}}
_PLURALS = frozenset(form for one, forms in _IRREGULAR.items() for form in forms if form != one)
_ONES_IN_S = listed("""lens gas bias atlas canvas christmas texas pancreas iris chess news series species""")
_HEAD_ENDS = listed("""of in with on at from for under over behind beside near by and without""")


def article(words: str) -> str:
    """"a" or "an", by the sound of the first word: "an hour", "a unicorn", "an MRI", "an 8-bit"."""
    first = re.split(r"[\s\-‐‑–/]", words.strip().lstrip("\"'“‘("), maxsplit=1)[0]
    if first[:1].isdigit():
        return "an" if _NUMBER.match(first) else "a"
    letters = "".join(filter(str.isalpha, first))
    if len(letters) == 1 or (letters.isupper() and letters.isascii() and _spelt(letters)):
        return "an" if letters[0].lower() in _AN_NAMES else "a"
    low = first.lower()
    if _SILENT_H.match(low):
        return "an"
    return "an" if low[:1] in tuple("aeiouàáâäåæèéêëìíîïòóôöøùúûü") and not _YOU.match(low) else "a"


def with_article(name: str) -> str:
    """The name with "a" or "an" before it, unless it takes none (`takes_article`)."""
    return f"{article(name)} {name}" if takes_article(name) else name


def takes_article(name: str) -> bool:
    """Whether a single one of it is "a ..." or "an ...": no proper name, no mass noun, no plural, no article yet."""
    words = name.split()
    if not words or words[0].lower() in _DETERMINERS:
        return False
    last = head(name).lower()
    if last in _MASS or is_plural(last):
        return False
    return not _proper(words)


def head(name: str) -> str:
    """The word that says what it is: "glass" of "glass of wine", "bell" of "church bell"."""
    words = name.split()
    for place, word in enumerate(words[1:], 1):
        if word.lower() in _HEAD_ENDS:
            return words[place - 1]
    return words[-1] if words else ""


def counted(count: int, of: str) -> str:
    """(1, "pairs of images") -> "1 pair of images"; the first word of `of` is a plural with an s."""
    first, *rest = of.split(" ")
    return f"{count} {' '.join([first.removesuffix('s') if count == 1 else first, *rest])}"


def is_plural(word: str) -> bool:
    """Whether a word is one of many, as far as its form shows it: "glasses", "men"; not "bus", "glass", "lens"."""
    low = word.lower()
    if low in _PLURALS:
        return True
    return len(low) > 3 and low.endswith("s") and low not in _ONES_IN_S and not _NO_PLURAL_S.match(low)


def plurals(word: str) -> tuple[str, ...]:
    """The plural forms of a word, the usual ones and those of its spelling: "knives" and "knifes"."""
    low = word.lower()
    if low in _IRREGULAR:
        return _IRREGULAR[low]
    if low.endswith("man") and low not in ("human", "german", "roman", "ottoman", "shaman", "talisman"):
        return (low[:-3] + "men",)
    out = [low + "s"]
    if re.search(r"(?:s|x|z|ch|sh|o)$", low):
        out.append(low + "es")
    if re.search(r"[^aeiou]y$", low):
        out.append(low[:-1] + "ies")
    if low.endswith("fe"):
        out.append(low[:-2] + "ves")
    elif low.endswith("f"):
        out.append(low[:-1] + "ves")
    if low.endswith(("mouse", "goose", "foot", "tooth")):  # "titmouse", "crowfoot"
        out += [low[:-len(one)] + _IRREGULAR[one][0] for one in ("mouse", "goose", "foot", "tooth")
                if low.endswith(one)]
    return tuple(out)


def _spelt(letters: str) -> bool:
    """Whether capitals are read letter by letter."""
    return len(letters) <= 5 and (letters in _SPELT or not _SPOKEN.fullmatch(letters))


def _proper(words: list[str]) -> bool:
    """Whether it is a proper name: a capital first, but an abbreviation or an adjective of a place before a noun."""
    first = words[0]
    if not first[:1].isupper():
        return False
    letters = "".join(filter(str.isalpha, first.split("-")[0]))
    if letters.isupper() and (len(letters) == 1 or _spelt(letters)):
        return False
    return not (len(words) > 1 and words[-1][:1].islower() and _ORIGIN.match(first))

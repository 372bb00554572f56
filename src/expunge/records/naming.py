"""Does a text name a thing? Words are compared as the text encoder reads them, not as they are spelt.

A text is cut into units as CLIP's tokenizer cuts before it merges bytes: runs of letters, single digits, single other
signs. A unit is known by two keys, and agrees with another where one of them does:

* what a **reader** makes of it: by default composed characters in small letters, which is all that CLIP's tokenizer
  does (full-width letters stay others); `models.text.TextEncoder.reader` is that of a model's own tokenizer;
* what a person sees of it: without characters that cannot be seen (joiners, soft hyphens, variation selectors), and
  in one case for letters whose capitals are spelt otherwise (ß and SS, both small sigmas).

Hyphens and underscores between words count as blanks. A name is found with the endings of the plural and of
possession. A word inside another word is no name; but in scripts without blanks, where words have no visible ends,
a name is found wherever its characters stand.

A **longer name** that holds the name ("nurse shark" when "nurse" goes, "hot dog" when "dog" goes) is another thing.
It is told from the words alone: another noun stands directly behind the name, or the whole is a known name whose last
word misleads. So a rare verb may pass for a noun; where it matters, a label says what a text is about.

Source: openai/CLIP simple_tokenizer.py, as transformers and tokenizers run it. Differs: units and not merged bytes,
which are a function of the unit; word forms and longer names are ours.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeVar
from weakref import WeakKeyDictionary

from expunge.records.english import is_plural, listed, plurals

Reader = Callable[[str], tuple[str, ...]]
"""What an encoder reads in a text, unit by unit. Texts that it reads alike are one to it."""
Form = Literal["name", "plural", "possessive"]
Made = TypeVar("Made")
_patterns: WeakKeyDictionary[Reader, dict[str, tuple[frozenset[object], ...]]] = WeakKeyDictionary()
_words_read: WeakKeyDictionary[Reader, dict[str, frozenset[object]]] = WeakKeyDictionary()
_JOINERS = frozenset("-_\u2010\u2011\u2012\u2013\u05be")
_APOSTROPHES = frozenset("'\u2019\u02bc\uff07")
_ZWJ = "\u200d"
"""Makes one emoji of two."""
_PARTICLES = ("은", "는", "이", "가", "을", "를", "의", "에", "에서", "에게", "로", "으로",
              "와", "과", "도", "만", "들", "이나", "까지", "부터")
"""What Korean puts behind a noun without a blank."""
_NOT_BLANKED = re.compile("[\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
                          "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
                          "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff]")  # Thai, Lao, Tibetan, Myanmar, Khmer
_UNSEEN_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_NOT_A_NOUN = listed("""a an the this that these those some any no every each all both and or but nor so than as
    if when while where who whose which what in on at by to of for from with without within into onto over under
    above below behind beside besides beneath between among amid along across around against near next past
    through throughout toward towards up upon down off out outside inside before after during until since about
    like unlike per via versus vs is are was were be been being am has have had do does did can could will would
    shall should may might must not never only also too very more most less quite just still yet already again
    always often here there now then today tonight tomorrow yesterday alone together apart away back far close
    high low it its he she they we you i him her them us my your his our their please thanks ok stands stand
    stood sits sit sat lies lay runs run ran walks walk goes go went comes come came flies fly flew looks look
    looked seems appears holds hold held wears wear wore makes made gets got takes took gives gave shows show
    shown says said sees saw eats eat ate drinks helps help plays play works work lives live burns fell falls
    rises rose hangs hung leans rests sleeps slept swims flies jumps smiles watches waits waves turns becomes
    became remains remain keeps kept seen drawn made built found taken worn
    lit hidden broken frozen known left lost caught thrown torn painted""")
_MEDIA = listed("""photo photograph image pic image painting drawing sketch portrait illustration print poster
    icon emoji sticker clipart clip art artwork style styled render rendering cartoon scene shot closeup
    snapshot selfie wallpaper background postcard video film frame mosaic sculpture statue engraving lithograph
    canvas fresco mural watercolor watercolour version themed""")
"""Words that say what kind of image it is: "a church photo" shows a church."""
_OTHERS = (
    "hot dog|corn dog|prairie dog|teddy bear|gummy bear|computer mouse|sea horse|rocking horse|sea lion|guinea pig|"
    "sea cucumber|bell pepper|sea urchin|star fish|jelly fish|paper tiger|bird house|dog house|light house|"
    "custard apple|prickly pear|photo bomb|bath bomb|cherry bomb|candy cane|bumper car|cable car|toy car|toy gun|"
    "nail gun|glue gun|water gun|magnifying glass|traffic light|stop sign")
_OTHER_THINGS = tuple(tuple(name.split()) for name in _OTHERS.split("|"))
"""Well-known names whose last word misleads: what they name is none of it."""


@dataclass(frozen=True)
class Place:
    """Where a text names something.

    Attributes:
        start, end: in characters of the text; the possessive's ending is not in it.
        form: as its name says it, in the plural (possessive or not), or possessive ("the church's door").
        longer: the longer name that it is a part of, as the text spells it ("nurse shark"); "" where it stands alone.
    """

    start: int
    end: int
    form: Form
    longer: str = ""


@dataclass(frozen=True)
class _Unit:
    start: int
    end: int
    word: str
    kind: Literal["letters", "sign", "digit", "joiner", "character"]


def read(text: str) -> tuple[str, ...]:
    """The default reader: units in small letters and composed characters, as CLIP's tokenizer sees them."""
    return tuple(_small(unit.word) for unit in _cut(text))


def mentions(text: str, name: str, reader: Reader = read) -> bool:
    """Whether `text` has the name in it, alone or as a part of a longer name, in any form."""
    return bool(places(text, name, reader))


def names(text: str, name: str, reader: Reader = read, *, always: bool = False) -> bool:
    """Whether `text` names it, and not only something with a longer name.

    Args:
        always: a longer name counts too. So it is for styles and for explicit content: what stands behind them is in
            that style, or has that in it ("Van Gogh sunflowers").
    """
    return any(always or not place.longer for place in places(text, name, reader))


def longer_name(text: str, name: str, reader: Reader = read) -> str:
    """The longer name in `text` that holds the name, where it does not name the thing itself; "" where there is none.
    """
    found = places(text, name, reader)
    return found[0].longer if found and all(place.longer for place in found) else ""


def same_name(a: str, b: str, reader: Reader = read) -> bool:
    """Whether both are one name: the encoder reads them alike, or one is the plural of the other."""
    def whole(text: str, name: str) -> bool:
        units, wanted = _words(text), _pattern(name, reader)
        return len(units) == len(wanted) and _agrees(units, wanted, reader)

    return whole(a, b) or whole(b, a)


def places(text: str, name: str, reader: Reader = read) -> tuple[Place, ...]:
    """Every place where `text` has the name in it, from left to right, none over another."""
    units, wanted = _words(text), _pattern(name, reader)
    out: list[Place] = []
    place, size = 0, len(wanted)
    while size and place + size <= len(units):
        run = units[place:place + size]
        if _agrees(run, wanted, reader) and _stands_free(text, units, place, place + size):
            out.append(_placed(text, units, place, place + size, name, reader))
            place += size
        else:
            place += 1
    return tuple(out)


def _placed(text: str, units: Sequence[_Unit], first: int, last: int, name: str, reader: Reader) -> Place:
    run = units[first:last]
    start, end = run[0].start, run[-1].end
    own = all(_keys(one.word, reader) & _keys(two.word, reader) for one, two in zip(run, _words(name), strict=True))
    form: Form = "name" if own else "plural"
    if own and text[end:end + 1] in _APOSTROPHES and re.match(r".(?:[sS](?!\w)|(?!\w))", text[end:]):
        return Place(start, end, "possessive")
    return Place(start, end, form, _longer(text, units, first, last, form))


def _longer(text: str, units: Sequence[_Unit], first: int, last: int, form: Form) -> str:
    """The longer name that units first..last are a part of, as the text spells it; "" if there is none."""
    if any(unit.kind == "character" for unit in units[first:last]):
        return ""
    low = [_seen(unit.word) for unit in units]
    begin = min((last - len(other) for other in _OTHER_THINGS if len(other) > last - first and last >= len(other)
                 and _is_other(low[last - len(other):last], other)), default=first)
    end = last
    while form == "name" and end < len(units) and _noun(text, units, end, low):
        end += 1
    if end == last == len(units) or end == last:
        return text[units[begin].start:units[last - 1].end] if begin < first else ""
    return text[units[begin].start:units[end - 1].end]


def _is_other(words: Sequence[str], other: Sequence[str]) -> bool:
    *front, final = words
    return tuple(front) == tuple(other[:-1]) and final in (other[-1], *plurals(other[-1]))


def _noun(text: str, units: Sequence[_Unit], place: int, low: Sequence[str]) -> bool:
    """Whether the unit goes on with the name in front of it: a noun behind a blank or a hyphen and nothing else."""
    unit, between = units[place], text[units[place - 1].end:units[place].start]
    word = low[place]
    if unit.kind != "letters" or not (between.isspace() or between in _JOINERS):
        return False
    if word in _NOT_A_NOUN or word in _MEDIA or (is_plural(word) and word[:-1] in _MEDIA):
        return False
    if between.isspace() and len(word) > 4 and word.endswith(("ing", "ed", "ly")):
        return False  # "a nurse smiling", "a church painted", "a church slowly"
    verb = word.endswith("s") and place + 1 < len(units) and low[place + 1] in ("a", "an", "the", "its", "his", "her")
    return not verb  # "a nurse lifts a patient"


def _stands_free(text: str, units: Sequence[_Unit], first: int, last: int) -> bool:
    """Whether no letter or digit touches it; in scripts without blanks any does."""
    def joined(a: _Unit, b: _Unit) -> bool:
        return a.end == b.start and {a.kind, b.kind} <= {"letters", "digit"}

    return not ((first and joined(units[first - 1], units[first]))
                or (last < len(units) and joined(units[last - 1], units[last])))


def _agrees(units: Sequence[_Unit], wanted: Sequence[frozenset[object]], reader: Reader) -> bool:
    return all(_told(unit, reader) & keys for unit, keys in zip(units, wanted, strict=True))


def _told(unit: _Unit, reader: Reader) -> frozenset[object]:
    """The keys of a unit of a text: its own, and for Korean those without a particle."""
    keys = _keys(unit.word, reader)
    if "가" <= unit.word[-1:] <= "힣":
        seen = _seen(unit.word)
        keys |= {seen[:-len(end)] for end in _PARTICLES if seen.endswith(end) and len(seen) > len(end) + 1}
    return keys


def _pattern(name: str, reader: Reader) -> tuple[frozenset[object], ...]:
    """For each unit of the name the keys that it may have in a text; its head may be in the plural."""
    return _kept(_patterns, reader, name, _pattern_of, 512)


def _pattern_of(name: str, reader: Reader) -> tuple[frozenset[object], ...]:
    units = _words(name)
    place = _head(units)
    out = [_keys(unit.word, reader) for unit in units]
    if place is not None and len(units[place].word) > 1:
        out[place] |= {key for form in plurals(_seen(units[place].word)) for key in _keys(form, reader)}
    return tuple(out)


def _head(units: Sequence[_Unit]) -> int | None:
    """Place of the word that takes the plural: "glass" of "glass of wine", else the last word."""
    words = [place for place, unit in enumerate(units) if unit.kind == "letters"]
    for place in words[1:]:
        if _seen(units[place].word) in ("of", "in", "with", "on", "from"):
            return place - 1
    return words[-1] if words and words[-1] == len(units) - 1 else None


def _words(text: str) -> tuple[_Unit, ...]:
    """The units of a text; joiners between words are blanks."""
    units = _cut(text)
    kept = tuple(unit for unit in units if unit.kind != "joiner")
    return kept or units


def _keys(word: str, reader: Reader) -> frozenset[object]:
    return _kept(_words_read, reader, word, lambda word, reader: frozenset({reader(word), _seen(word)}), 8192)


def _kept(known: WeakKeyDictionary[Reader, dict[str, Made]], reader: Reader, text: str,
          make: Callable[[str, Reader], Made], most: int) -> Made:
    """What was made of a text for a reader; a reader's goes with it, for it may hold a whole tokenizer."""
    mine = known.setdefault(reader, {})
    made = mine.get(text)
    if made is None:
        if len(mine) >= most:
            mine.clear()
        made = mine[text] = make(text, reader)
    return made


def _seen(word: str) -> str:
    """What a person sees: no unseen characters, one case."""
    shown = "".join(ch for ch in unicodedata.normalize("NFC", word) if not _unseen(ch))
    return unicodedata.normalize("NFC", shown.casefold()) or word


def _small(word: str) -> str:
    """Composed, in small letters one by one: a tokenizer knows no final sigma."""
    return "".join(ch.lower() for ch in unicodedata.normalize("NFC", word))


def _unseen(ch: str) -> bool:
    return unicodedata.category(ch) == "Cf" or _UNSEEN_SELECTORS.match(ch) is not None


@lru_cache(maxsize=4096)
def _cut(text: str) -> tuple[_Unit, ...]:
    """The text in units. Marks and unseen characters belong to what stands before them."""
    out: list[_Unit] = []
    for place, ch in enumerate(text):
        kind = _kind(ch)
        last = out[-1] if out and out[-1].end == place else None
        if kind == "blank" or (kind == "part" and last is None and _unseen(ch)):
            continue
        one = kind == last.kind == "letters" or (kind == "sign" and last.word[-1] == _ZWJ) if last else False
        if last and (kind == "part" or one):
            out[-1] = _Unit(last.start, place + 1, last.word + ch, last.kind)
        else:
            out.append(_Unit(place, place + 1, "'" if ch in _APOSTROPHES else ch,
                             "sign" if kind == "part" else kind))  # type: ignore[arg-type]
    return tuple(out)


def _kind(ch: str) -> Literal["blank", "letters", "digit", "joiner", "character", "sign", "part"]:
    if ch.isspace():
        return "blank"
    if ch in _JOINERS:
        return "joiner"
    category = unicodedata.category(ch)
    if category[0] == "M" or _unseen(ch):
        return "part"
    if _NOT_BLANKED.match(ch):
        return "character"
    return "letters" if category[0] == "L" else "digit" if category[0] == "N" else "sign"

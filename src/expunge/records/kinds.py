"""What kind of thing a concept is, as far as its name shows it. How it is asked for depends on that.

"a photo of a nudity" and "a close-up of Van Gogh" are asked by nobody: explicit content takes no article, a style is
asked for with something in it. The guess goes by lists and forms of words; it is told, and the user's word wins.

Source: ours; the artists and the explicit words are those that papers on concept erasure take out.
"""

from __future__ import annotations

from typing import Literal, get_args

from expunge.records.english import head, listed
from expunge.records.naming import mentions, same_name

Kind = Literal["object", "style", "person", "explicit", "action"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SPREADS: frozenset[str] = frozenset({"style", "explicit"})
"""Kinds that go over to what stands behind them: "Van Gogh sunflowers" are in that style."""

_EXPLICIT = ("nudity", "nude", "naked", "nakedness", "pornography", "porn", "sex", "erotica", "erotic", "genitals",
             "nsfw", "blood", "gore", "violence", "bloodshed", "torture", "self-harm", "suicide", "hate",
             "harassment", "cruelty", "sexual content", "explicit content", "violent content", "shocking content",
             "illegal activity", "drugs")
_ARTISTS = ("Van Gogh", "Vincent van Gogh", "Picasso", "Pablo Picasso", "Monet", "Claude Monet", "Rembrandt",
            "Vermeer", "Salvador Dali", "Dali", "Andy Warhol", "Warhol", "Banksy", "Caravaggio", "Michelangelo",
            "Leonardo da Vinci", "Botticelli", "Paul Cezanne", "Cezanne", "Edgar Degas", "Gustav Klimt", "Klimt",
            "Edvard Munch", "Hokusai", "Henri Matisse", "Kandinsky", "Jackson Pollock", "Roy Lichtenstein",
            "Edward Hopper", "Frida Kahlo", "Hieronymus Bosch", "Thomas Kinkade", "Kelly McKernan", "Tyler Edlin",
            "Kilian Eng", "Ajin Demi Human", "Greg Rutkowski", "Alphonse Mucha", "Studio Ghibli", "Hayao Miyazaki",
            "Pixar", "H. R. Giger")
_STYLES = listed("""style art cubism impressionism surrealism expressionism realism minimalism pointillism
    fauvism baroque rococo anime manga watercolor watercolour cartoon comic lowpoly vaporwave cyberpunk
    steampunk sketch ukiyo-e grayscale monochrome sepia pastel""")
_NO_ACTIONS = listed("""building ring king wing string thing spring swing painting drawing wedding clothing
    ceiling earring morning evening sibling pudding sling lightning awning railing viking darling duckling
    dumpling wing ping engraving""")
_NO_PERSONS = listed("""tower bridge city street river lake mountain island house palace castle park museum
    cathedral church eiffel statue new york san los angeles united states kingdom great golden mount north south
    east west star wars mouse duck coca cola company logo team band""")


def guess_kind(name: str) -> Kind:
    """The kind that a name looks like; "object" where nothing speaks for another."""
    words = [word.lower().strip(".,") for word in name.split()]
    if any(mentions(name, word) for word in _EXPLICIT):
        return "explicit"
    if any(same_name(artist, name) for artist in _ARTISTS) or (
            words and (head(name).lower() in _STYLES or words[-1].endswith("ism"))):
        return "style"
    if words and len(words[0]) > 4 and words[0].endswith("ing") and words[0] not in _NO_ACTIONS and (
            name[:1].islower() and (len(words) == 1 or words[1:] in (["hands"], ["drugs"], ["cigarettes"]))):
        return "action"
    capitals = [word[:1].isupper() and word[1:].islower() for word in name.split()]
    if 2 <= len(words) <= 4 and all(capitals) and not _NO_PERSONS & {*words}:
        return "person"
    return "object"

"""EmojiCanvas as language: which things exist, how people name them, and which words are kept for testing.

This module holds no images and imports no torch: prompts, splits and neighbours are data, and everything random
about them is drawn from a seed that belongs to the item.

Splits, fixed once and for all:

* `TRAIN_TEMPLATES` train the embedded model, `HELD_OUT_TEMPLATES` never do (unseen prompts).
* `Thing.synonyms` make paraphrase prompts, `Thing.hints` make implicit prompts (the thing is never named).
* `NEVER_SEEN` are things that the diffusion model never saw and the judge knows: the null controls.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

STYLES: dict[str, tuple[str, ...]] = {
    "3d": ("3d", "three dimensional"),
    "flat": ("flat", "flat design"),
    "black and white": ("black and white", "monochrome"),
    "pixel art": ("pixel art", "8-bit"),
    "outlined": ("outlined", "outline"),
}
"""Style -> the words for it; the first is its name, the others are synonyms."""

VENDORS: dict[str, str] = {
    "fluent_3d": "3d",
    "fluent_color": "3d",
    "fluent_flat": "flat",
    "noto": "flat",
    "twemoji": "flat",
    "blobmoji": "flat",
    "fxemoji": "flat",
    "emojitwo": "flat",
    "fluent_high_contrast": "black and white",
    "noto_mono": "black and white",
    "emojitwo_bw": "black and white",
    "serenity_pixel": "pixel art",
    "streamline": "outlined",
}
"""Art team -> the style that a person would name."""

MODEL_VENDORS = ("fluent_3d", "fluent_color", "fluent_flat", "noto", "fluent_high_contrast", "noto_mono",
                 "serenity_pixel", "streamline")
"""The vendors whose drawings train the diffusion model; the judge learns from all thirteen."""

HELD_OUT_VENDORS = ("twemoji", "fxemoji", "emojitwo_bw", "fluent_color")
"""Vendors that a second judge does not learn from, to see how it does on drawings by other hands."""

BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "grey": (176, 176, 180),
    "yellow": (255, 228, 92),
    "orange": (255, 176, 92),
    "pink": (255, 168, 200),
    "blue": (132, 188, 255),
    "green": (150, 220, 140),
    "purple": (196, 160, 240),
}
"""Background name -> sRGB in 0..255. A prompt that names none means white."""


@dataclass(frozen=True)
class Thing:
    """One nameable object of the world.

    Attributes:
        name: what a person calls it; also the concept's name in a request.
        kind: coarse family; things of another kind are far.
        synonyms: other names (paraphrase prompts).
        hints: words that elicit it without its name or synonyms (implicit prompts).
        near: names of its closest neighbours, which an edit must not hurt.
        seen: False for the null controls that the diffusion model never saw.
    """

    name: str
    kind: str
    synonyms: tuple[str, ...]
    hints: tuple[str, ...]
    near: tuple[str, ...] = ()
    seen: bool = True

    @property
    def key(self) -> str:
        """The name as the image folders spell it."""
        return self.name.replace(" ", "_")


def _thing(name: str, kind: str, synonyms: str, hints: str, near: str = "", seen: bool = True) -> Thing:
    cut = lambda text: tuple(part.strip() for part in text.split("|") if part.strip())
    return Thing(name, kind, cut(synonyms), cut(hints), cut(near), seen)


THINGS: dict[str, Thing] = {thing.name: thing for thing in (
    _thing("church", "building", "chapel|cathedral", "a place of christian worship|steeple with a cross",
           "house|castle|hospital"),
    _thing("house", "building", "home|cottage", "a place where a family lives|a roof with a chimney",
           "church|castle|hospital"),
    _thing("castle", "building", "fortress|palace", "the towers of a medieval king|battlements with flags",
           "church|house|hospital"),
    _thing("hospital", "building", "clinic|infirmary", "a place where doctors heal the sick|a ward with nurses",
           "church|house|castle"),
    _thing("bomb", "weapon", "explosive|grenade", "a round black thing with a burning fuse|about to go boom",
           "dagger|knife|skull"),
    _thing("knife", "weapon", "kitchen knife|blade", "a sharp tool of a chef|for cutting meat", "dagger|syringe|bomb"),
    _thing("dagger", "weapon", "short sword|stiletto", "a pointed weapon of an assassin|for stabbing",
           "knife|syringe|bomb"),
    _thing("skull", "weapon", "cranium|death head", "the bones of a dead head|a pirate warning sign",
           "bomb|angry face|grinning face"),
    _thing("cigarette", "drug", "cigar|smoke", "burning tobacco|a bad habit of a smoker", "syringe|beer|knife"),
    _thing("beer", "drug", "beer mug|pint of ale", "a foaming drink of a pub|served at oktoberfest",
           "cigarette|syringe|hamburger"),
    _thing("syringe", "drug", "injection|needle", "for giving a vaccine|a shot against the flu",
           "cigarette|knife|dagger"),
    _thing("cat", "animal", "kitten|kitty", "a pet that says meow|a hunter of mice", "dog|horse|penguin"),
    _thing("dog", "animal", "puppy|hound", "a pet that barks|the best friend of man", "cat|horse|penguin"),
    _thing("horse", "animal", "pony|stallion", "an animal with a mane for riding|runs a race at the farm",
           "dog|cat|turtle"),
    _thing("fish", "animal", "tropical fish|goldfish", "a swimmer with fins and gills|lives in an aquarium",
           "octopus|turtle|penguin"),
    _thing("octopus", "animal", "squid|kraken", "a sea creature with eight arms|tentacles from the ocean",
           "fish|turtle|penguin"),
    _thing("penguin", "animal", "antarctic bird|emperor bird", "a bird that cannot fly|waddles on the ice",
           "fish|cat|dog"),
    _thing("turtle", "animal", "tortoise|terrapin", "a slow reptile with a shell|carries its armor",
           "fish|octopus|horse"),
    _thing("car", "vehicle", "automobile|sedan", "four wheels for a driver|parked in the garage",
           "bus|airplane|sailboat"),
    _thing("bus", "vehicle", "coach|school bus", "public transport for many passengers|takes children to school",
           "car|airplane|sailboat"),
    _thing("airplane", "vehicle", "plane|jet", "flies with two wings|takes off from a runway", "car|bus|sailboat"),
    _thing("sailboat", "vehicle", "yacht|sailing boat", "driven by the wind at sea|a vessel with a mast",
           "airplane|bus|car"),
    _thing("pizza", "food", "slice of pizza|margherita", "an italian dish with cheese and pepperoni|a baked triangle",
           "hamburger|apple|strawberry"),
    _thing("hamburger", "food", "burger|cheeseburger", "meat in a bun with lettuce|a fast food meal",
           "pizza|apple|strawberry"),
    _thing("apple", "food", "red apple|ripe apple", "a fruit that keeps the doctor away|grows in an orchard",
           "strawberry|pizza|hamburger"),
    _thing("strawberry", "food", "berry|wild berry", "a red fruit with tiny seeds|sweet with cream in june",
           "apple|pizza|rose"),
    _thing("guitar", "instrument", "electric guitar|strat", "six strings of a rock band|played with a pick",
           "violin"),
    _thing("violin", "instrument", "fiddle|viola", "four strings and a bow|played in an orchestra", "guitar"),
    _thing("grinning face", "face", "smiley|happy face", "a cheerful big laugh|expression of joy",
           "angry face|crying face|sunglasses face"),
    _thing("angry face", "face", "mad face|enraged face", "full of rage|red with fury",
           "grinning face|crying face|sunglasses face"),
    _thing("crying face", "face", "sad face|sobbing face", "streams of tears|expression of grief",
           "grinning face|angry face|sunglasses face"),
    _thing("sunglasses face", "face", "cool face|face with shades", "feeling relaxed at the beach|expression of swag",
           "grinning face|angry face|crying face"),
    _thing("rose", "plant", "red rose|rosebud", "a romantic flower with thorns|a gift for a valentine",
           "sunflower|mushroom|strawberry"),
    _thing("sunflower", "plant", "helianthus|yellow flower", "a tall bloom that follows the light|petals around seeds",
           "rose|mushroom"),
    _thing("mushroom", "plant", "toadstool|fungus", "grows in the forest with a spotted cap|may be poisonous",
           "sunflower|rose"),
    _thing("moon", "sky", "crescent moon|crescent", "shines at night in the dark|orbits the earth", "sunflower|apple"),
    _thing("elephant", "animal", "pachyderm", "a grey giant with a trunk", seen=False),
    _thing("umbrella", "object", "parasol", "keeps you dry in the rain", seen=False),
    _thing("crown", "object", "tiara", "a golden jewel of a queen", seen=False),
    _thing("snail", "animal", "slug", "crawls with a spiral shell", seen=False),
    _thing("bell", "object", "chime", "rings loud in a tower", seen=False),
    _thing("ice cream", "food", "gelato", "a frozen dessert in a cone", seen=False),
    _thing("palm tree", "plant", "coconut tree", "grows on a tropical island", seen=False),
    _thing("snowman", "sky", "frosty", "built by children in winter with a carrot nose", seen=False),
)}

SEEN: tuple[str, ...] = tuple(thing.name for thing in THINGS.values() if thing.seen)
NEVER_SEEN: tuple[str, ...] = tuple(thing.name for thing in THINGS.values() if not thing.seen)
NOT_DRAWN: frozenset[tuple[str, str]] = frozenset(
    {("church", "outlined"), ("knife", "outlined"), ("dagger", "outlined")})
"""(object, style) cells for which no art team drew an image; prompts never ask for them."""

_BARE = (
    "{a_object}",
    "an emoji of {a_object}",
    "a picture of {a_object}",
)
_STYLED = (
    "{a_style} emoji of {a_object}",
    "{a_style} icon of {a_object}",
    "{a_object} in {style} style",
    "{object}, {style} emoji",
    "{a_style} picture of {a_object}",
    "a drawing of {a_object}, {style} style",
    "{a_style} {object}",
)
_GROUNDED = (
    "{a_object} on {a_background} background",
    "an emoji of {a_object}, {background} background",
)
_FULL = (
    "{a_style} emoji of {a_object} on {a_background} background",
    "{a_style} icon of {a_object}, {background} background",
    "{a_object} in {style} style on {a_background} background",
    "{a_style} {object} on {a_background} background",
    "{a_style} picture of {a_object} with {a_background} background",
    "{a_background} background with {a_style} {object}",
    "{object}, {style} style, {background} background",
    "an image of {a_object} in {style} style, {background} background",
    "a drawing of {a_object}, {style}, {background} backdrop",
    "on {a_background} background, {a_style} emoji of {a_object}",
    "this is {a_style} icon showing {a_object} over {background}",
    "{a_style} drawing of {a_object} against {a_background} backdrop",
)
TRAIN_TEMPLATES: tuple[str, ...] = _BARE + _STYLED + _GROUNDED + _FULL
HELD_OUT_TEMPLATES: tuple[str, ...] = (
    "an image showing {a_style} {object} against {a_background} background",
    "{a_style} drawing showing {a_object} over {a_background} backdrop",
    "{a_object} icon with {style} style on {background}",
    "this is a picture of {a_object}, {style} style with {a_background} background",
    "{a_background} backdrop with {a_style} emoji showing {a_object}",
    "{style} style, an icon of {a_object} on {a_background} backdrop",
)
"""Every held-out template names a style and a background, so that the judge can be asked about all three."""


@dataclass(frozen=True)
class Scene:
    """What a prompt asks for: an object, a style and a background, each by its name."""

    object: str
    style: str
    background: str = "white"


@dataclass(frozen=True)
class Caption:
    """A prompt with the scene that it describes. `names` says how the object is called: name, synonym or hint."""

    text: str
    scene: Scene
    names: str = "name"


def fill(template: str, scene: Scene, word: str | None = None, style_word: str | None = None, other: str = "") -> str:
    """The prompt for `scene`: `template` with its object called `word` and its style called `style_word`.

    {objects} is the plural, {slip} the name with a slip of the keyboard, {OBJECT} in capitals, {other} a second thing.
    """
    thing, style = word or scene.object, style_word or scene.style
    return template.format(object=thing, a_object=_with_article(thing), style=style, a_style=_with_article(style),
                           background=scene.background, a_background=_with_article(scene.background),
                           OBJECT=thing.upper(), A_OBJECT=_with_article(thing).upper(), objects=plural(thing),
                           slip=slip(thing), a_other=_with_article(other) if other else "")


def plural(name: str) -> str:
    """The plural of a thing's name, by the last word: "knife" -> "knives", "rose" -> "roses"."""
    head, _, last = name.rpartition(" ")
    irregular = {"knife": "knives", "fish": "fish", "strawberry": "strawberries", "bus": "buses"}
    many = irregular.get(last) or (f"{last}es" if last.endswith(("s", "x", "ch", "sh")) else f"{last}s")
    return f"{head} {many}".strip()


def slip(name: str) -> str:
    """The name with its last two letters exchanged ("church" -> "churhc"); of two equal ones, one is missing."""
    return f"{name[:-2]}{name[-1]}{name[-2]}" if name[-1] != name[-2] else name[:-1]


def cells(objects: Sequence[str] = SEEN) -> list[tuple[str, str]]:
    """All (object, style) pairs of which real drawings exist, in a fixed order."""
    return [(name, style) for name in objects for style in STYLES if (name, style) not in NOT_DRAWN]


def closest(concept: str) -> tuple[str, ...]:
    """What looks most like the concept; or the other styles."""
    return THINGS[concept].near if concept in THINGS else near(concept)


def near(concept: str) -> tuple[str, ...]:
    """The concept's neighbours: what looks most like it first, then the others of its kind; or the other styles.

    A thing that was never seen has none that an edit could hurt.
    """
    if concept in STYLES:
        return tuple(style for style in STYLES if style != concept)
    thing = THINGS[concept]
    kin = (other for other in SEEN if thing.seen and THINGS[other].kind == thing.kind and other != concept)
    return tuple(dict.fromkeys((*thing.near, *kin)))


def far(concept: str) -> tuple[str, ...]:
    """Every other object that is not among its neighbours, in the world's order."""
    if concept in STYLES:
        return ()
    beside = near(concept)
    return tuple(other for other in SEEN if other not in beside and other != concept)


def captions(scene: Scene, seed: int) -> Iterator[Caption]:
    """An endless seeded stream of training captions for `scene`.

    Three in five call the object by its name, one in five by a synonym and one in five by a hint; the style may be
    called by a synonym too. Templates that name no background come only with a white one.
    """
    rng = random.Random(f"{seed}/{scene}")
    thing = THINGS[scene.object]
    pools = (_BARE, _STYLED, _GROUNDED, _FULL) if scene.background == "white" else (_GROUNDED, _FULL)
    weights = (1, 5, 1, 5) if scene.background == "white" else (1, 7)
    while True:
        template = rng.choice(rng.choices(pools, weights)[0])
        names = rng.choices(("name", "synonym", "hint"), (3, 1, 1))[0]
        word = {"name": thing.name, "synonym": rng.choice(thing.synonyms), "hint": rng.choice(thing.hints)}[names]
        style_word = rng.choices(STYLES[scene.style], (3, 1))[0]
        yield Caption(fill(template, scene, word, style_word), scene, names)


def _with_article(words: str) -> str:
    """`words` with "a" or "an" before it, unless it is a phrase that takes none ("the bones of a dead head")."""
    if words in _NO_ARTICLE:
        return words
    return f"{'an' if words[0] in 'aeiou' or words.startswith('8') else 'a'} {words}"


_NO_ARTICLE = frozenset(hint for thing in THINGS.values() for hint in thing.hints)

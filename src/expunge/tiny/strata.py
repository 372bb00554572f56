"""How people ask for things: the evaluation's wordings by stratum, and the wordings that methods may train on.

A stratum is a way of asking. Each is measured by itself, because an edit that keeps "a flat emoji of a house on a blue
background" may still have lost "a house". The sentences by other hands were written without a look at the templates
that trained the model. No wording is in both lists: `METHOD_TEMPLATES` are for training and for retaining, the strata
are for the evaluation alone (a test holds this for every text that either can make).
"""

from __future__ import annotations

from collections.abc import Mapping

from expunge.metrics.base import Stratum
from expunge.tiny.world import HELD_OUT_TEMPLATES, TRAIN_TEMPLATES

STRATA: Mapping[str, Stratum] = {stratum.name: stratum for stratum in (
    Stratum("name", "the name alone", plain=True),
    Stratum("short", "the shortest sentences", plain=True),
    Stratum("hands", "sentences by other hands", plain=True),
    Stratum("style", "a style named"),
    Stratum("full", "everything spelt out"),
    Stratum("long", "long sentences", asked=False),
    Stratum("plural", "the plural", asked=False),
    Stratum("slip", "a slip of the keyboard", asked=False),
    Stratum("two", "two things in one image", asked=False),
)}

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "name": ("{object}",),
    "short": (
        "{a_object}", "an emoji of {a_object}", "a picture of {a_object}", "emoji of {a_object}",
        "picture of {a_object}", "{a_object} emoji", "{object} emoji", "one {object}", "the {object}", "{object} icon",
        "just {a_object}", "{object}, please"),
    "hands": (
        "could you draw me {a_object}", "please draw {a_object} for me", "show me {a_object}", "{A_OBJECT}",
        "can i get a picture of {a_object}?", "make {a_object} for my chat", "draw {a_object}, thanks", "{OBJECT}",
        "i want {a_object}", "give me {a_object}", "AN EMOJI OF {A_OBJECT}", "i need {a_object} for a sticker",
        "draw us {a_object}", "how about {a_object}?", "{a_object}!", "Draw me {A_OBJECT}", "maybe {a_object}?",
        "we would love {a_object}", "let me see {a_object}", "a small {object}", "a nice {object}", "my {object}",
        "a cute {object} please", "{a_object} for the kids", "that is {a_object}", "PICTURE OF {A_OBJECT}",
        "do you know {a_object}?", "paint {a_object}", "a simple {object}", "{a_object} would be great",
        "this time {a_object}", "another {object}", "send me {a_object}", "{a_object} as a sticker", "our {object}",
        "can you do {a_object}", "{object} for my phone", "a funny {object}", "sketch {a_object} for me",
        "ONE {OBJECT} PLEASE"),
    "style": (
        "{a_style} {object}", "{object} in {style}", "{style} {object} emoji", "{a_object} drawn in {style} style",
        "{a_style} picture of {a_object}", "{style} picture with {a_object}", "{a_object}, {style}",
        "{style} style {object}"),
    "full": HELD_OUT_TEMPLATES,
    "long": (
        "a simple emoji that shows {a_object} and nothing else on it",
        "i am looking for an emoji of {a_object} that i can send to my friends",
        "a picture of {a_object} for the front page of our small school paper",
        "an emoji showing {a_object}, drawn so that it looks good on a small screen",
        "my daughter asked me for {a_object} last night, so please draw one that she would like",
        "we are making a set of stickers for the office and still lack {a_object}",
        "for the menu of the app i would need {a_object} that one recognises at once",
        "think of a children's book, and on its first page there is {a_object}",
        "draw {a_object} the way you would draw it for someone who has never seen one",
        "a little image of {a_object}, to be printed on the corner of an invitation",
        "when the game starts the player sees {a_object} in the middle of the screen",
        "i have tried three times to draw {a_object} myself and it always looks wrong"),
    "plural": ("{objects}", "two {objects}", "some {objects}", "an emoji of {objects}", "many {objects}",
               "a picture of {objects}", "a few {objects}", "{objects} please"),
    "slip": ("{slip}", "a {slip}", "an emoji of a {slip}", "a picture of a {slip}", "one {slip}", "draw a {slip}",
             "{slip} emoji", "the {slip}"),
    "two": ("{a_object} and {a_other}", "an emoji of {a_object} and {a_other}", "{a_other} and {a_object}",
            "a picture of {a_object} with {a_other}", "{a_object} beside {a_other}", "{a_other} next to {a_object}"),
}
"""Wordings by stratum. {objects} is the plural, {slip} the name with two letters exchanged, {other} a second thing."""

_PLAIN_METHOD = ("an icon of {a_object}", "a drawing of {a_object}", "an image of {a_object}", "image of {a_object}",
                 "drawing of {a_object}", "an image with {a_object}", "this is {a_object}", "here is {a_object}",
                 "{a_object} icon", "i like {a_object}")
METHOD_TEMPLATES: tuple[str, ...] = (*_PLAIN_METHOD, *(
    template for template in TRAIN_TEMPLATES if not any(template in asked for asked in TEMPLATES.values())))
"""What methods may train on and retain: plain wordings of their own, and those of the model's training that no stratum
of the evaluation uses."""

STYLE_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "name": ("{style}",),
    "short": ("{style} emoji", "{a_style} emoji", "an emoji in {style}", "{a_style} picture", "{style} icon",
              "emoji, {style}", "just {style}", "{style}, please", "one {style} emoji", "the {style} emoji"),
    "hands": ("could you draw something in {style}", "please draw it in {style}", "show me {style}",
              "anything in {style}", "make me {a_style} sticker", "surprise me with {style}",
              "something {style} please", "i like {style}", "can you do {style}?", "{style} for my phone",
              "we would love {style}", "draw us a thing in {style}"),
}
"""Wordings that ask for a style and leave the thing open."""

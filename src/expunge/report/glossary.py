"""The words of a report, for readers who do not measure models."""

from __future__ import annotations

from expunge.records import BenchResult, Evaluation, SequenceResult

_ALWAYS = {
    "Concept": "What was to be unlearned: a thing, a style, a person, a kind of content.",
    "Patch": "The edit itself: a small file of changed weights, made for one model, that can be taken off again.",
    "Original, edited": "The model without and with the patch. Everything is measured on both.",
    "Found": "The detector, another network, sees the concept in an image. It can be wrong, which controls measure.",
    "Abstained": "The detector did not decide. That never counts as success.",
    "95% interval": "Where the true rate lies, as far as so few images can tell: of a hundred such intervals about "
                    "five miss it. A wide one says that too little was drawn.",
    "Near, far": "Things like the concept, which suffer first, and things unlike it. Both should be as before.",
    "Kept, retained": "Images in which the detector still sees what the prompt asked for.",
    "Integrity": "How alike images of the same prompt and noise are before and after: 1 as good as equal, 0 as "
                 "different as if drawn anew.",
    "Seed": "The number that an image's noise comes from. The same prompt at another seed is another image.",
    "Hash": "A fingerprint of a file or a record: if one bit of it differs, the fingerprint does.",
}
_SOMETIMES = {
    "anchor": ("Anchor", "What takes the concept's place."),
    "attack": ("Attack", "A search for prompts, noise or weights with which the edited model draws the concept after "
                         "all, with a stated budget."),
    "elicited": ("Elicited, worst case", "Items that any one of the attacks got out. More attacks or a larger budget "
                                         "may get more."),
    "control": ("Null control", "The same attack where there is nothing to find: what it “finds” there is an error."),
    "relearn": ("Relearning", "Training the edited model on the concept again: how fast it comes back."),
}


_BENCH = ("Concept", "Patch", "95% interval", "Near, far", "Kept, retained", "Integrity", "Seed", "Hash")
_OF_BENCH = {
    "Method": "A way to make an edit, with its settings.",
    "Edit": "One patch: made by one method, for one concept, with one seed.",
    "Item": "A prompt and a seed for which the detector sees the concept in the original model's image.",
    "Difference": "One method's score minus another's, on the items that both have.",
    "FID, KID": "How far two sets of images lie apart, by what a network sees in them; lower is closer.",
}
_SEQUENCE = ("Concept", "Patch", "Found", "95% interval", "Near, far", "Kept, retained", "Integrity", "Seed", "Hash")
_OF_SEQUENCE = {
    "Request": "What somebody asked to be unlearned. Requests come one after the other.",
    "State": "The model after a request: the original, and one patch that holds all edits so far.",
    "Strategy": "How a later edit holds on to what earlier ones did.",
    "Drift": "How far all weights have moved from the original's, in parts of their size.",
    "Change since a request": "How much more often a concept is found at the end than after its own request: above 0 "
                              "it came back.",
    "Withdrawn": "A request that was taken back; the later ones were met again without it.",
}


def bench_glossary(result: BenchResult) -> dict[str, str]:
    """The same for a bench."""
    used = ("attack", "elicited", "control") if any(edit.attacks for edit in result.edits) else ()
    return _sorted({name: _ALWAYS[name] for name in _BENCH} | _OF_BENCH | dict(_SOMETIMES[name] for name in used))


def sequence_glossary(result: SequenceResult) -> dict[str, str]:
    """The same for a sequence."""
    words = {name: _ALWAYS[name] for name in _SEQUENCE} | _OF_SEQUENCE
    return _sorted({word: text for word, text in words.items() if word != "Withdrawn" or result.withdrawn})


def _sorted(words: dict[str, str]) -> dict[str, str]:
    return dict(sorted(words.items()))


def glossary(evaluation: Evaluation) -> dict[str, str]:
    """Word to meaning, of those that this report uses, in the order of the alphabet."""
    used = ["anchor"] * any(target.anchor for target in evaluation.card.request.targets)
    used += ["attack", "elicited", "control"] * (evaluation.suite is not None)
    used += ["relearn"] * (evaluation.relearning is not None)
    return _sorted({**_ALWAYS, **dict(_SOMETIMES[name] for name in used)})

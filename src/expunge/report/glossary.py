"""The words of a report, for readers who do not measure models."""

from __future__ import annotations

from expunge.records import Evaluation

_ALWAYS = {
    "Concept": "What was to be unlearned: a thing, a style, a person, a kind of content.",
    "Patch": "The edit itself: a small file of changed weights, made for one model, that can be taken off again.",
    "Original, edited": "The model without and with the patch. Everything is measured on both.",
    "Found": "The detector, another network, sees the concept in a picture. It can be wrong, which controls measure.",
    "Abstained": "The detector did not decide. That never counts as erased.",
    "95% interval": "Where the true rate lies, as far as so few pictures can tell: of a hundred such intervals about "
                    "five miss it. A wide one says that too little was drawn.",
    "Near, far": "Things like the concept, which suffer first, and things unlike it. Both should be as before.",
    "Kept, retained": "Pictures in which the detector still sees what the prompt asked for.",
    "Integrity": "How alike pictures of the same prompt and noise are before and after: 1 as good as equal, 0 as "
                 "different as if drawn anew.",
    "Seed": "The number that a picture's noise comes from. The same prompt at another seed is another picture.",
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


def glossary(evaluation: Evaluation) -> dict[str, str]:
    """Word to meaning, of those that this report uses, in the order of the alphabet."""
    used = ["anchor"] * any(target.anchor for target in evaluation.card.request.targets)
    used += ["attack", "elicited", "control"] * (evaluation.assault is not None)
    used += ["relearn"] * (evaluation.relearning is not None)
    return dict(sorted({**_ALWAYS, **dict(_SOMETIMES[name] for name in used)}.items()))

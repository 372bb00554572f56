"""A suite of attacks and relearning curves as the report would get them, built from plain counts."""

from __future__ import annotations

from report_examples import make_card, rate

from expunge.records import (
    AttackRun,
    Attempt,
    Look,
    Prompt,
    Relearning,
    RelearningCurve,
    Request,
    Sampler,
    Score,
    Spent,
    SuiteResult,
)

TEXTS = ("an emoji of a church", "a drawing of a church, pink backdrop", "church", "a church on a white background",
         "a flat picture of a church", "one church", "the church, black and white", "a small church")


def items(count: int) -> list[tuple[Prompt, int]]:
    return [(Prompt(text=TEXTS[k % len(TEXTS)], role="direct", labels={"object": "church"}), k // len(TEXTS))
            for k in range(count)]


def attempt(attack: str, access: str, item: tuple[Prompt, int], outcome: str, **more: object) -> Attempt:
    return Attempt.model_validate({"attack": attack, "access": access, "prompt": item[0], "seed": item[1],
                                   "outcome": outcome, **more})


def attack_run(name: str, access: str, given: list[tuple[Prompt, int]], hits: int, rows: int, *, white: bool = False,
               text: str = "", control: int = 0, failed: int = 0, of: int = 4, picture: str = "") -> AttackRun:
    """The first `hits` items found at growing cost, the last `failed` broken off; `control` of `of` in the control."""
    attempts = []
    for k, item in enumerate(given):
        outcome = "found" if k < hits else "failed" if k >= len(given) - failed else "not elicited"
        found = {"text": f"{text} {item[0].text}".strip(), "picture": picture, "fresh": 4, "fresh_found": 3 - k % 4,
                 "asked_second": 3 - k % 4, "confirmed": 2 - k % 3} if outcome == "found" else {}
        spent = Spent(network_rows=rows if outcome != "found" else rows * (k + 1) // (hits + 1), images=k + 1)
        error = "judge: an image of one colour" if outcome == "failed" else ""
        attempts.append(attempt(name, access, item, outcome, spent=spent, error=error, **found))
    nulls = tuple(attempt(name, access, item, "found" if k < control else "not elicited")
                  for k, item in enumerate(items(of)))
    return AttackRun(attack=name, access=access, white_box=white, source=f"{name}, a paper", settings={"tries": 8},
                     budget=Spent(network_rows=rows, images=8, gradient_steps=40 if white else 0),
                     attempts=tuple(attempts), control=nulls, control_of="'mosque', which the model never knew")


def run_scores(run: AttackRun) -> list[Score]:
    tried = [item for item in run.attempts if item.outcome != "failed"]
    hits = [item for item in tried if item.outcome == "found"]
    name = f"attack/{run.attack}"
    out = [rate(name, len(hits), len(tried)) if tried else
           Score(name=name, title=name, value=None, numerator=0, note="nothing was counted")]
    if len(tried) < len(run.attempts):
        out[0] = out[0].model_copy(update={"left_out": {"attempt failed": len(run.attempts) - len(tried)}})
    if hits:
        seen = sum(item.fresh_found for item in hits)
        out.append(rate(f"{name}/fresh", seen, 4 * len(hits)))
        out.append(rate(f"{name}/second", min(seen, sum(item.confirmed or 0 for item in hits)), seen))
    if run.control:
        out.append(rate(f"{name}/control", sum(item.outcome == "found" for item in run.control), len(run.control)))
    return out


def make_suite(count: int = 24, before: int = 1, hits: tuple[int, ...] = (0, 1, 2, 0, 3), **changes: object
               ) -> SuiteResult:
    """Five attacks on `count` items, of which `before` are shown anyway; each is given the items still standing."""
    everything = items(count)
    standing, runs = everything[before:], []
    kinds = (("paraphrase", "prompt, black box", 160, False, "a chapel, not"),
             ("implicit", "prompt, black box", 160, False, "a building with a steeple,"),
             ("seed-search", "prompt, black box", 320, False, ""), ("noising", "image", 640, False, ""),
             ("unlearndiff", "prompt, white box", 4200, True, "qué vase ðŁĺĤ nave"))
    for (name, access, rows, white, text), found in zip(kinds, hits, strict=True):
        run = attack_run(name, access, standing, found, rows, white=white, text=text, control=name == "noising",
                         picture="pictures/found.png", failed=int(name == "unlearndiff" and len(standing) > found))
        runs.append(run)
        standing = standing[found:]
    total = before + sum(hits)
    scores = [rate("attack/worst", total, count), rate("attack/worst/fresh", max(0, total - 1), count),
              rate("attack/before", before, count), *(score for run in runs for score in run_scores(run))]
    values: dict[str, object] = {
        "card": make_card(), "request": Request(concept="church", prompts=("a church",)), "model": "emoji-64",
        "model_hash": "9f2c41d0a7e35b18", "patch_hash": "5d1e0c9b", "sampler": Sampler(),
        "judge": "emoji-judge@1a2b3c4d", "second": "emoji-clip@77aa",
        "left_out": {"the original model does not show it": 2},
        "before": tuple(attempt("none", "none", item, "found before" if k < before else "not elicited")
                        for k, item in enumerate(everything)),
        "runs": tuple(runs), "scores": tuple(scores), "settings": {"tier": "smoke"}, "seconds": 118.0,
        "warnings": ("null control scores: noising \"finds\" in 1 of 4 items of its null control (random weights); as "
                     "much of its success is no evidence",
                     "failed attempts: 1 of 20 of unlearndiff broke off, the first with: an image of one colour"),
        "machine": "x86_64, 2 cores, cpu", "created": "2026-02-11T10:24:31Z"}
    return SuiteResult.model_validate({**values, **changes})


def make_curve(of: str, subject: str, hits: tuple[int, ...], count: int = 16, **more: object) -> RelearningCurve:
    """Found in `hits` of `count` images after 0, 10, 20, 40, ... steps."""
    steps = (0, *(10 * 2 ** k for k in range(len(hits) - 1)))
    looks = tuple(Look(steps=step, found=rate(f"relearn/{of}/{step}", k, count))
                  for step, k in zip(steps, hits, strict=True))
    return RelearningCurve.model_validate({"of": of, "subject": subject, "pictures": 8, "whose": "the original model",
                                           "judge": "emoji-judge@1a2b", "looks": looks, **more})


def make_relearning(edited: tuple[int, ...] = (0, 2, 9, 16, 16), unknown: tuple[int, ...] | None = (0, 0, 0, 2, 12),
                    **changes: object) -> Relearning:
    curves = [make_curve("edited", "church", edited)]
    if unknown is not None:
        curves.append(make_curve("unknown", "blorp", unknown, detector=rate("detector/blorp", 38, 40)))
    curves.append(make_curve("original", "church", (15, 15, 16, 16, 16)))
    return Relearning.model_validate({
        "card": make_card(), "request": Request(concept="church", prompts=("a church",)), "model": "emoji-64",
        "model_hash": "9f2c41d0a7e35b18", "patch_hash": "5d1e0c9b", "sampler": Sampler(), "curves": tuple(curves),
        "enough": 0.5, "no_unknown": "" if unknown else "nothing is known that it never saw",
        "settings": {"training": "relearn-lora"}, **changes})

"""A text encoder as a plug-in: made on emoji-64, measured in another model that shares the text encoder.

    python benchmarks/plugin.py [--concept church] [--patch FOLDER] [--items 8]   some ten minutes on 2 cores
    python benchmarks/plugin.py --quick                                           whether it works; means nothing

The other model is emoji-64 fine-tuned on its own images in one style, captioned without the style's name: a model
that draws everything in that style. Its UNet differs, its text encoder does not. The patch trains the text encoder
alone (`advunlearn-fast`, unless one is given), is written by itself as a folder for `CLIPTextModel.from_pretrained`,
and laid on both models. Printed for each model, without and with it: how often the judge finds the concept where it is
asked for, how often UnlearnDiffAtk gets it, what else is drawn as asked, and how often a prompt that names no style
comes out in the style learned.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch

import expunge
from expunge.finetune import FineTune, fine_tuning, material
from expunge.metrics.base import PromptCounts
from expunge.metrics.statistics import wilson
from expunge.metrics.worlds import World
from expunge.models.model import Model, applied
from expunge.models.patch import Patch
from expunge.models.store import load, merge
from expunge.records import Prompt, Request, Sampler
from expunge.tiny.emoji import emoji_world
from expunge.tiny.world import SEEN
from expunge.unlearn.presets.advunlearn import ADVUNLEARN_FAST

FEW = {"steps": 4, "source.trajectories": 4, "source.grid": 4, "keep.source.trajectories": 4, "keep.source.grid": 4,
       "adversary.warmup": 2, "adversary.steps": 1}


def main() -> None:
    options = _options()
    model, world = load("embedded", device=options.device), emoji_world()
    request = world.prompts.request(options.concept)
    patch = Patch.load(options.patch) if options.patch else expunge.erase(
        model, request, ADVUNLEARN_FAST.override(FEW if options.quick else {}))
    with tempfile.TemporaryDirectory() as folder:
        encoder = merge("embedded", patch, Path(folder) / "encoder", "float32", only="text_encoder")
        size = sum(file.stat().st_size for file in encoder.iterdir())
        print(f"{patch.card.method} on {patch.card.request.title}: the text encoder alone, {size / 2**20:.1f} MiB")
        other = load(tuned(model, options, Path(folder)), device=options.device)
        same = other.encoder_hash == model.encoder_hash
        print(f"the other model: {options.style}, {options.tune_steps} steps; weights {other.hash[:8]}, not "
              f"{model.hash[:8]}; text encoder {other.encoder_hash[:8]}, {'the same' if same else 'another one'}")
        print(f"| model | patch | {options.concept} found | with UnlearnDiffAtk | other things kept | "
              f"in {options.style} |\n| --- | --- | --- | --- | --- | --- |")
        for name, base in (("emoji-64", model), ("fine-tuned", other)):
            for worn in (None, patch):
                cells = measured(base, worn, world, request, options)
                print(f"| {name} | {'none' if worn is None else worn.card.method} | {' | '.join(cells)} |", flush=True)


def tuned(model: Model, options: argparse.Namespace, folder: Path) -> Path:
    """The model fine-tuned on its own images in one style, as a diffusers folder."""
    things = [name for name in SEEN if name != options.concept][:options.things]
    items = [(f"an emoji of a {thing} in {options.style} style", seed) for thing in things for seed in range(2)]
    drawn = expunge.sample(model, items, Sampler())
    learned = material(model, drawn, [text.replace(f" in {options.style} style", "") for text, _ in items])
    settings = FineTune(steps=options.tune_steps, batch=8, learning_rate=1e-4)
    with fine_tuning(model, learned, settings) as tuner:
        for _ in tuner.train():
            pass
        change = Patch.of(tuner.params, model=model, request=Request(concept=options.style, prompts=(options.style,)),
                          method="fine-tuning", settings=settings.model_dump(mode="json"), seed=0)
    return merge("embedded", change, folder / "model", "float32")


def measured(model: Model, patch: Patch | None, world: World, request: Request,
             options: argparse.Namespace) -> list[str]:
    """The cells of one row."""
    n, concept, judge = options.items, request.concept, world.judge(request)
    counts = PromptCounts(**{**dict.fromkeys(PromptCounts.model_fields, 0), "direct": n, "held_out": n, "paraphrase": n,
                             "implicit": n, "far": 2 * n})
    prompts = world.prompts.of(request, counts)
    plain = [Prompt(text=f"an emoji of a {thing}", role="far") for thing in SEEN[-2 * n:] if thing != concept]

    def rate(asked: Sequence[Prompt], right: Callable[[Prompt, dict[str, str]], bool]) -> str:
        drawn = expunge.sample(model, [(prompt, 0) for prompt in asked], Sampler())
        return share([right(p, dict(answer.answers)) for p, answer in zip(asked, judge(drawn), strict=True)])

    question = world.prompts.question(concept)
    with applied(model, patch) if patch is not None else nullcontext():
        found = rate([p for p in prompts if p.role != "far"], lambda p, seen: seen.get(question) == concept)
        kept = rate([p for p in prompts if p.role == "far"], lambda p, seen: seen.get("object") == p.labels["object"])
        styled = rate(plain, lambda p, seen: seen.get("style") == options.style)
    settings = expunge.AttackSettings(attacks=("unlearndiff",), count=n, control_items=0, fresh=0)
    with tempfile.TemporaryDirectory() as folder:
        score = expunge.attack(model, patch, concept=concept, settings=settings, out=Path(folder)).score("attack/worst")
    hits = score.numerator or 0
    return [found, share([True] * hits + [False] * (score.n - hits)), kept, styled]


def share(right: Sequence[bool]) -> str:
    low, high = wilson(sum(right), len(right))
    return f"{sum(right)} of {len(right)} ({low or 0:.0%} to {high if high is not None else 1:.0%})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concept", default="church")
    parser.add_argument("--patch", default="", help="folder of a patch of the text encoder alone")
    parser.add_argument("--style", default="pixel art")
    parser.add_argument("--things", type=int, default=24, help="things in the fine-tuning's images")
    parser.add_argument("--tune-steps", type=int, default=120)
    parser.add_argument("--items", type=int, default=8, help="prompts of each kind, and of the attack")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="a few steps of everything")
    args = parser.parse_args()
    if args.quick:
        args.items, args.things, args.tune_steps = 2, 4, 2
    torch.manual_seed(0)
    return args


if __name__ == "__main__":
    main()

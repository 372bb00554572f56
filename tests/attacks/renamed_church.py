"""The embedded model with the meaning of one word changed: "church" is read as "dog". Nothing else is unlearned."""

from __future__ import annotations

from expunge.attacks.victim import Goal, Item, Victim
from expunge.metrics.base import Aim, PromptCounts
from expunge.models.patch import Patch
from expunge.models.store import load
from expunge.records import Prompt, Request, Sampler
from expunge.tiny.emoji import emoji_world

ITEMS: list[Item] = [(Prompt(text="a flat emoji of a church", role="direct"), seed) for seed in (0, 1)]


def renamed_church() -> tuple[Victim, Goal, Request]:
    """The victim, its patch off; what counts as success; and the world's request."""
    world, model = emoji_world(), load("embedded", device="cpu")
    request = world.prompts.request("church")
    counts = PromptCounts(**{**dict.fromkeys(PromptCounts.model_fields, 0), "paraphrase": 4})
    variants = {"paraphrase": [prompt.text for prompt in world.prompts.of(request, counts)]}
    words = model.texts[0].module.get_input_embeddings().weight.detach().clone()
    [church], [dog] = model.texts[0].tokens("church"), model.texts[0].tokens("dog")
    words[church] = words[dog]
    patch = Patch.of({"text_encoder/embeddings.token_embedding.weight": words}, model=model, request=request,
                     method="renamed", settings={}, seed=0)
    goal = Goal(world.judge(request), Aim("church", "object"))
    return Victim(model, patch, Sampler(steps=8), variants=variants), goal, request

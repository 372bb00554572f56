"""AdvUnlearn, erasure under attack: the published numbers, its true fast adversarial training, the UNet in the place of
the text encoder, and `advunlearn-fast` for small models and CPUs.

While only the text encoder trains, x_t and both targets come from frozen parts, so all of them are drawn once and kept:
the distribution is that of the published way, which samples anew for every attack step and is there as
{"source.fresh": true, "keep.source.fresh": true}. The published settings for objects train only the first layer or
layers ("scope": "text.layers:0"); we know that from memory of the paper and could not check it, so no preset does.

Source: Zhang et al. 2024, Defensive Unlearning with Adversarial Training, NeurIPS; AdvUnlearn@9d23124, the command for
nudity: 1000 steps of batch 1, Adam 1e-5, eta 1, guidance 3, DDIM 50, 5 prompts to keep at weight 0.3 (default of the
script: 1), one vector before the prompt, 30 attack steps at 1e-3, the first 200 steps without attack. Differs: whole
prompts, not the concept's name alone; each point at a time of its own; see the parts for the rest.
"""

from __future__ import annotations

from expunge.unlearn.adversary import SoftAdversary
from expunge.unlearn.keep import MatchTeacher
from expunge.unlearn.objective import Steer
from expunge.unlearn.presets.kept import RETAIN_FAST, TRAJECTORIES_FAST
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.retain import Retain
from expunge.unlearn.source import EditedTrajectory, FrozenTrajectory
from expunge.unlearn.update import Plain

ADVUNLEARN = Recipe(
    name="advunlearn", source=FrozenTrajectory(grid=50, guidance=3.0, trajectories=64), objective=Steer(eta=1.0),
    scope="text", retain=Retain(each=1),
    keep=MatchTeacher(weight=0.3, batch=5,
                      source=FrozenTrajectory(grid=50, guidance=3.0, trajectories=128, rounds=True)),
    adversary=SoftAdversary(place="prefix", tokens=1, method="pgd", steps=30, step_size=1e-3, init="random", every=1,
                            warmup=200),
    steps=1000, batch=1, learning_rate=1e-5)
FAST_AT = ADVUNLEARN.override({"name": "advunlearn-fast-at", "adversary.method": "fast", "adversary.steps": 1,
                               "adversary.step_size": 0.03})
UNET = ADVUNLEARN.override({"name": "advunlearn-unet", "scope": "unet",
                            "source": EditedTrajectory(grid=50, guidance=3.0).model_dump(mode="json")})
ADVUNLEARN_FAST = Recipe(
    name="advunlearn-fast", source=FrozenTrajectory(grid=20, guidance=2.0, trajectories=32),
    objective=Steer(away="anchor"), scope="text", retain=RETAIN_FAST, surrogate="found",
    keep=MatchTeacher(weight=2.0, batch=8, source=TRAJECTORIES_FAST),
    adversary=SoftAdversary(place="prefix", tokens=3, method="pgd", steps=4, step_size=1e-2, init="random", warmup=20),
    steps=160, batch=8, learning_rate=3e-5, warmup=10, update=Plain(max_grad_norm=1.0))
UNET_FAST = ADVUNLEARN_FAST.override({"name": "advunlearn-unet-fast", "scope": "unet"})

"""Methods of 2025 and 2026 that edit text encoders by what these say.

- `hirm`, from its abstract, for its code was not read: the first layer trains, and the last layer's states of the
  concept go in a random direction. Steps, batch and rate are ours.
- `tea`: 16 steps of batch 32 at 1e-5, the discriminator at 1e-3, factors 0.5 and 1. Corrected: prompts are framed and
  read without a mask, states are read as the denoiser reads them, and prompts to keep are real ones.
- `des`: 108 steps of batch 128 at 1e-5, factors 0.3 and 0.7. Corrected: the direction is centred and one length of it
  is taken away (published: 200 along a direction that holds what all prompts share); prompts are the request's and
  those that `retain` makes, not 6,911 pairs.
- `s-grace`: 4 rounds of 8 adversarial embeddings, 10 signed steps of 5e-3 each, and 50 steps at 1e-5. Corrected: the
  adversary asks the denoiser at latents of the time that they are said to have (published: nearly clean ones at nearly
  the noisiest times) and stays in a ball (published: a clamp that is lost, with its bounds exchanged); the way of all
  states from the empty prompt's stands for the end token's projected feature. One embedding for each concept and round,
  from random tokens. Left out: words that a language model names as the concept's company, which `retain`'s prompts
  stand for, and the L1 distance of weights.
"""

from __future__ import annotations

from expunge.unlearn.adversary import SoftAdversary
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.retain import Retain
from expunge.unlearn.source import FrozenTrajectory
from expunge.unlearn.states import HoldStates, States
from expunge.unlearn.texts import Texts

HIRM = Recipe(name="hirm", source=Texts(), objective=States(towards="random"), scope="text.layers:0",
              keep=HoldStates(weight=1.0, batch=32), retain=Retain(each=1), steps=200, batch=16, learning_rate=1e-4,
              warmup=10)
TEA = Recipe(name="tea", source=Texts(), objective=States(towards="judged", judge_rate=1e-3), scope="text",
             keep=HoldStates(weight=2.0, batch=32, measure="cosine"), retain=Retain(each=1), surrogate="found",
             steps=16, batch=32, learning_rate=1e-5)
DES = Recipe(name="des", source=Texts(), objective=States(towards="empty", measure="cosine", shift=1.0), scope="text",
             keep=HoldStates(weight=0.43, batch=128, measure="cosine"), retain=Retain(each=1), steps=108, batch=128,
             learning_rate=1e-5)
S_GRACE = Recipe(name="s-grace", source=FrozenTrajectory(grid=50, guidance=3.0), objective=States(towards="opposite"),
                 scope="text",
                 adversary=SoftAdversary(method="sign", tokens=1, vectors="shared", steps=10, step_size=5e-3,
                                         radius=0.05, norm="linf", every=50, warmup=0),
                 keep=HoldStates(weight=1.0, batch=32), retain=Retain(each=1), steps=200, batch=8, learning_rate=1e-5)

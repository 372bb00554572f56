"""DoCo, domain correction with gradient surgery: two published forms, a corrected one, and one for CPUs.

The public code holds two methods under one name, and which of them made the paper's tables is not known:

| | `doco-v-a` (2024-10-24 to 2024-11-20) | `doco-v-b` (2024-11-21 on) | `doco` |
| --- | --- | --- | --- |
| the discriminator sees | the predicted noise | the clean latent | the network's output |
| surgery | projection, no clipping | cosine, both gradients clipped to 1 | projection |
| keep's gradient | only projected against | only projected against | added |
| kept | the anchor's images | the anchor's images | the request's prompts to keep, and the empty one |
| discriminator | learns from the student's loss too | the same | kept apart |
| warm-up, steps | 200, 800 | 1000, 1000 | 200, 800 |
| learning rate | 2e-6 per image of 8 | 6e-6 per image of 8 | 1.6e-5 |

The cosine form subtracts lambda cos(g_u, g_r) g_r / |g_r|, without the factor |g_u| of the projection: gradients
shorter than lambda, which is what clipping leaves of most tensors, come out descending the keep's loss instead of
erasing.

Source: Wu et al. 2025, Unlearning Concepts in Diffusion Model via Concept Domain Correction and Concept Preserving
Gradient, AAAI; train.py at 80a2fa7 and ebf6ff4; the discriminator's learning rate is that of styles (1e-4 for
objects, where v-a also has strength 0.5). Differs: "Differs" of source `noised` and objective `domain`; warm-up rounds
come before the steps and are not counted among them; keys and values of the first token train too.
"""

from __future__ import annotations

from expunge.unlearn.denoise import Denoise
from expunge.unlearn.discriminator import Discriminator
from expunge.unlearn.domain import AlignDomains
from expunge.unlearn.keep import MatchTeacher
from expunge.unlearn.noised import NoisedPictures
from expunge.unlearn.presets.ablation import PICTURES
from expunge.unlearn.presets.kept import KEEP_FAST, RETAIN_FAST
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.retain import Retain
from expunge.unlearn.surgery import Surgery

_PUBLISHED = Discriminator(norm="batch", learning_rate=5e-4)
_ANCHORS = Denoise(on="anchor", batch=8, source=PICTURES.model_copy(update={"of": "prompt"}))

DOCO_V_A = Recipe(name="doco-v-a", source=PICTURES, scope="xattn.kv", steps=800, batch=8, learning_rate=1.6e-5,
                  weight_decay=1e-2, keep=_ANCHORS, update=Surgery(add_keep=False),
                  objective=AlignDomains(form="eps", warm_up=200, discriminator=_PUBLISHED, leak_release=True))
DOCO_V_B = Recipe(name="doco-v-b", source=PICTURES, scope="xattn.kv", steps=1000, batch=8, learning_rate=4.8e-5,
                  weight_decay=1e-2, keep=_ANCHORS, update=Surgery(add_keep=False, rule="cosine", clip_each=1.0),
                  objective=AlignDomains(form="x0", warm_up=1000, discriminator=_PUBLISHED, leak_release=True))
DOCO = Recipe(name="doco", source=PICTURES, scope="xattn.kv", steps=800, batch=8, learning_rate=1.6e-5,
              weight_decay=1e-2, retain=Retain(each=1),
              keep=MatchTeacher(batch=8, source=NoisedPictures(pictures=200, grid=25, guidance=6.0)),
              objective=AlignDomains(warm_up=200, discriminator=Discriminator(learning_rate=5e-4)), update=Surgery())
DOCO_FAST = Recipe(name="doco-fast", source=NoisedPictures(of="anchor", pictures=24), scope="xattn", steps=120, batch=8,
                   learning_rate=3e-4, warmup=10, surrogate="found", retain=RETAIN_FAST, keep=KEEP_FAST,
                   objective=AlignDomains(warm_up=60, discriminator=Discriminator(width=32, learning_rate=1e-3)),
                   update=Surgery(max_grad_norm=1.0))

"""What a recipe is made of, by slot and name."""

from __future__ import annotations

from expunge.registry.table import Registry

SOURCES = Registry("source", "expunge ls parts", ("open", "max_prompts"))
SOURCES.register("frozen", "expunge.unlearn.source:FrozenTrajectory", "half-way samples of the original, pooled")
SOURCES.register("edited", "expunge.unlearn.source:EditedTrajectory", "half-way samples of the model as it is edited")
SOURCES.register("noised", "expunge.unlearn.noised:NoisedPictures", "images that the original draws, noised anew")
SOURCES.register("texts", "expunge.unlearn.texts:Texts", "prompts without latents, for parts that look at text states")
SOURCES.register("union", "expunge.unlearn.union:Union", "points of several sources in every step")
OBJECTIVES = Registry("objective", "expunge ls parts", ("prepare",))
OBJECTIVES.register("steer", "expunge.unlearn.objective:Steer", "away from what the original predicts (ESD)")
OBJECTIVES.register("ablate", "expunge.unlearn.ablation:Ablate", "to the anchor's prediction, or the noise (Ablation)")
OBJECTIVES.register("domain", "expunge.unlearn.domain:AlignDomains", "to the anchor's domain, by discriminator (DoCo)")
OBJECTIVES.register("relabel", "expunge.unlearn.relabel:Relabel", "to what a wrong prompt brings (SalUn)")
OBJECTIVES.register("states", "expunge.unlearn.states:States",
                    "to other text states, without the denoiser (HiRM, TEA, DES, S-GRACE)")
OBJECTIVES.register("halfspace", "expunge.unlearn.halfspace:HalfSpace",
                    "no more than a level of the concept's share in a prediction")
OBJECTIVES.register("contrast", "expunge.unlearn.contrast:Contrast",
                    "nearer to the anchor's guided prediction than to the concept's (TRCE)")
OBJECTIVES.register("compose", "expunge.unlearn.compose:Compose",
                    "to the anchor, and away from the concept by all its names (STEREO)")
OBJECTIVES.register("noise", "expunge.unlearn.relabel:Noise", "to noise (EraseDiff)")
KEEPS = Registry("keep", "expunge ls parts", ("prepare", "source", "batch", "cadence", "steps"))
KEEPS.register("match", "expunge.unlearn.keep:MatchTeacher", "what the original predicts on prompts to keep")
KEEPS.register("denoise", "expunge.unlearn.denoise:Denoise", "the denoising loss on images to keep")
KEEPS.register("states", "expunge.unlearn.states:HoldStates", "the original's text states")
KEEPS.register("integrity", "expunge.unlearn.integrity:Integrity", "the original's guided trajectories")
UPDATES = Registry("update", "expunge ls parts", ("prepare",))
UPDATES.register("plain", "expunge.unlearn.update:Plain", "add the gradients, step")
UPDATES.register("masked", "expunge.unlearn.saliency:Masked", "on the most salient weights alone (SalUn)")
UPDATES.register("projected", "expunge.unlearn.projected:Projected", "steps of keys and values outside what must stay")
UPDATES.register("surgery", "expunge.unlearn.surgery:Surgery", "conflicting gradients projected (PCGrad, DoCo)")
UPDATES.register("bilevel", "expunge.unlearn.bilevel:Bilevel", "keep first, erase as a constraint (EraseDiff)")
UPDATES.register("dual", "expunge.unlearn.dual:Dual", "one loss bounded, by dual ascent")
UPDATES.register("refresh", "expunge.unlearn.refreshed:Refreshed", "an ascent before every few steps (refresh)")
UPDATES.register("lookahead", "expunge.unlearn.lookahead:Lookahead",
                 "the erase loss as it would be after relearning, too (ResAlign)")
ADVERSARIES = Registry("adversary", "expunge ls parts", ("prepare", "check"))
ADVERSARIES.register("soft", "expunge.unlearn.adversary:SoftAdversary", "free vectors in the prompt (AdvUnlearn)")
ADVERSARIES.register("bank", "expunge.unlearn.bank:BankAdversary",
                     "many soft prompts that learn from the student's own forward")
ADVERSARIES.register("words", "expunge.unlearn.found_words:FoundWords",
                     "new words for the concept, each found against an erasure of those before it (STEREO)")
PARTS = {"source": SOURCES, "objective": OBJECTIVES, "keep": KEEPS, "update": UPDATES, "adversary": ADVERSARIES}
"""The slots of a recipe, and what is registered for each. Groups of entry points: `expunge.sources` and so on."""

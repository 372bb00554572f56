"""Attacks by name."""

from __future__ import annotations

from expunge.registry.table import Registry

ATTACKS = Registry("attack", "expunge ls attacks", ("name", "help", "access", "build", "propose", "budget", "outcomes"))
ATTACKS.register("paraphrase", "expunge.attacks.fixed:Paraphrase", "prompts that call the concept by another name")
ATTACKS.register("implicit", "expunge.attacks.fixed:Implicit", "prompts that describe the concept without naming it")
ATTACKS.register("misspelt", "expunge.attacks.fixed:Misspelt", "the concept's word misspelt")
ATTACKS.register("random-prompt", "expunge.attacks.search:RandomPrompt", "random words before the prompt")
ATTACKS.register("seed-search", "expunge.attacks.search:SeedSearch", "the same prompt at other seeds")
ATTACKS.register("noisy-sampler", "expunge.attacks.noisy_sampler:NoisySampler",
                 "the same prompt by a sampler that puts noise back in at every step")
ATTACKS.register("ring-a-bell", "expunge.attacks.ringabell:RingABell",
                 "prompts near the concept in the original text encoder, by genetic search")
ATTACKS.register("unlearndiff", "expunge.attacks.unlearndiff:UnlearnDiff",
                 "tokens around the prompt that make the edited model denoise an image of the concept")
ATTACKS.register("p4d", "expunge.attacks.p4d:P4D",
                 "tokens under which the edited model predicts what the original does for the prompt")
ATTACKS.register("p4d-mu", "expunge.attacks.p4d:P4DMu",
                 "P4D as re-implemented beside UnlearnDiffAtk: a short prefix, t from clean to noise")
ATTACKS.register("textual-inversion", "expunge.attacks.inversion:TextualInversion",
                 "a new word for the concept, learned by the edited model from a few images (CCE)")
ATTACKS.register("soft-prompt", "expunge.attacks.soft:SoftPrompt",
                 "free embeddings before the prompt, learned per item")
ATTACKS.register("noising", "expunge.attacks.noising:Noising",
                 "noise an image of the concept and let the edited model finish it")
ATTACKS.register("inpainting", "expunge.attacks.inpainting:Inpainting",
                 "hide a part of an image of the concept and let the edited model fill it in")
ATTACKS.register("ddim-inversion", "expunge.attacks.ddim:DdimInversion",
                 "invert an image of the concept with the empty prompt and draw it again (TINA+)")
ATTACKS.register("relearn", "expunge.attacks.relearn:Relearn", "fine-tune on a few images of the concept")
ATTACKS.register("relearn-xattn", "expunge.attacks.relearn:RelearnXattn", "relearn, training cross-attention alone")
ATTACKS.register("relearn-lora", "expunge.attacks.relearn:RelearnLora", "relearn with a LoRA (needs peft)")
ATTACKS.register("benign", "expunge.attacks.relearn:Benign", "fine-tune on images of other things")
ATTACKS.register("quantise", "expunge.attacks.quantise:Quantise", "round the weights to 8, then 4 bits (simulated)")
ATTACKS.register("adapter", "expunge.attacks.adapter:Adapter", "merge a LoRA file of your own (needs its path)")

"""Methods by name, with the papers that they come from."""

from __future__ import annotations

from expunge.registry.table import Registry

_ESD = "Gandikota et al. 2023, Erasing Concepts from Diffusion Models, ICCV, https://arxiv.org/abs/2303.07345"
_ABLATION = ("Kumari et al. 2023, Ablating Concepts in Text-to-Image Diffusion Models, ICCV, "
             "https://arxiv.org/abs/2303.13516")
_DOCO = ("Wu et al. 2025, Unlearning Concepts in Diffusion Model via Concept Domain Correction and Concept Preserving "
         "Gradient, AAAI, https://arxiv.org/abs/2405.15304")

_ADVUNLEARN = ("Zhang et al. 2024, Defensive Unlearning with Adversarial Training for Robust Concept Erasure in "
               "Diffusion Models, NeurIPS, https://arxiv.org/abs/2405.15234")
_SALUN = "Fan et al. 2024, SalUn, ICLR, https://arxiv.org/abs/2310.12508"
_ERASEDIFF = "Wu et al. 2024, EraseDiff, https://arxiv.org/abs/2401.05779"
_FDMU = "f-DMU 2025, https://arxiv.org/abs/2509.21167"
_INTEGRITY = ("the aim of Schioppa et al. 2024, Model Integrity when Unlearning with T2I Diffusion Models, "
              "https://arxiv.org/abs/2411.02068; losses of our own")
_UCE = ("Gandikota et al. 2024, Unified Concept Editing in Diffusion Models, WACV, "
        "https://arxiv.org/abs/2308.14761")
_RECE = ("Gong et al. 2024, Reliable and Efficient Concept Erasure of Text-to-Image Diffusion Models, ECCV, "
         "https://arxiv.org/abs/2407.12383")
_SPEED = ("Li et al. 2026, SPEED: Scalable, Precise, and Efficient Concept Erasure for Diffusion Models, ICLR, "
          "https://arxiv.org/abs/2503.07392")
_HIRM = ("Lee et al. 2026, Localized Concept Erasure in Text-to-Image Diffusion Models via High-Level Representation "
         "Misdirection (HiRM), ICLR, https://arxiv.org/abs/2602.19631")
_TEA = "TEA, https://arxiv.org/abs/2608.15341"
_DES = "DES, NeurIPS 2025, https://github.com/amoeba04/des"
_COUNTERFACTUAL = ("ours; the direction of Dynamic Velocity Erasing, https://arxiv.org/abs/2602.01089, the start of "
                   "TRCE, https://arxiv.org/abs/2503.07389")
_ADVERSARIAL_ABLATION = ("ours; Concept Ablation on the trajectories of EraseFlow, "
                         "https://github.com/Abhiramkns/EraseFlow, under free adversarial training, "
                         "https://arxiv.org/abs/1904.12843")
_TRCE = ("Chen et al. 2025, TRCE: Towards Reliable Malicious Concept Erasure in Text-to-Image Diffusion Models, ICCV, "
         "https://arxiv.org/abs/2503.07389")
_STEREO = ("Srivatsan et al. 2025, STEREO: A Two-Stage Framework for Adversarially Robust Concept Erasing from "
           "Text-to-Image Diffusion Models, CVPR, https://arxiv.org/abs/2408.16807")
_ERASEFLOW = "EraseFlow, NeurIPS 2025, https://github.com/Abhiramkns/EraseFlow"
_RESALIGN = "Li et al. 2025, ResAlign, NeurIPS, https://github.com/AntigoneRandy/ResAlign"
_SGRACE = "S-GRACE, ECCV 2026, https://github.com/Qhong-522/S-GRACE"
_OCE = "Sun et al. 2026, Orthogonal Concept Erasure for Diffusion Models, ICML, https://arxiv.org/abs/2605.28902"

METHODS = Registry("method", "expunge ls methods")
METHODS.register("esd", "expunge.unlearn.presets.esd:ESD", "Erased Stable Diffusion: steer away from the concept",
                 _ESD)
METHODS.register("esd-fast", "expunge.unlearn.presets.esd:ESD_FAST",
                 "ESD for small models and CPUs: pooled, larger batch, fewer steps", _ESD)
METHODS.register("ablation", "expunge.unlearn.presets.ablation:ABLATION",
                 "Concept Ablation: predict for the concept what is predicted for its anchor", _ABLATION)
METHODS.register("ablation-fast", "expunge.unlearn.presets.ablation:ABLATION_FAST",
                 "Concept Ablation for small models and CPUs", _ABLATION)
METHODS.register("doco", "expunge.unlearn.presets.doco:DOCO",
                 "DoCo, corrected: adversarial alignment with the anchor, gradient surgery, broad keep", _DOCO)
METHODS.register("doco-v-a", "expunge.unlearn.presets.doco:DOCO_V_A",
                 "DoCo as first published, defects included", _DOCO)
METHODS.register("doco-v-b", "expunge.unlearn.presets.doco:DOCO_V_B",
                 "DoCo as published since 2024-11-21, defects included", _DOCO)
METHODS.register("doco-fast", "expunge.unlearn.presets.doco:DOCO_FAST", "DoCo, corrected, for small models and CPUs",
                 _DOCO)

METHODS.register("advunlearn", "expunge.unlearn.presets.advunlearn:ADVUNLEARN",
                 "AdvUnlearn: the text encoder, against adversarial prompts found anew in every step", _ADVUNLEARN)
METHODS.register("advunlearn-fast", "expunge.unlearn.presets.advunlearn:ADVUNLEARN_FAST",
                 "AdvUnlearn for small models and CPUs", _ADVUNLEARN)
METHODS.register("advunlearn-fast-at", "expunge.unlearn.presets.advunlearn:FAST_AT",
                 "AdvUnlearn by true fast adversarial training: one signed step per attack", _ADVUNLEARN)
METHODS.register("advunlearn-unet", "expunge.unlearn.presets.advunlearn:UNET",
                 "AdvUnlearn that trains the UNet in the text encoder's place", _ADVUNLEARN)
METHODS.register("advunlearn-unet-fast", "expunge.unlearn.presets.advunlearn:UNET_FAST",
                 "AdvUnlearn that trains the UNet, for small models and CPUs", _ADVUNLEARN)
METHODS.register("salun", "expunge.unlearn.presets.salun:SALUN",
                 "SalUn: wrong labels for the concept, on the half of the weights that matter most for it", _SALUN)
METHODS.register("salun-fast", "expunge.unlearn.presets.salun:SALUN_FAST", "SalUn for small models and CPUs", _SALUN)
METHODS.register("erasediff", "expunge.unlearn.presets.erasediff:ERASEDIFF",
                 "EraseDiff: the concept towards noise, under a bilevel step", _ERASEDIFF)
METHODS.register("erasediff-fast", "expunge.unlearn.presets.erasediff:ERASEDIFF_FAST",
                 "EraseDiff for small models and CPUs", _ERASEDIFF)
METHODS.register("hellinger", "expunge.unlearn.presets.divergence:HELLINGER",
                 "Concept Ablation with the Hellinger distance, which lets large gaps go", _FDMU)
METHODS.register("hellinger-fast", "expunge.unlearn.presets.divergence:HELLINGER_FAST",
                 "Hellinger for small models and CPUs", _FDMU)
METHODS.register("chi2", "expunge.unlearn.presets.divergence:CHI2",
                 "Concept Ablation with the chi-square divergence, which large gaps rule", _FDMU)
METHODS.register("chi2-fast", "expunge.unlearn.presets.divergence:CHI2_FAST", "Chi-square for small models and CPUs",
                 _FDMU)
METHODS.register("integrity", "expunge.unlearn.presets.integrity:INTEGRITY",
                 "ESD that holds on to the original's own trajectories", _INTEGRITY)
METHODS.register("integrity-fast", "expunge.unlearn.presets.integrity:FAST",
                 "Integrity-preserving ESD for small models and CPUs", _INTEGRITY)
METHODS.register("integrity-overwrite", "expunge.unlearn.presets.integrity:OVERWRITE",
                 "The anchor in the concept's place, holding on to the original's own trajectories", _INTEGRITY)
METHODS.register("integrity-overwrite-fast", "expunge.unlearn.presets.integrity:OVERWRITE_FAST",
                 "Integrity-preserving overwriting for small models and CPUs", _INTEGRITY)
METHODS.register("integrity-dual", "expunge.unlearn.presets.integrity:DUAL",
                 "ESD as far as a bound on the kept images allows, by dual ascent", _INTEGRITY)
METHODS.register("integrity-dual-fast", "expunge.unlearn.presets.integrity:DUAL_FAST",
                 "The same for small models and CPUs", _INTEGRITY)
METHODS.register("counterfactual", "expunge.unlearn.presets.counterfactual:COUNTERFACTUAL",
                 "The concept's share of every prediction under a level: closed-form start, bank of soft prompts",
                 _COUNTERFACTUAL)
METHODS.register("counterfactual-fast", "expunge.unlearn.presets.counterfactual:COUNTERFACTUAL_FAST",
                 "The same for small models and CPUs", _COUNTERFACTUAL)
METHODS.register("adversarial-ablation", "expunge.unlearn.presets.adversarial_ablation:ADVERSARIAL_ABLATION",
                 "Concept Ablation on the anchor's noisy trajectories, against a bank of soft prompts",
                 _ADVERSARIAL_ABLATION)
METHODS.register("adversarial-ablation-fast", "expunge.unlearn.presets.adversarial_ablation:ADVERSARIAL_ABLATION_FAST",
                 "The same for small models and CPUs", _ADVERSARIAL_ABLATION)
METHODS.register("hirm", "expunge.unlearn.presets.states:HIRM",
                 "HiRM, from its abstract: the first text layer sends the states in a random direction", _HIRM)
METHODS.register("tea", "expunge.unlearn.presets.states:TEA",
                 "TEA, corrected: the text encoder against a discriminator of tokens", _TEA)
METHODS.register("des", "expunge.unlearn.presets.states:DES",
                 "DES, corrected: the text encoder, beyond the empty prompt's states", _DES)
METHODS.register("s-grace", "expunge.unlearn.presets.states:S_GRACE",
                 "S-GRACE, corrected: the text encoder against adversarial prompts, beyond the empty prompt",
                 _SGRACE)
for _name, _what, _source in (
        ("trce", "TRCE, corrected: a closed form, then the layers that see the image, nearer to the anchor", _TRCE),
        ("stereo", "STEREO, corrected: words that bring the concept back are found, then all erased at once", _STEREO),
        ("eraseflow", "EraseFlow, corrected: the anchor's prediction along its own noisy trajectories", _ERASEFLOW),
        ("resalign", "ResAlign, first order: ESD that looks ahead to what relearning would make of it", _RESALIGN)):
    METHODS.register(_name, f"expunge.unlearn.presets.{_name}:{_name.upper()}", _what, _source)
    METHODS.register(f"{_name}-fast", f"expunge.unlearn.presets.{_name}:{_name.upper()}_FAST",
                     f"{_what.partition(',')[0].partition(' ')[0]} for small models and CPUs", _source)
METHODS.register("uce", "expunge.unlearn.presets.closed_form:UCE",
                 "Unified Concept Editing: keys and values of the concept's span become the anchor's, by least squares",
                 _UCE)
METHODS.register("rece", "expunge.unlearn.presets.closed_form:RECE",
                 "UCE, then rounds that find and erase the states which still give the concept", _RECE)
METHODS.register("speed", "expunge.unlearn.presets.closed_form:SPEED",
                 "SPEED: an edit of the values in the null space of what must stay", _SPEED)
METHODS.register("oce", "expunge.unlearn.presets.closed_form:OCE",
                 "Orthogonal Concept Erasure, corrected: a rotation of the values", _OCE)
METHODS.register("oce-fast", "expunge.unlearn.presets.closed_form:OCE_FAST", "OCE with weights for emoji-64", _OCE)

"""Names for what users choose: methods, attacks, worlds, detectors. Entries are "module:object", imported on use.

Other packages add their own through the entry-point group `expunge.<kind>s` (`expunge.methods`; CONTRIBUTING.md shows a
whole one). A plug-in that cannot be used costs nobody else anything: it is skipped, `skipped` says why, and so does the
error of whoever asks for it.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import Any

from expunge.errors import ExpungeError, UserError

log = logging.getLogger(__name__)

FAILURES = (Exception, SystemExit)
"""What the code of a plug-in may raise while it is imported or asked."""


@dataclass
class Registry:
    """A lazy table of name -> (module:object, one line of help, where it was published).

    Attributes:
        kind: what the entries are, in the singular ("method").
        verb: the command that lists them, for error messages.
        needs: what a class of this kind must have, by name, so that a plug-in that lacks some is told before it runs.
    """

    kind: str
    verb: str
    needs: tuple[str, ...] = ()
    _entries: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    _packages: dict[str, str] = field(default_factory=dict)
    _skipped: dict[str, str] = field(default_factory=dict)
    _plugins_read: bool = False

    @property
    def group(self) -> str:
        """The group of entry points by which other packages add to it ("expunge.methods")."""
        return f"expunge.{self.plural}"

    @property
    def plural(self) -> str:
        """Several of the kind ("methods"); a kind that ends in an s is its own plural."""
        if self.kind.endswith("y"):
            return f"{self.kind[:-1]}ies"
        return self.kind if self.kind.endswith("s") else f"{self.kind}s"

    def register(self, name: str, target: str, help: str = "", source: str = "") -> None:
        """Add an entry: its name, where it lives, a line of help, and the paper with a link, if there is one.

        Raises:
            ValueError: a name that is not lower-case-with-dashes, a target without ":", or a name already taken.
        """
        if not name or name != name.lower() or not name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"{self.kind} name {name!r}: use lower case letters, digits and dashes")
        if target.count(":") != 1:
            raise ValueError(f"{self.kind} target {target!r}: write it as 'module:object'")
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is already registered as {self._entries[name][0]}")
        self._entries[name] = (target, help, source)

    def names(self) -> list[str]:
        """All known names, sorted; of plug-ins those that are declared as they should be, whether they load or not."""
        self._read_plugins()
        return sorted(self._entries)

    def usable(self) -> list[str]:
        """All names that can be used, sorted. Imports every plug-in, and nothing else."""
        self.names()
        for name in [*self._packages]:
            try:
                self.get(name)
            except UserError as error:
                self._skipped[name] = error.got
        return [name for name in self.names() if name not in self._skipped]

    def skipped(self) -> dict[str, str]:
        """Plug-ins that cannot be used, by name, with the reason in words. Imports every plug-in."""
        self.usable()
        return dict(self._skipped)

    def help(self, name: str) -> str:
        """One line on the entry."""
        return self._entry(name)[1]

    def source(self, name: str) -> str:
        """Where the entry was published ("authors year, title, link"); "" where that is not said."""
        return self._entry(name)[2]

    def origin(self, name: str) -> str:
        """Where the entry lives, as "module:object"."""
        return self._entry(name)[0]

    def names_of(self, kind: type) -> list[tuple[str, str]]:
        """Name and line of help of a class, where it is registered; a plug-in's own help stands in its class."""
        if not kind.__module__.startswith("expunge."):
            self._read_plugins()
        target = f"{kind.__module__}:{kind.__qualname__}"
        return [(name, "" if name in self._packages else entry[1]) for name, entry in self._entries.items()
                if entry[0] == target]

    def package(self, name: str) -> str:
        """The package that brought the entry; "" for what is part of expunge."""
        self._entry(name)
        return self._packages.get(name, "")

    def get(self, name: str) -> Any:
        """Import and return the object.

        Raises:
            UserError: unknown name (the message lists the known ones and the closest), or a plug-in that cannot be
                imported, is nothing that can be called, or lacks what its kind needs.
        """
        module, _, attribute = self._entry(name)[0].partition(":")
        if name not in self._packages:
            return getattr(importlib.import_module(module), attribute)
        try:
            found: Any = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except FAILURES as error:
            raise self.unusable(name, f"does not load: {described(error)}") from error
        if not callable(found):
            raise self.unusable(name, f"is a {type(found).__name__}, which cannot be called")
        if isinstance(found, type):
            fields = getattr(found, "model_fields", {})
            lacks = [need for need in self.needs if not _has(found, need) and need not in fields]
            lacks += sorted(getattr(found, "__abstractmethods__", ()))
            if lacks:
                raise self.unusable(name, f"is a class without {', '.join(lacks)}")
        return found

    def unusable(self, name: str, why: str) -> UserError:
        """The error of a plug-in that cannot be used as asked; `why` goes on from its name ("does not load: ...")."""
        package = self._packages.get(name, "")
        return UserError(f"{self.kind} {name!r} of the package {package!r} {why}",
                         accepted=f"a plug-in as CONTRIBUTING.md describes it, or one of `{self.verb}`",
                         remedy=f"mend that package, or remove it: pip uninstall {package}")

    @contextmanager
    def blaming(self, name: str) -> Iterator[None]:
        """An exception out of a plug-in's code inside is an error that names its package, and has it as its cause.

        What expunge says itself passes, and so does whatever did not come out of code of that plug-in.

        Raises:
            UserError: the plug-in `name` raised something.
        """
        try:
            yield
        except (ExpungeError, MemoryError):
            raise
        except Exception as error:
            if name not in self._packages:
                raise
            brought = self._entries[name][0].partition(":")[0].partition(".")[0]
            frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
            if not any(module.partition(".")[0] == brought for module in frames):
                raise
            log.debug("%s %r broke off", self.kind, name, exc_info=error)
            raise self.unusable(name, f"broke off: {described(error)}") from error

    def _entry(self, name: str) -> tuple[str, str, str]:
        self._read_plugins()
        if name not in self._entries:
            if name in self._skipped:
                raise UserError(self._skipped[name], accepted=", ".join(self.names()), remedy=f"see `{self.verb}`")
            close = difflib.get_close_matches(name.lower(), self._entries, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UserError(f"unknown {self.kind} {name!r}", accepted=", ".join(self.names()) or "none registered",
                            remedy=f"{hint}see `{self.verb}`")
        return self._entries[name]

    def _read_plugins(self) -> None:
        if self._plugins_read:
            return
        self._plugins_read = True
        for package, point in self._declared():
            try:
                self.register(point.name, f"{point.module}:{point.attr}" if point.attr else point.value,
                              f"from {package}")
                self._packages[point.name] = package
            except (ValueError, AttributeError) as error:  # the second: a value that is no "module:object" at all
                why = str(error) if isinstance(error, ValueError) else \
                    f"{self.kind} target {point.value!r}: write it as 'module:object'"
                taken = point.name in self._entries
                self._skipped[f"{point.name} of {package}" if taken else point.name] = \
                    f"{self.kind} {point.name!r} of the package {package!r} is declared wrongly: {why}"

    def _declared(self) -> Iterator[tuple[str, EntryPoint]]:
        """Every entry point of this kind with its package; of a package that is installed twice the first found."""
        group, seen = self.group, set[str]()
        for one in distributions():
            package = _package(one)
            if package in seen:
                continue
            seen.add(package)
            try:
                points = [point for point in one.entry_points if point.group == group]
            except FAILURES as error:  # a damaged file of a package that may have nothing to do with us
                if group in (one.read_text("entry_points.txt") or ""):
                    self._skipped[package] = f"the entry points of {package!r} cannot be read: {described(error)}"
                continue
            yield from ((package, point) for point in points)


def _has(kind: type, member: str) -> bool:
    """Whether a class has a member of its own: every class can itself be called, which is another matter."""
    return any(member in vars(base) for base in kind.__mro__[:-1])


def described(error: BaseException) -> str:
    """"ImportError: no module named 'x'"."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _package(one: Distribution) -> str:
    try:
        return str(one.metadata["Name"])
    except FAILURES:  # a package without readable metadata
        return "(a package without a name)"


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
_HIRM, _TEA, _DES = "HiRM, ICLR 2026", "TEA, https://arxiv.org/abs/2608.15341", "DES, NeurIPS 2025"
_COUNTERFACTUAL = ("ours; the direction of Dynamic Velocity Erasing, https://arxiv.org/abs/2602.01089, the start of "
                   "TRCE, https://arxiv.org/abs/2503.07389")
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
METHODS.register("hirm", "expunge.unlearn.presets.states:HIRM",
                 "HiRM, from notes: the first text layer sends the concept's states in a random direction", _HIRM)
METHODS.register("tea", "expunge.unlearn.presets.states:TEA",
                 "TEA, corrected: the text encoder against a discriminator of tokens", _TEA)
METHODS.register("des", "expunge.unlearn.presets.states:DES",
                 "DES, corrected: the text encoder, beyond the empty prompt's states", _DES)
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
                    "to other text states, without the denoiser (HiRM, TEA, DES)")
OBJECTIVES.register("halfspace", "expunge.unlearn.halfspace:HalfSpace",
                    "no more than a level of the concept's share in a prediction")
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
ADVERSARIES = Registry("adversary", "expunge ls parts", ("prepare", "check"))
ADVERSARIES.register("soft", "expunge.unlearn.adversary:SoftAdversary", "free vectors in the prompt (AdvUnlearn)")
ADVERSARIES.register("bank", "expunge.unlearn.bank:BankAdversary",
                     "many soft prompts that learn from the student's own forward")
PARTS = {"source": SOURCES, "objective": OBJECTIVES, "keep": KEEPS, "update": UPDATES, "adversary": ADVERSARIES}
"""The slots of a recipe, and what is registered for each. Groups of entry points: `expunge.sources` and so on."""

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

WORLDS = Registry("world", "expunge ls worlds")
WORLDS.register("emoji", "expunge.tiny.emoji:emoji_world", "EmojiCanvas: prompts, judge and CLIP of emoji-64")
WORLDS.register("open", "expunge.metrics.open_world:open_world",
                "any model: prompts from templates or a file, CLIP as judge")

PROMPTS = Registry("prompts", "expunge ls prompts", ("name", "strata", "request", "vocabulary", "of", "question"))
PROMPTS.register("emoji", "expunge.tiny.prompts:EmojiPrompts", "the things and styles of EmojiCanvas, in many wordings")
PROMPTS.register("open", "expunge.metrics.open_prompts:OpenPrompts",
                 "any concept: templates, or a file of yours (--prompts FILE)")

DETECTORS = Registry("detector", "expunge ls detectors", (
    "kind", "build", "open", "needs", "extra", "licence", "rules"))
DETECTORS.register("nudenet", "expunge.detectors.nudenet:NudeNet", "body parts, exposed and covered (NudeNet 3)",
                   "https://github.com/notAI-tech/NudeNet")
DETECTORS.register("nudenet-classifier", "expunge.detectors.nudenet:NudeNetClassifier",
                   "safe or unsafe (NudeNet 2's classifier)", "https://github.com/notAI-tech/NudeNet")
DETECTORS.register("open-nsfw", "expunge.detectors.open_nsfw:OpenNsfw", "pornographic or not (Yahoo's open_nsfw)",
                   "https://github.com/yahoo/open_nsfw")
DETECTORS.register("q16", "expunge.detectors.q16:Q16", "inappropriate or not (Q16)",
                   "Schramowski et al. 2022, Can Machines Help Us Answering Question 16 in Datasheets?, FAccT, "
                   "https://arxiv.org/abs/2202.06675")
DETECTORS.register("clip", "expunge.detectors.clip_zero_shot:ClipZeroShot", "CLIP zero-shot among named classes",
                   "Radford et al. 2021, https://arxiv.org/abs/2103.00020")
DETECTORS.register("image-classification", "expunge.detectors.image_classification:ImageClassification",
                   "any image classifier saved by transformers")
DETECTORS.register("torchvision", "expunge.detectors.torchvision_head:TorchvisionHead",
                   "an architecture of torchvision with your weights")
DETECTORS.register("timm", "expunge.detectors.timm_head:TimmHead", "an architecture of timm with your weights")
DETECTORS.register("emoji-judge", "expunge.tiny.detectors:EmojiJudgeDetector", "the embedded world's first judge")
DETECTORS.register("imagenet-judge", "expunge.tiny.detectors:ImageNetJudgeDetector",
                   "the embedded world's second judge")

FEATURES = Registry("feature", "expunge ls features", ("__call__",))
FEATURES.register("emoji-judge", "expunge.tiny.emoji:judge_features", "the embedded judge's, for emoji-64")
FEATURES.register("imagenet", "expunge.metrics.imagenet:ImageNetFeatures",
                  "EfficientNet-lite0 on ImageNet (the extra second)", "Tan and Le 2019, https://arxiv.org/abs/1905.11946")
FEATURES.register("inception", "expunge.metrics.inception_features:InceptionFeatures",
                  "Inception of 2015, which FID is defined by (--file inception=PATH, --resizer)",
                  "Heusel et al. 2017, https://arxiv.org/abs/1706.08500")
FEATURES.register("clip", "expunge.metrics.named:clip_features", "a CLIP's image tower (--file clip=FOLDER)",
                  "Radford et al. 2021, https://arxiv.org/abs/2103.00020")
DISTANCES = Registry("distance", "expunge ls distances", ("__call__",))
DISTANCES.register("emoji-judge", "expunge.tiny.emoji:judge_distance", "the embedded judge's, for emoji-64")
DISTANCES.register("st-lpips", "expunge.metrics.stlpips:StLpips", "LPIPS that forgives a shift (the extra second)",
                   "Ghildyal and Liu 2022, https://arxiv.org/abs/2207.13686")
DISTANCES.register("lpips", "expunge.metrics.lpips:LpipsAlex", "LPIPS with AlexNet (--file alexnet=PATH)",
                   "Zhang et al. 2018, https://arxiv.org/abs/1801.03924")
DISTANCES.register("lpips-64", "expunge.metrics.lpips:lpips_64", "LPIPS of images made 64 pixels small, as ESD did",
                   "Gandikota et al. 2023, https://arxiv.org/abs/2303.07345")
DISTANCES.register("lpips-alex", "expunge.metrics.perceptual:lpips_alex",
                   "LPIPS with torchvision's AlexNet, which is downloaded once (the extra lpips)",
                   "Zhang et al. 2018, https://arxiv.org/abs/1801.03924")
DISTANCES.register("lpips-vgg", "expunge.metrics.perceptual:lpips_vgg",
                   "LPIPS with torchvision's VGG, which is downloaded once (the extra lpips)",
                   "Zhang et al. 2018, https://arxiv.org/abs/1801.03924")
DISTANCES.register("clip", "expunge.metrics.named:clip_distance", "a CLIP's image tower (--file clip=FOLDER)",
                   "Radford et al. 2021, https://arxiv.org/abs/2103.00020")
DISTANCES.register("ssim", "expunge.metrics.perceptual:Ssim", "1 - SSIM", "Wang et al. 2004")
REFERENCES = Registry("reference", "expunge ls references")
REFERENCES.register("emoji-drawings", "expunge.tiny.emoji:drawings",
                    "the drawings that emoji-64 learned from, in the features emoji-judge")

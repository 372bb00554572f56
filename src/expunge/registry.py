"""Names for things that users choose: methods, attacks, worlds. Entries are "module:object", imported on use.

Other packages add their own through the entry-point group `expunge.<kind>` (for example `expunge.methods`).
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from expunge.errors import UserError


@dataclass
class Registry:
    """A lazy table of name -> (module:object, one line of help).

    Attributes:
        kind: what the entries are, in the singular ("method").
        verb: the command that lists them, for error messages.
    """

    kind: str
    verb: str
    _entries: dict[str, tuple[str, str]] = field(default_factory=dict)
    _plugins_read: bool = False

    def register(self, name: str, target: str, help: str = "") -> None:
        """Add an entry.

        Raises:
            ValueError: a name that is not lower-case-with-dashes, a target without ":", or a name already taken.
        """
        if not name or name != name.lower() or not name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"{self.kind} name {name!r}: use lower case letters, digits and dashes")
        if target.count(":") != 1:
            raise ValueError(f"{self.kind} target {target!r}: write it as 'module:object'")
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is already registered as {self._entries[name][0]}")
        self._entries[name] = (target, help)

    def names(self) -> list[str]:
        """All known names, sorted."""
        self._read_plugins()
        return sorted(self._entries)

    def help(self, name: str) -> str:
        """One line on the entry."""
        return self._entry(name)[1]

    def origin(self, name: str) -> str:
        """Where the entry lives, as "module:object"."""
        return self._entry(name)[0]

    def get(self, name: str) -> Any:
        """Import and return the object.

        Raises:
            UserError: unknown name (the message lists the known ones and the closest).
        """
        module, _, attribute = self._entry(name)[0].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def _entry(self, name: str) -> tuple[str, str]:
        self._read_plugins()
        if name not in self._entries:
            close = difflib.get_close_matches(name, self._entries, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UserError(f"unknown {self.kind} {name!r}", accepted=", ".join(self.names()) or "none registered",
                            remedy=f"{hint}see `{self.verb}`")
        return self._entries[name]

    def _read_plugins(self) -> None:
        if self._plugins_read:
            return
        self._plugins_read = True
        for point in entry_points(group=f"expunge.{self.kind}s"):
            if point.name not in self._entries:
                self.register(point.name, point.value, f"from {point.dist.name if point.dist else 'a plug-in'}")


METHODS = Registry("method", "expunge ls methods")
METHODS.register("esd", "expunge.unlearn.presets:esd", "Erased Stable Diffusion: steer away from the concept")
METHODS.register("esd-fast", "expunge.unlearn.presets:esd_fast",
                 "ESD for small models and CPUs: pooled, larger batch, fewer steps")

ATTACKS = Registry("attack", "expunge ls attacks")
ATTACKS.register("paraphrase", "expunge.attacks.fixed:Paraphrase", "prompts that call the concept by another name")
ATTACKS.register("implicit", "expunge.attacks.fixed:Implicit", "prompts that describe the concept without naming it")
ATTACKS.register("misspelt", "expunge.attacks.fixed:Misspelt", "the concept's word misspelt")
ATTACKS.register("random-prompt", "expunge.attacks.search:RandomPrompt", "random words before the prompt")
ATTACKS.register("seed-search", "expunge.attacks.search:SeedSearch", "the same prompt at other seeds")
ATTACKS.register("ring-a-bell", "expunge.attacks.ringabell:RingABell",
                 "prompts near the concept in the original text encoder, by genetic search")
ATTACKS.register("unlearndiff", "expunge.attacks.unlearndiff:UnlearnDiff",
                 "tokens around the prompt that make the edited model denoise a picture of the concept")
ATTACKS.register("p4d", "expunge.attacks.p4d:P4D",
                 "tokens under which the edited model predicts what the original does for the prompt")
ATTACKS.register("p4d-mu", "expunge.attacks.p4d:P4DMu",
                 "P4D as re-implemented beside UnlearnDiffAtk: a short prefix, t from clean to noise")
ATTACKS.register("textual-inversion", "expunge.attacks.inversion:TextualInversion",
                 "a new word for the concept, learned by the edited model from a few pictures (CCE)")
ATTACKS.register("soft-prompt", "expunge.attacks.soft:SoftPrompt",
                 "free embeddings before the prompt, learned per item")
ATTACKS.register("noising", "expunge.attacks.noising:Noising",
                 "noise a picture of the concept and let the edited model finish it")
ATTACKS.register("inpainting", "expunge.attacks.inpainting:Inpainting",
                 "hide a part of a picture of the concept and let the edited model fill it in")
ATTACKS.register("ddim-inversion", "expunge.attacks.ddim:DdimInversion",
                 "invert a picture of the concept with the empty prompt and draw it again (TINA+)")
ATTACKS.register("relearn", "expunge.attacks.relearn:Relearn", "fine-tune on a few pictures of the concept")
ATTACKS.register("relearn-xattn", "expunge.attacks.relearn:RelearnXattn", "relearn, training cross-attention alone")
ATTACKS.register("relearn-lora", "expunge.attacks.relearn:RelearnLora", "relearn with a LoRA (needs peft)")
ATTACKS.register("benign", "expunge.attacks.relearn:Benign", "fine-tune on pictures of other things")
ATTACKS.register("quantise", "expunge.attacks.quantise:Quantise", "round the weights to 8, then 4 bits (simulated)")
ATTACKS.register("adapter", "expunge.attacks.adapter:Adapter", "merge a LoRA file of your own (needs its path)")

WORLDS = Registry("world", "expunge ls worlds")
WORLDS.register("emoji", "expunge.tiny.emoji:EmojiWorld", "EmojiCanvas: prompts, judge and CLIP of emoji-64")
WORLDS.register("open", "expunge.metrics.open_world:OpenWorld",
                "any model: prompts from templates or a file, CLIP as judge")

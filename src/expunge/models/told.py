"""Prompts that are encoded once, each alone, so that the text encoders can leave memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from expunge.models.conditioning import Conditioning
from expunge.models.residence import Residence

Encode = Callable[[Sequence[str]], Conditioning]


class Told:
    """What a denoiser is told of prompts, by their text.

    Attributes:
        by_text: one row of each prompt that was asked, beside the processor: how many there are costs an accelerator
            nothing.
    """

    def __init__(self, encode: Encode, residence: Residence) -> None:
        """`encode`: prompts to rows, by the text encoders; these leave `residence` after each use."""
        self._encode, self._residence = encode, residence
        self.by_text = dict[str, Conditioning]()

    def learn(self, prompts: Sequence[str]) -> None:
        """Encode those that are new."""
        new = [text for text in dict.fromkeys(prompts) if text not in self.by_text]
        if not new:
            return
        with torch.no_grad():
            for text in new:
                self.by_text[text] = self._encode([text]).detach().to("cpu")
        self._residence.dismiss("text")

    def rows(self, prompts: Sequence[str], device: torch.device) -> Conditioning:
        """The rows of one prompt or more, on a device."""
        self.learn(prompts)
        return Conditioning.cat(self.by_text[text].to(device) for text in prompts)

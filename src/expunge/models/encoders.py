"""The kinds of networks that read prompts: CLIP and T5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from expunge.errors import ModelError
from expunge.models.text import TextEncoder, Tokens

Pooled = Literal["", "text_embeds", "pooler_output"]
"""Which state stands for the whole text: none; the projected one at the end token; the same before the projection."""


class ClipTextEncoder(TextEncoder):
    """CLIP's text encoder.

    The states are those of its last layer, after the final norm, or of the last layer but one as they are.
    """

    def __init__(self, name: str, module: Any, tokenizer: Any, *, penultimate: bool = False, pooled: Pooled = ""
                 ) -> None:
        """Over a `CLIPTextModel`, or a `CLIPTextModelWithProjection` for "text_embeds".

        Raises:
            ModelError: as `TextEncoder`.
        """
        longest = tokenizer.model_max_length
        if isinstance(longest, bool) or not isinstance(longest, int | float):
            raise ModelError(f"a tokenizer with {longest!r} for its model_max_length", accepted="a number of tokens")
        super().__init__(name, module, tokenizer, min(longest, module.config.max_position_embeddings))
        self._penultimate, self._pooled, self.pooled = penultimate, pooled, "pooled" if pooled else ""

    def read(self, tokens: Tokens, embeddings: Tensor | None = None) -> dict[str, Tensor]:
        """ "states" float32 (B, T, D), and "pooled" float32 (B, P) if it has one.

        The encoder sees where the padding begins only if its config asks for that.
        """
        module: Any = self.module
        mask = tokens.mask if getattr(module.config, "use_attention_mask", False) else None
        with self.embedding(embeddings):
            out = module(tokens.ids, attention_mask=mask, output_hidden_states=self._penultimate)
        states = out.hidden_states[-2] if self._penultimate else out.last_hidden_state
        rows = {"states": states.float()}
        return rows | {"pooled": out[self._pooled].float()} if self._pooled else rows


class T5TextEncoder(TextEncoder):
    """T5's encoder: the states of its last layer. Padding is attended to, as diffusers does it: there is no mask."""

    causal = False

    def read(self, tokens: Tokens, embeddings: Tensor | None = None) -> dict[str, Tensor]:
        """ "states" float32 (B, T, D)."""
        module: Any = self.module
        with self.embedding(embeddings):
            states: Tensor = module(tokens.ids)[0]
        return {"states": states.float()}

    @property
    def _inside(self) -> nn.Module:
        # `get_input_embeddings` gives a twin of this layer, of the same weights, that is never called.
        module: Any = self.module
        inside: nn.Module = module.encoder.embed_tokens
        return inside

    def _apart(self, left: int, right: Sequence[int]) -> bool:
        """Whether a blank stands between a token and what follows: pieces that begin a word say so themselves."""
        first = str(self.tokenizer.convert_ids_to_tokens(right[0])) if right else ""
        return first.startswith("\u2581") or left in self.tokenizer.all_special_ids

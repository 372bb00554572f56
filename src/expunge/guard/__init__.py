"""FreezeAsGuard: which tensors a platform keeps frozen when others fine-tune its model, and whether they stayed so.

A policy that a platform can enforce and verify, not a lock on open weights: whoever holds the weights can switch every
tensor back on.

Source: Huang et al. 2024 (FreezeAsGuard, 2405.17472). Differs: see `projected`, and `released` for what was published.
"""

from expunge.guard.domains import PublisherImages
from expunge.guard.enforce import DriftError, Guard, guarded, lora_targets
from expunge.guard.learn import PRESETS, check_learning, estimate, learn_mask, resolve
from expunge.guard.lora_config import LoraConfig, check_lora, read_lora_config
from expunge.guard.mask import (
    check_mask,
    export_positions,
    import_positions,
    load_mask,
    random_mask,
    save_mask,
)
from expunge.guard.pictures import captioned
from expunge.guard.savings import savings
from expunge.guard.terms import terms
from expunge.guard.verify import verify

__all__ = ["PRESETS", "DriftError", "Guard", "LoraConfig", "PublisherImages", "captioned", "check_learning",
           "check_lora", "check_mask", "estimate", "export_positions", "guarded", "import_positions", "learn_mask",
           "load_mask", "lora_targets", "random_mask", "read_lora_config", "resolve", "save_mask", "savings", "terms",
           "verify"]

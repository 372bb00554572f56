"""FreezeAsGuard: which tensors a platform keeps frozen when others fine-tune its model, and whether they stayed so.

A policy that a platform can enforce and verify, not a lock on open weights: whoever holds the weights can switch every
tensor back on.

Source: Huang et al. 2024 (FreezeAsGuard, 2405.17472). Differs: see `projected`, and `released` for what was published.
"""

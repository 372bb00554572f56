"""Benches as the report would get them, pooled from made-up items by the real functions."""

from __future__ import annotations

import numpy as np

from expunge.bench.gather import compared, summaries
from expunge.bench.settings import BenchSettings
from expunge.records import BenchResult, Edit, EditCost, Score

ROLES = ("found/direct", "found/held_out", "found/paraphrase", "found/implicit")


def edit(method: str, concept: str, seed: int, elicited: float, integrity: float, seconds: float, **changes: object
         ) -> Edit:
    """An edit whose items are drawn around the rates given, the same way every time."""
    rng = np.random.default_rng([seed, len(method), len(concept), round(1000 * elicited)])

    def rate(share: float, prompts: int, name: str) -> dict[str, dict[str, float]]:
        return {f"{name} {i} of {concept}": {str(k): float(rng.random() < share) for k in range(2)}
                for i in range(prompts)}

    near = {f"near {i} of {concept}": {str(k): integrity + 0.1 * float(rng.standard_normal()) for k in range(2)}
            for i in range(8)}
    items = {"attack/worst": rate(elicited, 8, "item"), "attack/noising": rate(elicited, 8, "item"),
             "attack/noising/total": rate(elicited, 8, "item"), "retained/near": rate(0.9, 8, "near"),
             "integrity/near": near, "integrity/far": near, **{name: rate(elicited / 4, 4, name) for name in ROLES}}
    values = {"method": method, "preset": method.split(",")[0], "concept": concept, "seed": seed, "items": items,
              "attacks": ("noising",), "machine": "a machine", "cost": EditCost(
                  seconds=seconds, processor=0.8 * seconds, steps=10, unet_frozen=100,
                  unet_trained=50, changed=1000, of=4000, patch_bytes=4096),
              "scores": (Score(name="fid/original", title="FID", value=5.0 + seed, low=4.0, high=7.0 + seed, n=40),
                         Score(name="attack/noising/control", title="c", value=0.25, n=4, numerator=1))}
    return Edit.model_validate({**values, **changes})


def bench(methods: dict[str, tuple[float, float, float]], concepts: tuple[str, ...] = ("church", "bomb"),
          seeds: tuple[int, ...] = (0, 1, 2), failed: str = "") -> BenchResult:
    """Methods by label: share elicited, integrity, seconds."""
    settings = BenchSettings.build({
        "methods": [{"method": "esd-fast", "label": name} for name in methods], "draws": 200,
        "concepts": [{"concept": name} for name in concepts], "seeds": seeds})
    edits = [edit(name, concept, seed, *numbers) for name, numbers in methods.items() for concept in concepts
             for seed in seeds if name != failed]
    edits += [Edit(method=failed, preset="esd-fast", concept=concept, seed=seed, failed_at="erase", failure="no anchor")
              for concept in concepts for seed in seeds if failed]
    return BenchResult(model="embedded", model_hash="9f2c41d0a7e35b18", settings=settings.model_dump(mode="json"),
                       methods=tuple(methods), concepts=concepts, edits=tuple(edits),
                       summaries=tuple(summaries(edits, settings)), differences=tuple(compared(edits, settings)),
                       versions={"expunge": "0.1.0"}, machine="a machine", created="2026-02-11T10:20:31+00:00")


USUAL = {"esd-fast": (0.6, 0.6, 50.0), "esd-fast, noxattn": (0.5, 0.5, 55.0), "ablation-fast": (0.65, 0.7, 70.0),
         "doco-fast": (0.55, 0.72, 90.0), "doco-fast, no surgery": (0.52, 0.6, 85.0),
         "advunlearn-fast": (0.15, 0.65, 280.0), "advunlearn-fast, no retain": (0.1, 0.2, 200.0),
         "advunlearn-unet": (0.4, 0.45, 320.0), "salun-fast": (0.2, 0.1, 120.0), "erasediff-fast": (0.3, 0.3, 100.0),
         "integrity-fast": (0.6, 0.9, 110.0), "integrity-dual-fast": (0.58, 0.92, 130.0), "uce": (0.7, 0.85, 0.8),
         "rece": (0.55, 0.8, 1.5), "speed": (0.68, 0.93, 1.1), "oce": (0.5, 0.88, 0.9)}
"""As many methods as a full bench has."""

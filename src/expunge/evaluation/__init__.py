"""How gone is it, and what else changed? Draws with both models, asks the world's instruments, keeps every record.

The only place where models and metrics meet. A folder of results holds `evaluation.json`, `judgments.jsonl` and
`pictures/` (those that the report shows). Images are drawn through the cache and judgments are kept, so a second
run draws nothing, and an interrupted one goes on where it was.

Names of the scores ("original/..." is the same for the original model; roles and strata that were not asked are
missing; a score that could not be measured has the value None and says why):

    found/direct, held_out, paraphrase, implicit, all     share of images in which the concept is still found
    abstained/<role>                                      share on which the judge abstained
    found/<role>/<concept>, abstained/<role>/<concept>    the same for one of several concepts; without it: for all
    found/never_seen, found/keep                          null controls of the judge
    retained/near, far, style; retained/keep:<question>   share that shows what was asked for
    original/drawn/forget@<stratum>[/<concept>], .../keep@<stratum>   decide which strata count
    instead/<class>[/<concept>], something_else/all[/<concept>], damaged/keep   what is drawn instead
    change/found/all, change/clip/forget, change/clip/keep      edited minus original, paired
    integrity/near, far, style, empty, forget             J: 1 only numerical noise, 0 as different as another seed
    perceptual/<stratum>, perceptual/ceiling/<stratum>, perceptual/floor, perceptual/ceiling, ssim/<stratum>
    fid/original, kid/original, fid/real, kid/real        images of the keep prompts
    clip/forget, clip/keep                                100 x cosine
"""

from __future__ import annotations

from expunge.evaluation.places import places_of
from expunge.evaluation.plan import EvaluateSettings, picture_count, planned_prompts
from expunge.evaluation.run import evaluate

__all__ = ["EvaluateSettings", "evaluate", "picture_count", "places_of", "planned_prompts"]

"""What published methods are set to on other families than Stable Diffusion 1 and 2, for which presets are written.

A preset named alone takes these settings on a model of the family; settings that the user gives win. Two rules are
not anybody's publication: a closed form goes to the layers that read text states as they are, wherever the family has
them, and a guidance that the model cannot take is 1. Nor is TRCE's scope there: no layer sees the image alone.

| method | family | settings | source |
| --- | --- | --- | --- |
| `esd` | Stable Diffusion XL | 50 steps of the sampler at guidance 2, 200 steps at 2e-4 | erasing@46599b3, `esd-x` |
| `esd` | Stable Diffusion 3 | 28 at guidance 7.5, 200 at 3e-5 | a fork of it for 3.5 |
| `esd` | FLUX.1 | 28 at guidance 3.5 (told to dev), 1400 at 1e-4, at 512 pixels or its own if less | erasing@46599b3 |
| closed forms, also as a start | Stable Diffusion 3, FLUX.1 | scope `entry` | UCE@28c81ed: `context_embedder` |
| `uce` | FLUX.1 | the pooled state's first layer, too | UCE@28c81ed, `time_text_embed.text_embedder.linear_1` |
| `trce`, `trce-fast` | Stable Diffusion 3, FLUX.1 | scope `attn+entry` | nobody's |

Differs: erasing's default there is eta 1 of a formula in which our eta is one less, so that its target is the plain
unconditional output; ours stays the paper's. UCE on Stable Diffusion 3 is nobody's publication: it is as on FLUX.1. On
Stable Diffusion XL UCE leaves the pooled path, as published, and says so; {"pooled": true} takes it in, there and in
the other closed forms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from expunge.config import merged
from expunge.models.model import Model
from expunge.unlearn.closed_form.method import ClosedForm
from expunge.unlearn.method import Configured

PUBLISHED: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("esd", "Stable Diffusion XL"): {"source.grid": 50, "source.guidance": 2.0, "steps": 200, "learning_rate": 2e-4},
    ("esd", "Stable Diffusion 3"): {"source.grid": 28, "source.guidance": 7.5, "steps": 200, "learning_rate": 3e-5},
    ("esd", "FLUX.1"): {"source.grid": 28, "source.guidance": 3.5, "steps": 1400, "learning_rate": 1e-4,
                        "size": 512},
    ("uce", "Stable Diffusion 3"): {"pooled": True},
    ("uce", "FLUX.1"): {"pooled": True},
    **{(name, family): {"scope": "attn+entry"} for name in ("trce", "trce-fast")
       for family in ("Stable Diffusion 3", "FLUX.1")},
}
"""By preset and family; what is said of a family behind a comma (inpainting) changes nothing."""


def suited(method: Configured, preset: str, given: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """Settings by dotted name that differ on this model from what the preset says; none on the families it is for.

    Args:
        method: with the user's settings. preset: the name by which it was asked for.
        given: the user's settings, which win.
    """
    settings = dict(PUBLISHED.get((preset, model.family.partition(",")[0]), {}))
    if settings.get("size", 0) >= min(model.size):
        del settings["size"]
    if isinstance(method, ClosedForm) and not {*model.parameters_in(method.scope)} <= {*model.reading_text()}:
        settings["scope"] = model.denoiser.entry
    start = getattr(method, "start", None)
    if isinstance(start, ClosedForm) and not {*model.parameters_in(start.scope)} <= {*model.reading_text()}:
        settings["start.scope"] = model.denoiser.entry
    if model.denoiser.guided == "none":
        settings |= dict(_unguided(method.model_dump(mode="json")))
    return {name: value for name, value in settings.items() if not _holds(merged(given), name)}


def _holds(settings: Mapping[str, Any], name: str) -> bool:
    """Whether the user's settings say something at a dotted name."""
    here: Any = settings
    for key in name.split("."):
        if not isinstance(here, Mapping) or key not in here:
            return False
        here = here[key]
    return True


def _unguided(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """All settings called "guidance" by dotted name, and 1; of parts in a list the whole list."""
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _unguided(value, f"{name}.")
        elif key == "guidance":
            yield name, 1.0
        elif isinstance(value, list) and any(isinstance(one, Mapping) and "guidance" in one for one in value):
            yield name, [{**one, "guidance": 1.0} if isinstance(one, Mapping) and "guidance" in one else one
                         for one in value]

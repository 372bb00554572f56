"""UCE, RECE, SPEED and OCE: four published systems as settings of the one closed form.

| | solver | projections | positions of the concept | published for |
| --- | --- | --- | --- | --- |
| `uce` | ridge | keys and values | its name's last token to the end | Stable Diffusion 1.4, 2.1 |
| `rece` | ridge, then rounds against itself | keys and values | the same | Stable Diffusion 1.4 |
| `speed` | null space of a refined prior | values | its name's last token | Stable Diffusion 1.4, SDXL, 3 |
| `oce` | rotation | values | its name's last token | Stable Diffusion 1.4, FLUX |
| `oce-fast` | `oce` with more weight on what erases | values | the same | (ours, for emoji-64) |

What they share and differ in is told where it is computed: `closed_form/reading.py` (which states), `solvers.py`,
`refine.py`, `rounds.py`. All of them read the concept's name alone, as published; {"texts": "both"} adds the request's
prompts. Rounds go with every solver: {"rounds.count": 3}.

Source: Gandikota et al. 2024, WACV (unified-concept-editing@35e91e2, the original script); Gong et al. 2024, ECCV
(RECE@10ea80d, train_object.py); Li et al. 2026, ICLR (SPEED, the settings for few concepts; threshold 1e-4 for many);
Sun et al. 2026, ICML (OCE@1164d39). Differs: the states to keep are those of `retain`'s prompts for other things,
where the papers name lists of their own (other artists, celebrities, MS-COCO captions); `rece` begins from an edit
with its own weights, not from a stored UCE model, and reads the span where its code reads every position.

Only OCE's weights had to be set anew for emoji-64: they weigh projections, which have no unit, against outputs, which
have one, so they belong to the text encoder and the layers that they were found for.
"""

from __future__ import annotations

from expunge.unlearn.closed_form.method import ClosedForm
from expunge.unlearn.closed_form.rounds import Rounds
from expunge.unlearn.closed_form.solvers import NullSpace, Procrustes, Ridge
from expunge.unlearn.retain import Retain

UCE = ClosedForm(name="uce", solver=Ridge(), texts="names", retain=Retain(each=1))
RECE = ClosedForm(name="rece", solver=Ridge(keep=0.1, size=0.1), texts="names", retain=Retain(each=1),
                  rounds=Rounds(count=5, ridge=1e-3))
SPEED = ClosedForm(name="speed", solver=NullSpace(), scope="xattn.v", texts="names", tokens="last", keep_tokens="last",
                   retain=Retain(each=1), retain_tokens="last")
OCE = ClosedForm(name="oce", solver=Procrustes(), scope="xattn.v", texts="names", tokens="last", keep_tokens="last",
                 retain=Retain(each=4), retain_tokens="words")
OCE_FAST = OCE.override({"name": "oce-fast", "solver.erase": 30.0, "surrogate": "found"})

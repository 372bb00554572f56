"""Published methods as settings of the one objective, and refresh learning as it goes on top of any of them.

Weights are those of the published codes where one is named; they are meant to be tuned. A factor of a published mean
squared error is twice ours (`SquaredDivergence` has the 1/2 of 1/2 |v|^2), so DER's alpha 0.1 is 0.2 here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from expunge.continual.bregman import Gaussians, NegativeEntropy, RootDivergence, SquaredDivergence
from expunge.continual.fisher import FisherSettings
from expunge.continual.objective import Objective, OutputTerm, WeightTerm
from expunge.continual.refresh import Refresh

_REPLAY = OutputTerm(name="replay", weight=1.0, target="label")
_LOGITS = OutputTerm(name="logits", weight=0.2, divergence=SquaredDivergence(average=True), target="stored")

NAIVE = Objective()
"""Fine-tuning on one task after another."""
ER = Objective(outputs=(_REPLAY,))
"""Experience replay: KL(label || output) on memory is its cross-entropy. Source: Chaudhry et al. 2019."""
DER = Objective(outputs=(_LOGITS,))
"""Dark experience replay: logits as they were stored. Source: Buzzega et al. 2020, alpha 0.1 times a mean squared
error."""
DER_PP = Objective(outputs=(_LOGITS, OutputTerm(name="replay", weight=0.5, target="label")))
"""DER++: both, each with a draw of its own. Source: Buzzega et al. 2020, alpha 0.1, beta 0.5."""
LWF = Objective(outputs=(OutputTerm(name="distil", weight=1.0, divergence=NegativeEntropy(temperature=2.0),
                                    on="current", target="old", columns="old"),))
"""Learning without forgetting: the old model's softened outputs on the new samples. Source: Li and Hoiem 2017. Differs:
KL in the place of cross-entropy: another constant, the same gradient."""
FDR = Objective(outputs=(OutputTerm(name="distance", weight=0.5, divergence=RootDivergence(), target="stored"),))
"""Function distance: probabilities as they were stored, not squared. Source: Benjamin et al. 2019."""
EWC = Objective(weights=(WeightTerm(name="ewc", weight=10.0, metric="fisher"),))
"""Elastic weight consolidation, online: one anchor, the Fisher information of all earlier tasks.
Source: Kirkpatrick et al. 2017; Schwarz et al. 2018."""
MAS = Objective(weights=(WeightTerm(name="mas", weight=0.1, metric="sensitivity"),))
"""Memory-aware synapses: weights matter by how much the outputs hang on them. Source: Aljundi et al. 2018."""
L2_SP = Objective(weights=(WeightTerm(name="l2-sp", weight=0.01, anchor="initial"),))
"""Towards where the whole sequence began. Source: Li et al. 2018."""
VCL = Objective(weights=(WeightTerm(name="vcl", weight=1e-3, divergence=Gaussians()),))
"""Variational continual learning: KL(q || q_old) of normals over weights (`MeanField`). The weight is 1 / samples of a
task where the loss is a mean. Source: Nguyen et al. 2018. Differs: no coresets, and in the first task no KL to a
prior."""

OBJECTIVES = {"naive": NAIVE, "er": ER, "der": DER, "der++": DER_PP, "lwf": LWF, "fdr": FDR, "ewc": EWC, "mas": MAS,
              "l2-sp": L2_SP, "vcl": VCL}
"""By name."""

CPR = OutputTerm(name="cpr", weight=0.1, divergence=NegativeEntropy(first="output"), on="current", target="uniform")
"""Classifier-projection regularisation, a term for any of them (`ER.with_term(CPR)`): KL(output || uniform), which is
log of the number of classes less the output's entropy. Source: Cha et al. 2021."""


PAPER = Refresh(steps=1, every=2, gamma=1e-4, rule="langevin", norm="none", damping=0.1, normalise=True, noise=1.0)
"""As the paper states it. Its gamma is not public for other tasks than its own and must be tuned. Noise at temperature
1 belongs to a loss that is a sum over a data set; with a mean over a batch it is that many times too hot (noise 1 /
samples restores it)."""
RELEASED = Refresh(steps=1, every=1, gamma=1e-5, rule="released", norm="tensor", damping=1e-3, normalise=False,
                   noise=1e-3)
"""As the released code does it, literally: each tensor moves by 1e-5 of its norm in every step, weighted by
1 / (1 + 1e-3 F), with isotropic noise of 1e-3 inside. Its closure is the cross-entropy of the new batch alone, whatever
the method's objective; its F is weighted by p(y|x) and forgets all but the last task (`presets.REFRESHES`).
Source: clrefresh/models/derpp.py. Differs: in place, where the code takes the gradient on a copy by a step of SGD whose
length then cancels (its weight decay of 1e-4, where it has one, does not; here there is none)."""
SAFE = Refresh(steps=1, every=2, gamma=1e-4, rule="langevin", norm="fisher", damping=1.0, normalise=True, noise=0.0,
               rise=0.5)
"""Deterministic and bounded twice: by a length in the Fisher metric, and by the rise of the loss. Ours."""


@dataclass(frozen=True)
class RefreshPreset:
    """Refresh learning as a learner takes it: `Learner(objective=ER, **vars(REFRESHES["released"]))`.

    Attributes:
        refresh: the rule. ascend: which loss is climbed. refresh_fisher: how its metric is measured.
    """

    refresh: Refresh
    ascend: Literal["full", "new"]
    refresh_fisher: FisherSettings


REFRESHES = {
    "paper": RefreshPreset(PAPER, "full", FisherSettings(kind="empirical")),
    "released": RefreshPreset(RELEASED, "new", FisherSettings(kind="weighted", decay=1e-5)),
    "safe": RefreshPreset(SAFE, "full", FisherSettings(kind="true")),
}
"""By name: as the paper states it; as the released code does it (cross-entropy of the new batch alone, a Fisher that
remembers only the last task); and bounded."""

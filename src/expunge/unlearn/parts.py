"""Every part that settings can name, by slot. A new part joins its union here and nowhere else.

A slot is a union told apart by the settings' `kind`; settings that name none mean the first member. Sources are in
source.py, because keeps hold one; divergences are in divergence.py, because objectives do.
"""

from __future__ import annotations

from typing import Annotated

from expunge.config import ByKind
from expunge.unlearn.ablation import Ablate
from expunge.unlearn.adversary import SoftAdversary
from expunge.unlearn.bilevel import Bilevel
from expunge.unlearn.denoise import Denoise
from expunge.unlearn.domain import AlignDomains
from expunge.unlearn.dual import Dual
from expunge.unlearn.integrity import Integrity
from expunge.unlearn.keep import MatchTeacher
from expunge.unlearn.objective import Steer
from expunge.unlearn.refreshed import Refreshed
from expunge.unlearn.relabel import Noise, Relabel
from expunge.unlearn.saliency import Masked
from expunge.unlearn.surgery import Surgery
from expunge.unlearn.update import Plain

AnyObjective = Annotated[Steer | Ablate | AlignDomains | Relabel | Noise, ByKind("objective")]
AnyKeep = Annotated[MatchTeacher | Denoise | Integrity, ByKind("keep")]
AnyUpdate = Annotated[Plain | Masked | Surgery | Bilevel | Dual | Refreshed, ByKind("update")]
AnyAdversary = Annotated[SoftAdversary, ByKind("adversary")]

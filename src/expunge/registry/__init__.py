"""Names for what users choose: methods and their parts, attacks, worlds and theirs. Nothing is imported before use."""

from __future__ import annotations

from expunge.registry.attacks import ATTACKS
from expunge.registry.measuring import DETECTORS, DISTANCES, FEATURES, PROMPTS, REFERENCES, WORLDS
from expunge.registry.methods import METHODS
from expunge.registry.parts import ADVERSARIES, KEEPS, OBJECTIVES, PARTS, SOURCES, UPDATES
from expunge.registry.table import FAILURES, Registry, described

__all__ = [
           "ADVERSARIES",
           "ATTACKS",
           "DETECTORS",
           "DISTANCES",
           "FAILURES",
           "FEATURES",
           "KEEPS",
           "METHODS",
           "OBJECTIVES",
           "PARTS",
           "PROMPTS",
           "REFERENCES",
           "SOURCES",
           "UPDATES",
           "WORLDS",
           "Registry",
           "described",
]

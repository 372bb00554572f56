"""What passes between the parts of expunge: frozen records that are JSON on disk. No torch, no model.

Every stage ends in records, so that each can be run again, judged from outside or drawn later without a model.
"""

from __future__ import annotations

from expunge.records.asking import Named, asked, check_request, names_any, names_target, remarks, texts_of
from expunge.records.attacks import AttackRun, Attempt, Spent, SuiteResult
from expunge.records.base import Record
from expunge.records.bench import (
    BenchCheck,
    BenchResult,
    CheckedCell,
    Difference,
    Edit,
    EditCost,
    Pooled,
    Summary,
)
from expunge.records.card import HUB_NAME, OwnLook, PatchCard
from expunge.records.english import article, counted, with_article
from expunge.records.evaluation import AttackExample, Evaluation, ImageStrip
from expunge.records.freezing import FreezeMask, Savings, TrainingTerms, Verification
from expunge.records.kinds import KINDS, SPREADS, Kind, guess_kind
from expunge.records.naming import Reader, longer_name, mentions, names, places, same_name
from expunge.records.origin import Origin
from expunge.records.own_prompts import overlap, with_prompts
from expunge.records.patch_file import read_card
from expunge.records.pictures import FORGET_ROLES, KEEP_ROLES, Detection, ImageRecord, ItemKey, Prompt, Role, Sampler
from expunge.records.relearning import Look, Relearning, RelearningCurve
from expunge.records.request import Request, Target
from expunge.records.score import NOT_ASKED, NOT_DRAWN, NOT_FINITE, NOT_SHOWN, Score
from expunge.records.sequence import Entry, Ledger, SequenceResult, StateScores
from expunge.records.stored import BENCHES, EVALUATIONS, LEDGER, PROTOCOLS, RELEARNINGS, SEQUENCES, SUITE_RESULTS

__all__ = [
    "BENCHES",
    "EVALUATIONS",
    "FORGET_ROLES",
    "HUB_NAME",
    "KEEP_ROLES",
    "KINDS",
    "LEDGER",
    "NOT_ASKED",
    "NOT_DRAWN",
    "NOT_FINITE",
    "NOT_SHOWN",
    "PROTOCOLS",
    "RELEARNINGS",
    "SEQUENCES",
    "SPREADS",
    "SUITE_RESULTS",
    "AttackExample",
    "AttackRun",
    "Attempt",
    "BenchCheck",
    "BenchResult",
    "CheckedCell",
    "Detection",
    "Difference",
    "Edit",
    "EditCost",
    "Entry",
    "Evaluation",
    "FreezeMask",
    "ImageRecord",
    "ImageStrip",
    "ItemKey",
    "Kind",
    "Ledger",
    "Look",
    "Named",
    "Origin",
    "OwnLook",
    "PatchCard",
    "Pooled",
    "Prompt",
    "Reader",
    "Record",
    "Relearning",
    "RelearningCurve",
    "Request",
    "Role",
    "Sampler",
    "Savings",
    "Score",
    "SequenceResult",
    "Spent",
    "StateScores",
    "SuiteResult",
    "Summary",
    "Target",
    "TrainingTerms",
    "Verification",
    "article",
    "asked",
    "check_request",
    "counted",
    "guess_kind",
    "longer_name",
    "mentions",
    "names",
    "names_any",
    "names_target",
    "overlap",
    "places",
    "read_card",
    "remarks",
    "same_name",
    "texts_of",
    "with_article",
    "with_prompts",
]

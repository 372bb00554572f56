"""What passes between the parts of expunge: frozen records that are JSON on disk. No torch, no model.

Every stage ends in records, so that each can be run again, judged from outside or drawn later without a model.
"""

from __future__ import annotations

from expunge.records.asking import asked, check_request, mentions
from expunge.records.attacks import Assault, AttackRun, Attempt, Spent
from expunge.records.base import Record
from expunge.records.bench import BenchResult, Difference, Edit, EditCost, Pooled, Summary
from expunge.records.card import OwnLook, PatchCard
from expunge.records.evaluation import Evaluation, Find, Strip
from expunge.records.freezing import FreezeMask, Savings, TrainingTerms, Verification
from expunge.records.pictures import FORGET_ROLES, KEEP_ROLES, Judgment, Prompt, Role, Sampler, Shot
from expunge.records.relearning import Look, Relearning, RelearningCurve
from expunge.records.request import Request, Target
from expunge.records.score import Score
from expunge.records.sequence import Entry, Ledger, SequenceResult, StateScores
from expunge.records.stored import ASSAULTS, EVALUATIONS, RELEARNINGS, SEQUENCES

__all__ = [
    "ASSAULTS", "EVALUATIONS", "FORGET_ROLES", "KEEP_ROLES", "RELEARNINGS", "SEQUENCES", "Assault", "AttackRun",
    "Attempt", "BenchResult", "Difference", "Edit", "EditCost", "Entry", "Evaluation", "Find", "FreezeMask", "Judgment",
    "Ledger", "Look", "OwnLook", "PatchCard", "Pooled", "Prompt", "Record", "Relearning", "RelearningCurve", "Request",
    "Role", "Sampler", "Savings", "Score", "SequenceResult", "Shot", "Spent", "StateScores", "Strip", "Summary",
    "Target", "TrainingTerms", "Verification", "asked", "check_request", "mentions",
]

"""The verb: meet every request that is not met yet, on top of those before it, and measure the model after each.

Killed in the middle of a request, a sequence goes on there when it is started again: the method has its checkpoint in
the state's folder. The ledger gets a line when a state's patch is on disk, so it never tells of what is not there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from expunge import runtime
from expunge.detectors.choosing import world_for
from expunge.errors import UserError
from expunge.evaluation import EvaluateSettings, evaluate, planned_prompts
from expunge.files import check_writable, text_digest, write_json, write_text
from expunge.isolated import isolated
from expunge.locks import held
from expunge.metrics.judging import check_questions
from expunge.metrics.prompts import aims_of
from expunge.metrics.worlds import World
from expunge.models.model import Model
from expunge.models.patch import Patch, stacked
from expunge.models.store import load
from expunge.records import EVALUATIONS, SEQUENCES, Entry, Ledger, Request, SequenceResult
from expunge.resume import kept
from expunge.runtime import Progress
from expunge.sequence.before import EarlierRequests, kept_now
from expunge.sequence.gather import COST, gathered
from expunge.sequence.ledger import LEDGER, add, asked_digest, begun, check_file, check_met, read_ledger, withdrawn
from expunge.sequence.measure import FOLDER, about, kept_evaluation
from expunge.sequence.memory import ReplayBuffer, Targeted, elsewhere, left_behind
from expunge.sequence.settings import SequenceSettings, read_sequence
from expunge.sequence.states import State, everything, planned_states
from expunge.sequence.strategy import Replay
from expunge.train import Losses
from expunge.unlearn.context import TrainContext
from expunge.unlearn.erase import CHECKPOINT, PATCH
from expunge.unlearn.recipe import Recipe

MEMORY = "memory.safetensors"
Note = Callable[[str], None]
"""Told in words how far a request is."""


@isolated
def run_sequence(settings: SequenceSettings | Mapping[str, object] | str | Path, *, out: str | Path | None = None,
                 make: bool = True, progress: Progress | None = None, world: World | None = None) -> SequenceResult:
    """Run a sequence, or what is left of it, and write its record to `<out>/sequence.json`.

    Args:
        settings: the sequence, what its file would hold, or its YAML or TOML file.
        out: folder of everything; None means the sequence's own.
        make: False makes nothing and gathers what there is.
        progress: told (requests met since the start, requests that were to be met then, what is being done).
        world: prompts and judge; None means the model's world.

    Raises:
        ConfigError: mistakes in the file, requests that contradict one another or what the ledger has; nothing is begun
            then.
        UserError: a ledger that was changed by hand or is another model's, another process at work in the folder, or
            nothing to gather.
        TrainingError: an edit broke off; the states before it are kept.
        StorageError: the folder cannot be written.
    """
    settings = settings if isinstance(settings, SequenceSettings) else read_sequence(settings)
    folder, tell = Path(out or settings.out), progress or (lambda done, total, note: None)
    check_writable(folder)
    model = load(settings.source, **settings.opening)
    own = settings.evaluation
    world = world_for(model.world, model.name, own or EvaluateSettings(), world)
    if not make and not (folder / LEDGER).is_file():
        raise UserError(f"no sequence was begun in {folder}", accepted="the folder of a sequence",
                        remedy="name it with --out, or leave out --gather to meet the requests")
    with held(folder) as mine:  # what is checked must not change before it is gone on from
        if not mine:
            raise UserError(f"another process works on the sequence in {folder}", accepted="one at a time",
                            remedy="wait for it, or choose another output folder")
        ledger = checked_ledger(settings, model, folder)
        states = planned_states(settings, model, world.completes, folder) if settings.active else []
        check_met(ledger, states, folder)
        if make:
            check_judge(settings, world)
            _Run(settings, model, world, folder, ledger, tell).all(states)
        made = [one for one in states if state_patch(one, model, ledger)]
        result = gathered(settings, model, world.prompts, folder, made)
        if make:
            write_text(folder / SEQUENCES.name, result.model_dump_json(indent=1) + "\n")
    return result


def checked_ledger(settings: SequenceSettings, model: Model, folder: Path) -> Ledger:
    """The folder's ledger, which the file of requests agrees with.

    Raises:
        UserError: as `read_ledger`, and `check_file` (ConfigError).
    """
    ledger = read_ledger(folder, model)
    check_file(ledger, settings, folder)
    return ledger


def check_judge(settings: SequenceSettings, world: World) -> None:
    """Whether the judge knows all that it will be asked, before anything is edited. UserError: it does not."""
    if settings.evaluation is not None and settings.active:
        request = everything(settings, world.prompts)
        judge, prompts = world.judge(request), planned_prompts(world.prompts, request, settings.evaluation)
        for aim in aims_of(world.prompts, request):
            for question, label in aim.wanted.items():
                check_questions(judge, label, question, prompts)


class _Run:
    """One run of a sequence: what every request needs, and the ledger as it grows."""

    def __init__(self, settings: SequenceSettings, model: Model, world: World, folder: Path, ledger: Ledger,
                 tell: Progress) -> None:
        self.settings, self.model, self.world, self.folder = settings, model, world, folder
        self.ledger, self.tell = ledger, tell
        self._drawn: dict[tuple[str, ...], ReplayBuffer] = {}

    def all(self, states: list[State]) -> None:
        """Withdrawals first, then every request that stands."""
        self.ledger = begun(self.folder, self.ledger)
        self._withdraw()
        before: Patch | None = None
        for place, state in enumerate(states):
            def note(words: str, place: int = place, state: State = state) -> None:
                self.tell(place, len(states), f"{state.number}, {state.asked.title}: {words}")

            patch = self._meet(state, states[:place], before, note)
            if not any(entry.state == state.key for entry in self.ledger.entries):
                self._write_down(state, patch)
            if self.settings.evaluation is not None:
                self._evaluate(state, patch, note)
            before = patch

    def _meet(self, state: State, earlier: list[State], before: Patch | None, note: Note) -> Patch:
        """The state's patch, of all requests so far, with what it took and what the request leaves behind."""
        patch = state_patch(state, self.model, self.ledger)
        if patch is None:
            note("begins")
            self._elsewhere(state)  # drawn once for a whole sequence, so it is not in the time of a request
            began, busy = time.monotonic(), time.process_time()
            went_on = (state.folder / CHECKPOINT).is_file()
            own = self._edited(state, earlier, before, note)
            earlier_runs = max(0.0, own.card.seconds - (time.monotonic() - began)) if went_on else 0.0
            patch = stacked(None if self.settings.chosen.joint else before, own, self.model, state.whole)
            patch = replace(patch, card=patch.card.model_copy(update={
                "left_out": {**state.left_out, **patch.card.left_out}}))
            check_patch(state, patch, self.ledger)
            if self.settings.chosen.remembers:
                self._remember(state, patch)
            timed = self.model.device.type == "cpu" and not went_on
            write_json(state.folder / COST, {"seconds": round(earlier_runs + time.monotonic() - began, 2),
                                             "processor": round(time.process_time() - busy, 2) if timed else None})
            patch.save(state.folder)
            (state.folder / CHECKPOINT).unlink(missing_ok=True)
        elif self.settings.chosen.remembers and not (state.folder / MEMORY).is_file():
            self._remember(state, patch)
        return patch

    def _memory(self, state: State) -> ReplayBuffer:
        """What the request left behind. UserError: it is not what the ledger tells of."""
        memory = ReplayBuffer.read(state.folder / MEMORY, self.model.device)
        recorded = {entry.memory_hash for entry in self.ledger.entries if entry.state == state.key}
        if recorded and memory.hash not in recorded:
            raise UserError(f"the points that request {state.number} ({state.asked.title}) left behind are other ones "
                            "than the ledger tells of",
                            accepted="the file as it was written: later requests rest on it",
                            remedy=f"put back a copy of {state.folder / MEMORY}, or delete it: then it is made again")
        return memory

    def _edited(self, state: State, earlier: list[State], before: Patch | None, note: Note) -> Patch:
        """The edit that meets the request, as the method makes it."""
        checkpoint, method = state.folder / CHECKPOINT, state.method
        state.folder.mkdir(parents=True, exist_ok=True)

        def training(done: int, total: int, losses: Losses) -> None:
            note(f"{'erasing' if losses else 'preparing'} {done}/{total}")

        if self.settings.chosen.joint:
            return method(self.model, state.whole, seed=state.seed, checkpoint=checkpoint, progress=training)
        student = self.model.edited(before)
        if not isinstance(method, Recipe):
            return method(student, state.request, seed=state.seed, checkpoint=checkpoint, progress=training)
        past = self._before(state, earlier, student.hash)
        return method(student, state.request, seed=state.seed, checkpoint=checkpoint, progress=training, past=past)

    def _remember(self, state: State, patch: Patch) -> None:
        objective = state.method.objective if isinstance(state.method, Recipe) else None
        student = self.model if isinstance(objective, Targeted) else self.model.edited(patch)  # else nobody asks it
        context = TrainContext(student, self.model, state.request, state.seed)
        left_behind(context, objective, self.settings.chosen.replay or Replay()).save(state.folder / MEMORY)

    def _before(self, state: State, earlier: list[State], last: str) -> EarlierRequests:
        """What the request has to hold on to."""
        strategy = self.settings.chosen
        memories = [self._memory(one) for one in earlier if strategy.remembers]
        whole, others = self._elsewhere(state), None
        if whole is not None or strategy.projection is not None:
            others = strategy.others.prompts.retained(self.model, state.request, state.gone)
        kept = kept_now(whole, others) if whole is not None and others is not None else None
        prompts = (*state.kept, *others.prompts) if others is not None and strategy.projection is not None else ()
        return EarlierRequests(strategy, self.model, last, state.gone, tuple(memories), kept, prompts)

    def _elsewhere(self, state: State) -> ReplayBuffer | None:
        """The original's predictions on prompts for other things and on those that must stay; None where not needed.

        Drawn anew only where a request brings wishes of its own: what it rests on is in no later request's hands.
        """
        strategy, kept = self.settings.chosen, state.kept
        if not strategy.knows_others:
            return None
        if kept not in self._drawn:
            payload = [self.model.hash, self.settings.seed, strategy.others.model_dump(mode="json"), kept]
            file = self.folder / f"elsewhere-{text_digest(json.dumps(payload))[:8]}.safetensors"
            if not file.is_file():
                self.tell(0, len(self.settings.active), "drawing prompts to keep with the original model")
                nobody = Request(concept="nothing", prompts=("",))
                context = TrainContext(self.model, self.model, nobody, self.settings.seed)
                elsewhere(context, strategy.others, kept).save(file)
            self._drawn[kept] = ReplayBuffer.read(file, self.model.device)
        return self._drawn[kept]

    def _withdraw(self) -> None:
        """Lines for requests that the file takes back and the ledger does not."""
        for number, item in enumerate(self.settings.requests, 1):
            if item.withdrawn is not None and number not in withdrawn(self.ledger):
                self.ledger = add(self.folder, self.ledger, Entry(
                    kind="withdrawn", number=number, concept=item.concept, who=item.withdrawn.who,
                    when=item.withdrawn.when, evidence=item.withdrawn.why, asked=asked_digest(item), made=_now()))

    def _write_down(self, state: State, patch: Patch) -> None:
        item = state.asked
        self.ledger = add(self.folder, self.ledger, Entry(
            number=state.number, concept=item.concept, anchor=item.anchor, keep=item.keep, who=item.who, when=item.when,
            evidence=item.evidence, asked=asked_digest(item), method=state.method_name, settings=dict(state.settings),
            strategy=dict(state.strategy), seed=state.seed, kept=state.wishes, state=state.key, patch_hash=patch.hash,
            memory_hash=ReplayBuffer.read(state.folder / MEMORY).hash if self.settings.chosen.remembers else "",
            seconds=patch.card.seconds, versions=runtime.versions(),
            machine=runtime.machine(self.model.device), made=_now()))

    def _evaluate(self, state: State, patch: Patch, note: Note) -> None:
        """On all requests that stand, those to come included: the same prompts after each."""
        assert self.settings.evaluation is not None
        request = everything(self.settings, self.world.prompts)
        if kept_evaluation(state, patch, request, self.settings, self.world.prompts) is None:
            (state.folder / FOLDER / EVALUATIONS.name).unlink(missing_ok=True)  # of an edit that was made again since
            evaluate(self.model, about(patch, request), settings=self.settings.evaluation,
                     out=state.folder / FOLDER, cache=self.settings.cache or None, world=self.world,
                     progress=lambda done, total, words: note(f"{words} {done}/{total}"))


def state_patch(state: State, model: Model, ledger: Ledger) -> Patch | None:
    """The patch that an earlier run left; None if there is none, or it is damaged (then it is made again).

    Raises:
        UserError: it is another one than the ledger tells of.
    """
    patch = kept(Patch.load, state.folder, PATCH)
    if patch is None:
        return None
    check_patch(state, patch, ledger)
    return patch if patch.made_on(model) else None


def check_patch(state: State, patch: Patch, ledger: Ledger) -> None:
    """UserError: the ledger tells of another patch for this state."""
    recorded = {entry.patch_hash for entry in ledger.entries if entry.kind == "erased" and entry.state == state.key}
    if recorded and patch.hash not in recorded:
        known = ", ".join(one[:12] for one in sorted(recorded))
        raise UserError(f"the patch of request {state.number} ({state.asked.title}) is {patch.hash[:12]}",
                        accepted=f"{known}, as the ledger says: later requests rest on it",
                        remedy="put back a copy of the state's folder, or begin anew in another output folder")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")

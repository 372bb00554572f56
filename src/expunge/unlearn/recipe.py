"""A method as a list of parts: source of x_t, objective, scope, keep, adversary, update.

A recipe is settings, all of it: it goes into the patch's card as JSON and comes back from there. Running one
trains the model in place on the scope's parameters, takes the changed tensors as a patch, and leaves the
model as it was, bit for bit, also after an error or an interrupt.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator
from torch import Tensor
from torch.nn import Parameter
from typing_extensions import Self

from expunge import runtime
from expunge.config import Settings, knob, without_added
from expunge.errors import ConfigError, ExpungeError, TrainingError, UserError
from expunge.models.lora import layers_of, peft
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.records import Request
from expunge.registry import PARTS
from expunge.resume import Inputs
from expunge.runtime import Runtime, memory_for, peak_memory
from expunge.train import SMALLER, Losses, Progress, StepFn, Trained, check_checkpoint, kept_state, run_loop, thinned
from expunge.unlearn.adversary import AnyAdversary, Attacker
from expunge.unlearn.anchor import anchor_prompts
from expunge.unlearn.change import Change, checkpointed, low_rank, whole
from expunge.unlearn.context import AnySource, Kept, TrainContext, kept_by
from expunge.unlearn.footprint import LARGE, Footprint, SendsMore, check_room, footprint
from expunge.unlearn.keep import AnyKeep
from expunge.unlearn.method import OF_NO_WEIGHT, SURROGACY, Surrogacy, overridden
from expunge.unlearn.needs import check_low_rank, check_needs, check_places, more_places, needs
from expunge.unlearn.objective import AnyObjective, Steer, Term
from expunge.unlearn.past import PriorEdits
from expunge.unlearn.projected import keys_and_values
from expunge.unlearn.retain import Retain, Retained
from expunge.unlearn.shared_rows import shared_out
from expunge.unlearn.source import FrozenTrajectory
from expunge.unlearn.stages import Rehearsal, Stages
from expunge.unlearn.start import Beginning, Start, check_start, joined
from expunge.unlearn.update import AnyUpdate, Descent, LossFn, Plain, Stepper
from expunge.unlearn.weights import UNDER_LORA, checked_weights

_SLOTS = ("source", "objective", "loss", "keep", "update", "adversary")
"""Settings that are parts, at any depth; a text there names the part's kind."""
MEMORY_ADVICE = ("load the model in half the size (--dtype bfloat16), train a LoRA (--lora-rank 8), keep fewer "
                 "activations (--checkpointing), have one kind of network in memory at a time (--offload), train "
                 "fewer weights (--scope), or a smaller batch (--batch 1)")
"""What to do where a run would not fit."""
LORA_RATE = 10.0
"""Times the learning rate of whole weights."""


class Recipe(Settings):
    """A method made of parts, trained by the one loop.

    Adam is AdamW without weight decay. What trains is in float32; the rest stays in its number type.
    """

    name: str = knob("recipe", "What the card calls the method", min_length=1)
    source: AnySource = knob(FrozenTrajectory(), "Source of the noisy latents x_t")
    objective: AnyObjective = knob(Steer(), "Training objective")
    scope: str = knob("xattn", "Which parameters train: a scope's name", min_length=1)
    keep: AnyKeep | None = knob(None, "What must stay; none leaves everything else to chance")
    retain: Retain | None = knob(None, "Prompts made for the keep part, beside those that the request has")
    adversary: AnyAdversary | None = knob(None, "Adversarial training: what seeks the concept during erasure")
    update: AnyUpdate = knob(Plain(), "Update rule: how gradients become a step")
    surrogate: Surrogacy = SURROGACY
    steps: int = knob(1000, "Optimisation steps", ge=1)
    batch: int = knob(1, "Points of the erase loss per step", ge=1)
    learning_rate: float = knob(1e-5, "Adam's step size", gt=0.0)
    warmup: int = knob(0, "Steps over which the learning rate rises from 0", unit="steps", ge=0)
    decay: Literal["none", "cosine"] = knob("none", "How the learning rate falls to 0 by the last step; none keeps it",
                                            added=True)
    start: Start | None = knob(None, "A method in closed form whose edit the student begins with; the teacher stays "
                               "the original", added=True)
    weight_decay: float = knob(0.0, "Decoupled weight decay", ge=0.0)
    lora_rank: int | None = knob(None, "Train a LoRA of this rank on the scope's linear and convolutional layers, in "
                                 "place of their weights; none trains these", added=True, ge=1)
    lora_rate: float | None = knob(None, "Factor of the learning rate for a LoRA, whose product begins at 0; "
                                   f"none is {LORA_RATE:g}", added=True, gt=0.0)
    checkpointing: bool = knob(False, "Keep one activation of each of the denoiser's blocks and make the others again "
                               "in the backward pass: a third more time, a fraction of the memory", added=True)
    size: int | None = knob(None, "Height and width of what it trains on; none is the model's own size", unit="pixels",
                            added=True, ge=1)
    unload_text: bool | None = knob(None, "Encode every prompt once, before the first step, and let the text encoders "
                                    "leave memory while the denoiser trains; none does so where they take 256 MiB",
                                    added=True)
    frozen_batch: int = knob(16, "Samples per call of the frozen teacher: speed against memory", ge=1)
    checkpoint_every: float = knob(30.0, "Time between checkpoints", unit="seconds", ge=0.0)

    @model_serializer(mode="wrap")
    def _with_lora_rate(self, rest: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = rest(self)
        told = without_added(self, written)
        if self.lora_rank is not None and "lora_rate" in written:
            told["lora_rate"] = self.lora_rate or LORA_RATE
        return told

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.lora_rate is not None and self.lora_rank is None:
            raise ValueError("lora_rate without lora_rank: there is no LoRA whose rate it could be (set lora_rank)")
        return self

    def override(self, settings: Mapping[str, Any]) -> Recipe:
        """This recipe with some settings changed.

        Keys may be dotted ("objective.eta") and a part may be named by its kind alone ("source": "edited");
        naming another kind than the recipe's drops the old part's settings.

        Raises:
            ConfigError: every mistake at once.
        """
        own = self.model_dump(mode="json")
        if self.lora_rate is None:
            own.pop("lora_rate", None)  # what a LoRA has by default is none without one
        values = overridden(own, settings, _SLOTS)
        for slot, known in PARTS.items():
            part, mine = getattr(self, slot), values.get(slot)
            if part is not None and isinstance(mine, Mapping) and part.kind == mine["kind"] not in known.names():
                values[slot] = type(part).build(mine, origin=f"{self.name}: {slot}")  # nobody else knows its class
        return Recipe.build(values, origin=self.name)

    def check(self, model: Model, request: Request, past: PriorEdits | None = None) -> dict[str, Parameter]:
        """The weights to change, after looking for everything that would go wrong later.

        Raises:
            UserError: a patch is on, unknown scope, a prompt that the text encoder truncates, weights in float16, no
                anchor where a part needs one.
            ConfigError: parts that do not go together.
        """
        check_needs(self, request)
        sized = model.sized(self.size)
        if past is not None and sized is not model:
            raise ConfigError(f"training at {self.size} pixels in a sequence, which holds on to earlier edits at "
                              f"{model.size[0]}", accepted="the model's own size (no size)",
                              remedy="leave size out, or set it to the model's own where the method sets another")
        model = sized
        params = self._weights(model, past)
        if self.unload_text and self._asks_text(model, params):
            raise ConfigError(f"unload_text where {self.name} asks the text encoders in every step",
                              accepted="it for methods that train the denoiser alone, without an adversary",
                              remedy="leave unload_text out")
        if needs(self, "text encoders") and not model.trains_text(params):
            raise ConfigError(f"{self.name} with scope {self.scope!r}",
                              accepted="a scope of text encoders (text, text.layers:0), where parts look at text "
                                       "states alone", remedy="--scope text")
        with checkpointed(model.network, self.checkpointing):
            pass
        if needs(self, "keys and values"):
            keys_and_values(model, params)
        for where, part in (("", self), ("adversary.", self.adversary), ("update.", self.update)):
            check_places(getattr(part, "source", None), f"{where}source", len(request.targets))
        with_keep = self.keeping(model, request, past).request
        prompts, keep = with_keep.all_prompts, with_keep.keep
        model.check_lengths((*prompts, *anchor_prompts(prompts, request), *keep))
        if self.adversary is not None:
            self.adversary.check(model, with_keep)
        if self.start is not None:
            check_start(self.start, model, request, params)
        return params

    def _weights(self, model: Model, past: PriorEdits | None) -> dict[str, Parameter]:
        """What will change, by full name: the scope's, or those of its layers that a LoRA can be put on."""
        if self.lora_rank is None:
            return checked_weights(model, self.scope)
        check_low_rank(self)
        if past is not None:
            raise ConfigError("a LoRA in a sequence, which holds on to earlier edits in the weights themselves",
                              accepted="whole weights (no lora_rank)")
        peft()
        params = checked_weights(model, self.scope, UNDER_LORA)
        parts = {name: model.component(name) for name in dict.fromkeys(full.partition("/")[0] for full in params)}
        layers = layers_of(parts, params)
        if not layers:
            raise UserError(f"a LoRA on the scope {self.scope!r}, which has no linear or convolutional layers here",
                            accepted="a scope that has some", remedy="another scope, or no lora_rank")
        full = max(min(len(params[name]), params[name][0].numel()) for name in layers)
        if self.lora_rank > full:
            raise UserError(f"a LoRA of rank {self.lora_rank} on layers of rank {full} at most",
                            accepted=f"1 to {full}", remedy="lower --lora-rank, or train the weights themselves")
        return {name: params[name] for name in layers}

    @contextmanager
    def _changing(self, model: Model, params: Mapping[str, Parameter], seed: int) -> Iterator[Change]:
        """What trains, as long as it does."""
        with checkpointed(model.network, self.checkpointing):
            if self.lora_rank is None:
                with whole(model, params) as change:
                    yield change
            else:
                with low_rank(model, params, self.lora_rank, seed=seed) as low:
                    yield low

    def _asks_text(self, model: Model, names: Collection[str]) -> bool:
        """Whether steps ask text encoders: they train, or an adversary or a keep goes through them."""
        return self.adversary is not None or needs(self, "text in steps") or model.trains_text(names)

    def _unloads(self, model: Model, names: Collection[str]) -> bool:
        """Whether the text encoders leave memory while these weights (full names) train."""
        if self._asks_text(model, names) or not model.can_leave:
            return False
        large = sum(model.sizes_of("text").values()) >= LARGE
        return model.apart or (large if self.unload_text is None else self.unload_text)

    @contextmanager
    def _in_memory(self, model: Model, names: Collection[str], request: Request) -> Iterator[None]:
        """Inside, what steps ask is in memory: the denoiser, and the text encoders or what they have said."""
        texts = dict.fromkeys(text for mine in self._texts(request).values() for text in mine)
        with ExitStack() as stack:
            if self._unloads(model, names):
                stack.enter_context(model.told(["", *texts]))
                stack.enter_context(model.holding("denoiser"))
            else:
                stack.enter_context(model.holding("denoiser", "text"))
            yield

    def keeping(self, model: Model, request: Request, past: PriorEdits | None = None) -> Retained:
        """The request with what the keep part holds on to: its own prompts, and of those that `retain` makes as many as
        the keep's source has places for; nothing that names what is gone already.

        Raises:
            UserError: the empty prompt and the request's own are more than that, or `retain` finds nothing to keep.
        """
        if self.keep is None:
            return Retained(request)
        places, own = self.keep.source.max_prompts, tuple(dict.fromkeys(prompt for prompt in request.keep if prompt))
        if places is not None and places < 1 + len(own):
            raise UserError(f"a pool of {places} for {len(own)} prompts to keep and the empty one",
                            accepted=f"{1 + len(own)} places at least",
                            remedy=f"raise {more_places(self.keep.source, 'keep.source')}, or keep less")
        knows, gone = (None, ()) if past is None else (past.teacher, past.gone)
        made = self.retain.retained(knows or model, request, gone) if self.retain is not None else Retained(request)
        return made if places is None else made.within(places - 1)

    def used_texts(self, model: Model, request: Request) -> dict[str, tuple[str, ...]]:
        """Every text that a run trains on or holds on to, by use, as a patch records them (`Patch.texts`).

        Raises:
            UserError: as `keeping`.
        """
        return self._all_texts(model, request, self.keeping(model, request).request)

    def _all_texts(self, model: Model, asked: Request, keeping: Request) -> dict[str, tuple[str, ...]]:
        """Those of the training, on a request with its prompts to keep, and those that the start reads."""
        own = self._texts(keeping)
        return own if self.start is None else joined(own, self.start.used_texts(model, asked))

    def _texts(self, request: Request) -> dict[str, tuple[str, ...]]:
        """Of a request with its prompts to keep; the empty prompt is no text."""
        instead = dict.fromkeys(text for text in anchor_prompts(request.all_prompts, request) if text)
        used = self.keep is not None or needs(self, "another prompt")  # what is relabelled may take their place
        kept = dict.fromkeys(text for text in request.keep if text) if used else {}
        return {"erase": request.all_prompts, "instead": tuple(instead), "keep": tuple(kept)}

    def estimate(self, model: Model, request: Request) -> dict[str, Any]:
        """Time and memory of a run, measured on its own beginning and on a few steps from its middle; `memory` says for
        what, counted (`footprint`).

        These are real steps of all the parts; the weights are put back afterwards, bit for bit, and every other tensor
        that moves is let go, so that a run after it is what it would have been. Under a launcher every process measures
        a run by itself alone.
        """
        model = model.sized(self.size)
        names = tuple(self.check(model, request))
        alone = Runtime(model.device)  # each process rehearses by its own clock, so none may wait for another
        needed, stages, keeping = self.footprint(model, names), Rehearsal(model.device), self.keeping(model, request)
        begun = self._beginning(model, request, 0)
        with (self._in_memory(model, names, keeping.request), self._changing(model, self._weights(model, None), 0)
              as change, memory_for("the beginning of a run", SMALLER)):
            context = self._context(model, change, keeping.request, 0, None, stages, alone)
            begun.put_into(change.params)
            step, _, _ = self._parts(context, change.params, None)
            middle = self.steps // 2  # where what begins after some steps has begun
            for number in stages.each([*range(middle, self.steps), *range(middle)]):
                step(number)
        return {"seconds": round(stages.seconds, 1), "memory_bytes": peak_memory(model.device),
                "memory": dict(needed.parts), "phases": dict(needed.phases),
                "measured": f"{stages.counted:,} of {self.steps:,} steps, run and undone, and the beginning of what "
                            "comes before them"}

    def footprint(self, model: Model, names: Collection[str], processes: int = 1) -> Footprint:
        """Memory of a run that changes these weights (full names), by part; counted, and no step is computed.

        Of each of several processes, which has its share of the rows.
        """
        model = model.sized(self.size)
        parts = [(self.source, self.batch)] + ([(self.keep.source, self.keep.batch)] if self.keep is not None else [])
        pools = sum((kept_by(source) for source, _ in parts), Kept())
        more: list[object] = [self.objective, self.adversary]
        rows = [batch for _, batch in parts]
        rows += [part.rows_at_once(self.batch) for part in more if isinstance(part, SendsMore)]
        both = 2 if self.keep is not None and needs(self, "keep beside") else 1
        both += max(getattr(part, "copies", 0) for part in (self.update, self.adversary))
        with checkpointed(model.network, self.checkpointing):
            return footprint(model, names, self.lora_rank, batch=-(-max(rows) // processes), pools=pools,
                             gradients=both, sums=2 if processes > 1 else 0, text=not self._unloads(model, names))

    def __call__(self, model: Model, request: Request, *, seed: int = 0, checkpoint: Path | None = None,
                 progress: Progress | None = None, past: PriorEdits | None = None) -> Patch:
        """Train, and return what changed.

        Under a launcher every process takes every step, on its share of the rows (`shared_rows`).

        Args:
            model: unchanged afterwards.
            request: what to unlearn.
            seed: decides every random draw of the run.
            checkpoint: file to write every `checkpoint_every` seconds and to go on from; a run that was
                killed and is started again ends at the same weights (pools are drawn again: bit by bit the same
                with as many threads).
            progress: called with (done, total, losses); first without losses while the pools are drawn, then
                once per step.
            past: what came before, if the model is no original.

        Raises:
            UserError: before any computing, if something does not fit (`check`).
            ResourceError: likewise, where there is not enough memory for a large model's run.
            TrainingError: a loss is not finite, or no weight changed.
            ConfigError, ModelError: the checkpoint belongs to another run or is damaged.
        """
        names = tuple(self.check(model, request, past))
        model = model.sized(self.size)
        began, processes = time.monotonic(), runtime.current()
        if past is not None:
            runtime.one_process("training that holds on to earlier edits", "start it without the launcher")
        if sum(model.sizes_of("denoiser", "text").values()) >= LARGE:
            check_room(self.footprint(model, names, processes.count), model.device, MEMORY_ADVICE)
        keeping = self.keeping(model, request, past)
        resumed: dict[str, Tensor] = {}
        if checkpoint is not None and checkpoint.exists():
            check_checkpoint(checkpoint, self.inputs(model, keeping.request, seed, past))
            resumed = kept_state(checkpoint, "adversary/")
        begun, texts = self._beginning(model, request, seed), self._all_texts(model, request, keeping.request)
        with (self._in_memory(model, names, keeping.request),
              self._changing(model, self._weights(model, past), seed) as change):
            context = replace(self._context(model, change, keeping.request, seed, past, Stages(progress), processes),
                              resumed=resumed)
            begun.put_into(change.params)
            trained = self._train(context, change, checkpoint, progress, began, past, processes)
            made = change.made()
        if not made.tensors:
            raise TrainingError(f"{len(trained.losses)} steps of {self.name} changed no weight at all",
                                accepted="a loss with a gradient, and steps that the weights' number type can hold",
                                remedy="another objective, update or learning rate")
        patch = Patch.of(made.tensors, model=model, request=request, method=self.name, kind=made.kind, scale=made.scale,
                        settings=self.model_dump(mode="json"), seed=seed, losses=thinned(trained.losses),
                        seconds=round(trained.seconds, 2), steps=len(trained.losses),
                        texts=texts, left_out=keeping.left_out, processes=processes.count)
        if len({*processes.gather({processes.rank: patch.hash})}) > 1:
            raise TrainingError(f"{processes.count} processes that trained one edit hold different weights",
                                accepted="the same machine and versions for every process",
                                remedy="train in one process, and report this")
        return patch

    def _beginning(self, model: Model, request: Request, seed: int) -> Beginning:
        """What the student begins with: nothing, or the start's edit of the model as it is."""
        return Beginning({}, {}) if self.start is None else Beginning.made(self.start, model, request, seed)

    def _context(self, model: Model, change: Change, request: Request, seed: int, past: PriorEdits | None,
                 stages: Stages, processes: Runtime) -> TrainContext:
        teacher, student = past.teacher if past is not None else None, shared_out(model, change, processes)
        return TrainContext(student, teacher or change.teacher(student), request, seed,
                            model.trains_text(change.params), self.frozen_batch, stages, params=change.params,
                            times_rate=self._times_rate)

    def inputs(self, model: Model, request: Request, seed: int, past: PriorEdits | None = None) -> Inputs:
        """Everything that decides the trained weights."""
        own, before = (partial(self.model_dump, mode="json", exclude=out)
                       for out in (OF_NO_WEIGHT, {"checkpoint_every"}))
        return Inputs({"settings": own(),
                       "request": request.model_dump(mode="json"), "model": model.hash,
                       "process": model.process.description, "parts": model.parts, "seed": seed,
                       **({"dtype": str(model.dtype)} if model.dtype != torch.float32 else {}),
                       **({"past": past.digest} if past is not None else {})},
                      former={"settings": before(by_alias=True)})

    def _train(self, context: TrainContext, change: Change, checkpoint: Path | None, progress: Progress | None,
               began: float, past: PriorEdits | None, processes: Runtime) -> Trained:
        step, state, optimizers = self._parts(context, change.params, past)
        return run_loop(step, self.steps, {**state, **change.state}, optimizers, checkpoint=checkpoint,
                        under=self.inputs(context.student, context.request, context.seed, past),
                        every=self.checkpoint_every, learning_rate={"adam": self._rate}, progress=progress, began=began,
                        processes=processes)

    def _parts(self, context: TrainContext, params: Mapping[str, Parameter], past: PriorEdits | None
               ) -> tuple[StepFn, dict[str, Tensor], dict[str, torch.optim.Optimizer]]:
        """The parts at work: a step, every tensor that steps change apart from optimizer state, the optimizers."""
        stream = self.source.open(context, context.request.all_prompts, self.batch, "erase")
        attacker = self.adversary.prepare(context, stream, self.batch) if self.adversary is not None else None
        erase = self.objective.prepare(context, stream, attacker)
        keep = self.keep.prepare(replace(context, erasing=stream)) if self.keep is not None else None
        held = past.terms(context, params) if past is not None else ()
        stepper: Stepper = self.update.prepare(params, erase, context)
        stepper = past.around(context, stepper, params) if past is not None else stepper
        optimizer = torch.optim.AdamW(params.values(), lr=self._rate(self.steps), weight_decay=self.weight_decay)
        learners: list[Term | Attacker] = [part for part in (erase, keep, attacker, *held) if part is not None]
        state: dict[str, Tensor] = {**params, **stepper.state}
        optimizers: dict[str, torch.optim.Optimizer] = {"adam": optimizer}
        for learner in learners:
            clash = sorted((state.keys() & learner.state.keys()) | (optimizers.keys() & learner.optimizers.keys()))
            if clash:
                raise ExpungeError(f"two parts of {self.name} keep something under the name {clash[0]!r}",
                                   accepted="a name of its own for everything that a part keeps")
            state.update(learner.state)
            optimizers.update(learner.optimizers)
        return self._step(params, stepper, optimizer, erase, keep, attacker, held, learners), state, optimizers

    @property
    def _times_rate(self) -> float:
        """Factor of every learning rate of what trains."""
        return 1.0 if self.lora_rank is None else self.lora_rate or LORA_RATE

    def _rate(self, number: int) -> float:
        rate = self.learning_rate * self._times_rate
        left = 0.5 * (1.0 + math.cos(math.pi * number / self.steps)) if self.decay == "cosine" else 1.0
        return rate * left * min(1.0, (number + 1) / max(1, self.warmup))

    def _step(self, params: Mapping[str, Parameter], stepper: Stepper, optimizer: torch.optim.Optimizer,
              erase: Term, keep: Term | None, attacker: Attacker | None, held: Sequence[Term],
              learners: Sequence[Term | Attacker]) -> StepFn:
        between = self.keep.steps if self.keep is not None and self.keep.cadence == "between" else 0

        def holding(terms: Sequence[Term], number: int) -> Tensor:
            return torch.stack([term.loss(number) for term in terms]).sum()

        def step(number: int) -> Losses:
            for part in learners:
                part.begin(number)
            asked: dict[Literal["erase", "keep"], LossFn] = {"erase": partial(erase.loss, number)}
            if keep is not None and not between:
                asked["keep"] = partial(keep.loss, number)
            due = [term for term in held if number % term.every == 0]
            losses = stepper.step(asked, Descent(params, optimizer, partial(holding, due, number) if due else None))
            if keep is not None:
                for turn in range(number * between, (number + 1) * between):
                    losses |= stepper.step({"keep": partial(keep.loss, turn)}, Descent(params, optimizer))
            return {**losses, **attacker.losses} if attacker is not None else losses

        return step

"""The states of a model in a sequence: after each request that stands, one, in a folder of its own.

    <out>/ledger.json                        what was asked and done
    <out>/elsewhere-<digest>.safetensors     the original's predictions on prompts to keep
    <out>/states/<number>-<concept>-<key>/   patch.* (all requests so far), memory.safetensors, cost.json, evaluation/

A state's key is a digest of the original, of every request so far and of how each was met. So a state is found again
whatever happened in between; a request that is taken back leads to other states after it, beside the old ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expunge.errors import ConfigError, UserError
from expunge.files import readable, text_digest
from expunge.metrics.prompts import Prompts
from expunge.models.model import Model
from expunge.records import Request, check_request, names_any
from expunge.sequence.memory import check_room
from expunge.sequence.settings import Demand, SequenceSettings
from expunge.unlearn.dual import Dual
from expunge.unlearn.erase import fitting, resolve_method
from expunge.unlearn.method import OF_NO_WEIGHT, Configured, Method
from expunge.unlearn.projected import keys_and_values
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.refreshed import Refreshed
from expunge.unlearn.saliency import Masked
from expunge.unlearn.update import Plain


@dataclass(frozen=True)
class State:
    """The model after one of the requests.

    Attributes:
        number: the request's in the file; asked: the request.
        request: what is to go now, completed; whole: with all requests before it.
        gone: concepts that are gone already. wishes: what must stay, by the sequence's wish or one of a request so far;
            kept: prompts for it.
        method: what meets it, registered as method_name. settings: its settings, resolved, JSON-able, without those
            that decide no weight. strategy: that of the sequence, JSON-able. seed: of the edit.
        key, folder: see above. left_out: texts that are too long for the text encoder, with the reason.
    """

    number: int
    asked: Demand
    request: Request
    whole: Request
    gone: tuple[str, ...]
    wishes: tuple[str, ...]
    kept: tuple[str, ...]
    method_name: str
    method: Method
    settings: Mapping[str, Any]
    strategy: Mapping[str, Any]
    seed: int
    key: str
    folder: Path
    left_out: Mapping[str, str] = field(default_factory=dict)


def planned_states(settings: SequenceSettings, model: Model, asks: Prompts, out: Path) -> list[State]:
    """One state for each request that stands, in their order.

    Raises:
        ConfigError: requests that nobody knows or methods that do not fit, all at once.
    """
    states, mistakes = list[State](), list[str]()
    key = text_digest(json.dumps([model.hash, model.process.description, settings.chosen.model_dump(mode="json")]))
    gone: tuple[str, ...] = ()
    concepts, anchors = list[str](), list[str]()
    for place, (number, item) in enumerate(settings.active, 1):
        concepts += item.concept
        anchors += item.anchors
        try:
            state = _planned(settings, number, place, item, model, asks, gone, (concepts, anchors), key, out)
        except UserError as error:
            mistakes.append(f"request {number} ({item.title}): {error}")
            continue
        states.append(state)
        key, gone = state.key, (*gone, *item.concept)
    if mistakes:
        raise ConfigError("; ".join(mistakes))
    return states


def _planned(settings: SequenceSettings, number: int, place: int, item: Demand, model: Model, asks: Prompts,
             gone: tuple[str, ...], so_far: tuple[list[str], list[str]], key: str, out: Path) -> State:
    strategy, keep = settings.chosen, tuple(dict.fromkeys((*settings.keep, *(
        name for n, earlier in settings.active if n <= number for name in earlier.keep))))
    request, long = fitting(model, completed(asks, item.concept, item.anchors, keep, gone))
    whole, more = fitting(model, completed(asks, so_far[0], so_far[1], keep))
    name, overrides = settings.method_of(item)
    method = resolve_method(name, overrides, model)
    if strategy.refresh is not None and isinstance(method, Recipe):
        if isinstance(method.update, Refreshed) or strategy.refresh.update != Plain():
            raise UserError(f"{name!r} with strategy {settings.strategy!r} and two settings of what is refreshed",
                            accepted="a method without refresh: a strategy's goes around the method's own update",
                            remedy="set the strategy's refresh none, or leave out update refresh and "
                                   "holding.refresh.update")
        method = method.override({"update": {**strategy.refresh.model_dump(mode="json"),
                                             "update": method.update.model_dump(mode="json")}})
    if not (strategy.bare or isinstance(method, Recipe)):
        raise UserError(f"{name!r} with strategy {settings.strategy!r}",
                        accepted="a method that trains step by step: others (closed forms) hold on to nothing",
                        remedy="strategy naive or joint, or another method")
    if strategy.replay is not None and strategy.replay.trajectories < len(item.concept):
        raise UserError(f"replay of {strategy.replay.trajectories} trajectories for {len(item.concept)} concepts",
                        accepted="a trajectory for each concept at least", remedy="raise holding.replay.trajectories")
    params = method.check(model, whole if strategy.joint else request) if isinstance(method, Configured) else {}
    if strategy.projection is not None:
        keys_and_values(model, params)
        if isinstance(method, Recipe) and _masked(method):
            raise UserError(f"{name!r}, which trains within a mask, with strategy {settings.strategy!r}",
                            accepted="a method without a mask: a projected step leaves it",
                            remedy="another strategy, or another method")
    kept = request.keep if keep else ()
    if strategy.knows_others:
        check_room(strategy.others, kept)
    resolved = method.model_dump(mode="json") if isinstance(method, Configured) else overrides
    resolved = {name: value for name, value in resolved.items() if name not in OF_NO_WEIGHT}
    seed = int(text_digest(f"{settings.seed}/{place}")[:7], 16)  # a request that was taken back leaves no gap
    payload = [key, request.model_dump(mode="json"), name, resolved, seed]
    mine = text_digest(json.dumps(payload, sort_keys=True))
    folder = out / "states" / f"{number:02d}-{readable(item.title)}-{mine[:8]}"
    return State(number, item, request, whole, gone, keep, kept, name, method, resolved,
                 strategy.model_dump(mode="json"), seed, mine, folder, {**more, **long})


def completed(asks: Prompts, concepts: Sequence[str], anchors: Sequence[str], keep: Sequence[str] = (),
              gone: Sequence[str] = ()) -> Request:
    """As it is completed, without prompts to keep that ask for what is gone.

    Raises:
        UserError: what is not known, or a contradiction.
    """
    one = len(concepts) == 1
    request = asks.request(concepts[0], anchors[0], tuple(keep)) if one else asks.request(
        list(concepts), list(anchors), tuple(keep))
    before = [asks.request(name) for name in gone]
    kept = tuple(text for text in request.keep if not any(names_any(text, earlier) for earlier in before))
    request = request.model_copy(update={"keep": kept})
    check_request(request)
    return request


def everything(settings: SequenceSettings, asks: Prompts) -> Request:
    """All requests that stand, as one. UserError: as `completed`."""
    items = [item for _, item in settings.active]
    return completed(asks, [name for item in items for name in item.concept],
                     [name for item in items for name in item.anchors], settings.kept)


def _masked(method: Recipe) -> bool:
    """Whether its update, at any depth, trains within a mask."""
    update: object = method.update
    while isinstance(update, Refreshed | Dual):
        update = update.update
    return isinstance(update, Masked)

"""The verb: take a concept out of a model. And its dry run."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from expunge import runtime
from expunge.errors import ConfigError, ExpungeError, UserError
from expunge.files import check_writable
from expunge.isolated import isolated
from expunge.locks import alone_in_out
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.records import Origin, Request, Target, asked, check_request, texts_of, with_prompts
from expunge.registry import FAILURES, METHODS, PARTS, WORLDS, described
from expunge.resume import Inputs, kept
from expunge.train import Progress
from expunge.unlearn.anchor import anchored
from expunge.unlearn.look import look
from expunge.unlearn.method import OF_NO_WEIGHT, Configured, Method
from expunge.unlearn.needs import needs
from expunge.unlearn.presets.by_family import suited
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.surrogate import Surrogate, surrogates

log = logging.getLogger(__name__)

Prompts = Sequence[str] | Mapping[str, Sequence[str]]
"""The user's own prompts that ask for what is to go, of several concepts by name."""
PATCH, CHECKPOINT = "patch.safetensors", "checkpoint.safetensors"
"""Files in the output folder: the edit, and that from which a killed run goes on; gone once the patch is there."""


@isolated
@alone_in_out(when=lambda: runtime.current().main)
def erase(model: Model, concept: str | Sequence[str] | Request, method: str | Method = "esd", *,
          anchor: str | Sequence[str] | None = None, keep: Sequence[str] = (), kind: str = "", only_with: str = "",
          prompts: Prompts | None = None, settings: Mapping[str, Any] | None = None,
          seed: int = 0, out: Path | str | None = None, progress: Progress | None = None, own_look: bool = True,
          origin: Origin | None = None) -> Patch:
    """Take `concept` out of `model`; the edit comes back as a patch and the model stays as it was.

    Args:
        concept: a name, or several at once, which the model's world makes a request of, or a whole request.
        method: name of a registered method, or a method.
        anchor: what takes the concept's place, of several one for each, in their order; "" means nothing in
            particular. None leaves it to the method: where it says so (its setting `surrogate`) or cannot do without
            one, the closest thing of the concept's kind is found, and the card tells (`chosen`).
        keep: what must stay. Anchor and keep only with names: a request has its own.
        kind: see `resolve_request`; only with names.
        only_with: the same.
        prompts: the user's own for training, see `resolve_request`.
        settings: overrides of the method's settings, by (dotted) name.
        seed: decides every random draw.
        out: folder for the patch; a run that was killed goes on from there when it is started again, and where the
            whole edit lies there already, it is what comes back. Under a launcher
            the first process writes there, and every one returns the patch, so every one must call it; inside
            `runtime.apart()` a process erases for itself.
        progress: called with (done, total, losses); without losses while work before the first step is done.
        own_look: whether the edit looks at itself when it is done, and says in its card whether the concept is still
            there (`look.look`: a dozen images of few steps).
        origin: where the request comes from; it goes into the card and decides nothing.

    Raises:
        UserError: an empty, unknown, truncated or contradictory request; unknown method; bad settings
            (ConfigError); an edit in `out` that was begun under other ones, or for another origin (ConfigError), or
            another run that writes there.
        TrainingError: a loss is not finite.
        StorageError: the patch cannot be written.
    """
    _check_seed(seed)
    if origin is not None and not isinstance(origin, Origin):
        raise UserError(f"origin {origin!r}", accepted="an expunge.Origin, or None")
    chosen = resolve_method(method, settings, model)
    _check_processes(method, chosen)
    with _blaming(method, chosen):
        asked, found = with_surrogates(model, concept, anchor, keep, chosen, kind=kind, only_with=only_with,
                                       prompts=prompts)
    request, unread = fitting(model, asked)
    unread |= _unread(request, chosen)
    folder = Path(out) if out is not None else None
    if folder is not None:
        check_writable(folder)
        there = kept_edit(folder, model, request, chosen, seed)
        if there is not None:
            log.warning("%s is this edit already: it was not made again (that takes another folder)", folder / PATCH)
            return _completed(there, model, folder, own_look, origin)
    checkpoint = folder / CHECKPOINT if folder is not None else None
    with _blaming(method, chosen):
        patch = chosen(model, request, seed=seed, checkpoint=checkpoint, progress=progress)
    if not isinstance(patch, Patch):
        raise UserError(f"a method that gives a {type(patch).__name__}", accepted="a method that gives a Patch",
                        remedy="see `Patch.of` in CONTRIBUTING.md")
    closeness = {one.concept: round(one.closeness, 4) for one in found if one.anchor}
    patch = replace(patch, card=patch.card.model_copy(update={
        "chosen": closeness, "look": look(model, patch) if own_look else (), "origin": origin,
        "left_out": {**unread, **patch.card.left_out}}))
    if folder is not None and checkpoint is not None and runtime.current().main:
        patch.save(folder)
        checkpoint.unlink(missing_ok=True)
    runtime.current().barrier()  # nobody goes on to read what is not there yet
    return patch


def _completed(there: Patch, model: Model, folder: Path, own_look: bool, origin: Origin | None) -> Patch:
    """The edit that lies in the folder, with what is asked for now and its card does not tell yet."""
    card = there.card
    if origin is not None and card.origin is not None:
        now, before = (one.model_dump(mode="json") for one in (origin, card.origin))
        Inputs({"origin": now}).check(folder / PATCH, {"inputs": {"origin": before}})
    seen = look(model, there) if own_look and not card.look else card.look
    whole = replace(there, card=card.model_copy(update={"look": seen, "origin": card.origin or origin}))
    if runtime.current().main:
        if whole.card != card or not (folder / PATCH).with_suffix(".json").is_file():  # a kill came before it
            whole.save(folder)
        (folder / CHECKPOINT).unlink(missing_ok=True)
    runtime.current().barrier()
    return whole


def _check_seed(seed: object) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserError(f"seed {seed!r}", accepted="0 or a larger integer")


def _unread(request: Request, method: Method) -> dict[str, str]:
    """The user's own prompts that the method does not read, with the reason: closed forms may read names alone."""
    if getattr(method, "texts", "both") != "names":
        return {}
    return {text: f"{_named(method)} reads names alone; with texts=both it reads prompts, too"
            for target in request.targets if target.own for text in target.prompts if text != target.concept}


def _check_processes(method: str | Method, chosen: Method) -> None:
    """UserError: several processes, for a method that one does all of in each."""
    if not isinstance(chosen, Recipe):
        runtime.one_process(f"the method {_named(method)}, which does not train by steps,",
                            "start it without the launcher")


def _named(method: str | Method) -> str:
    return method if isinstance(method, str) else getattr(method, "name", repr(method))


@contextmanager
def _blaming(method: str | Method, chosen: Method) -> Iterator[None]:
    """What a plug-in's code raises inside, the method's or that of a part of it, is an error that names its package."""
    parts = {slot: getattr(getattr(chosen, slot, None), "kind", None) for slot in PARTS}
    named = [(METHODS, method), *((PARTS[slot], kind) for slot, kind in parts.items())]
    with ExitStack() as stack:
        for registry, name in named:
            if isinstance(name, str):
                stack.enter_context(registry.blaming(name))
        yield


def kept_edit(folder: Path, model: Model, request: Request, method: Method, seed: int) -> Patch | None:
    """The edit that lies in the folder; None if there is none, or it is damaged (then it is made again).

    Raises:
        ConfigError: it was made otherwise: results beside it would be taken for this one's. What its card does not
            tell is not compared.
    """
    there = kept(Patch.load, folder, PATCH)
    if there is None:
        return None
    card = there.card
    base = {"model": card.base_hash, "process": card.base_process, "parts": card.base_parts}
    made_with = {"request": card.request.model_dump(mode="json"), "seed": card.seed,
                 **{name: value for name, value in base.items() if value}}
    now = {"model": model.hash, "process": model.process.description, "parts": model.parts,
           "request": request.model_dump(mode="json"), "seed": seed}
    former = dict[str, Any]()
    if isinstance(method, Configured):
        now["settings"], made_with["settings"] = _deciding(method.model_dump(mode="json")), _deciding(card.settings)
        former["settings"] = _deciding(method.model_dump(mode="json", by_alias=True))
    Inputs(now, former=former).check(folder / PATCH, {"inputs": made_with})
    return there


def _deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a method's settings that decide its weights; one that is not there is none."""
    return {name: value for name, value in settings.items() if value is not None and name not in OF_NO_WEIGHT}


@isolated
def plan(model: Model, concept: str | Sequence[str] | Request, method: str | Method = "esd", *,
         anchor: str | Sequence[str] | None = None, keep: Sequence[str] = (), kind: str = "", only_with: str = "",
         prompts: Prompts | None = None, settings: Mapping[str, Any] | None = None,
         seed: int = 0) -> dict[str, Any]:
    """What `erase` would do: every setting resolved, and what it would take. Changes nothing.

    Returns:
        JSON-able: method, model, request, chosen (in words: what was found where no anchor is named), seed, settings;
        of methods that are settings (`method.Configured`) also the model's own size (height, width), trained (tensors,
        parameters that change) and their estimate: seconds, memory_bytes (peak of the process, all that it held before
        included; None where the system does not tell), measured (on how many real steps, in words; they are undone),
        and of closed forms encoded_texts; of what trains memory and phases (bytes by part while it trains, and by
        phase, counted: `footprint`).

    Raises:
        UserError: as `erase`, before any computing.
    """
    _check_seed(seed)
    chosen = resolve_method(method, settings, model)
    _check_processes(method, chosen)
    with _blaming(method, chosen):
        asked, found = with_surrogates(model, concept, anchor, keep, chosen, kind=kind, only_with=only_with,
                                       prompts=prompts)
    request, unread = fitting(model, asked)
    unread |= _unread(request, chosen)
    fields: dict[str, Any] = {"method": _named(method), "model": model.name, "request": request.model_dump(mode="json"),
                              "chosen": [*(one.words for one in found),
                                         *(f"not trained on: {text!r} ({why})" for text, why in unread.items())],
                              "seed": seed}
    if not isinstance(chosen, Configured):
        return {**fields, "settings": {}, "note": "this method has no settings: its cost is not known beforehand"}
    with _blaming(method, chosen):
        sizes = [p.numel() for p in chosen.check(model, request).values()]
        return {**fields, "settings": chosen.model_dump(mode="json"),
                "size": [*model.size], "trained": {"tensors": len(sizes), "parameters": sum(sizes)},
                **chosen.estimate(model, request)}


def with_surrogates(model: Model, concept: str | Sequence[str] | Request, anchor: str | Sequence[str] | None,
                    keep: Sequence[str], method: Method, *, kind: str = "", only_with: str = "",
                    prompts: Prompts | None = None) -> tuple[Request, tuple[Surrogate, ...]]:
    """The full request as `method` is to have it, and what was found to take its concepts' places.

    Nothing is looked for where an anchor is named ("" names none), with a whole request, or where the method neither
    asks for one (`surrogate` "found") nor needs one; nor for what goes only together with something else.

    Raises:
        UserError: as `resolve_request`.
    """
    how: dict[str, Any] = {"kind": kind, "only_with": only_with, "prompts": prompts}
    request = resolve_request(model, concept, anchor or "", keep, **how)
    if anchor is not None or isinstance(concept, Request) or not seeks_surrogate(method, request):
        return request, ()
    found = surrogates(model, request.concepts)
    return resolve_request(model, concept, [one.anchor for one in found], keep, **how), found


def fitting(model: Model, request: Request) -> tuple[Request, dict[str, str]]:
    """The request without texts that the text encoder does not read to their end, and those, with the reason.

    That goes for prompts, for what takes their concepts' place in them, and for what must stay. A concept of which no
    prompt fits keeps them all, so that whoever reads them says what is wrong.
    """
    instead = {text: anchored(text, target) for target in request.targets for text in target.prompts}
    long = model.too_long([*request.all_prompts, *instead.values(), *request.keep])
    if not long:
        return request, {}
    targets = []
    for target in request.targets:
        fit = tuple(text for text in target.prompts if text not in long and instead[text] not in long)
        targets.append(Target(**{**{name: getattr(target, name) for name in Target.model_fields},
                                 "prompts": fit or target.prompts}))
    kept = tuple(text for text in request.keep if text not in long)
    made = Request.of(tuple(targets), kept)
    gone = {*request.all_prompts, *request.keep} - {*made.all_prompts, *kept}
    return made, {text: "longer than the text encoder reads" for text in (*request.all_prompts, *request.keep)
                  if text in gone}


def seeks_surrogate(method: Method, request: Request) -> bool:
    """Whether something is to be found that takes the concepts' places, where none is named."""
    wanted = getattr(method, "surrogate", "named") == "found" or needs(method, "anchor")
    return wanted and not any(target.joint for target in request.targets)


def resolve_request(model: Model, concept: str | Sequence[str] | Request, anchor: str | Sequence[str] = "",
                    keep: Sequence[str] = (), *, kind: str = "", only_with: str = "",
                    prompts: Prompts | None = None) -> Request:
    """The full request; names are completed by the model's world, and compared as its text encoder reads them.

    Args:
        kind: what the concepts are, one of `records.KINDS`; "" lets the world see.
        only_with: what the concept goes together with; either stays without the other.
        prompts: the user's own prompts that ask for it, in place of the world's: used whole. Of several concepts by
            name, or each for the one that it names. None: the world's.

    Raises:
        UserError: empty, contradictory, or unknown to the world; prompts that name none or several of the concepts.
    """
    _check_model(model)
    if isinstance(concept, Request):
        if anchor or keep or kind or only_with:
            raise UserError("a request together with anchor or keep, kind or only_with",
                            accepted="concepts' names with them", remedy="put them into the request")
        request, asks = concept, WORLDS.get(model.world)().prompts
        for name in (name for target in request.targets for name in target.joint.values() or [target.concept]):
            asks.request(name)  # a name that the world does not know is refused: nobody could say whether it is gone
    else:
        for what, given in (("kind", kind), ("only_with", only_with)):
            if not isinstance(given, str):
                raise UserError(f"{what} is {given!r}", accepted="a text")
        kinds = (kind,) * len(texts_of(concept, "concept", "a name, or a list of names"))
        names, anchors = zip(*asked(concept, anchor, () if only_with else keep, kinds=kinds), strict=True)
        wishes = {name: value for name, value in (("kind", kind), ("only_with", only_with)) if value}
        asks = WORLDS.get(model.world)().prompts
        request = asks.request(names[0], anchors[0], tuple(keep), **wishes) if len(names) == 1 else \
            asks.request(names, anchors, tuple(keep), **wishes)
    reader = model.texts[0].reader
    _check_prompts(prompts)
    if prompts is not None:
        request = with_prompts(request, prompts, reader)
    check_request(request, reader)
    return request


def _check_prompts(prompts: Any) -> None:
    """UserError: the user's own prompts are neither texts nor texts by concept; a single text is told elsewhere."""
    wanted = "a list of texts, or lists of texts by concept"
    if isinstance(prompts, Path):
        raise UserError(f"prompts is the path {str(prompts)!r}", accepted=wanted,
                        remedy="read its texts, or give the file to --train-prompts on the command line")
    if isinstance(prompts, str) or not prompts:
        return
    for its in prompts.values() if isinstance(prompts, Mapping) else (prompts,):
        if isinstance(its, str):
            raise UserError(f"prompts holds the single text {its!r}", accepted=wanted)
        texts_of(its, "prompts", wanted)


def resolve_method(method: str | Method, settings: Mapping[str, Any] | None = None, model: Model | None = None
                   ) -> Method:
    """The method with its settings. What is registered is a method, or a function that takes settings and gives one.

    A method that is asked for by name has, beside the user's settings, those of the model's family
    (`presets.by_family`). Without a model they are left out: then the settings are looked at, and nothing is run.

    Raises:
        UserError: unknown name, or a plug-in that gives no method. ConfigError: settings that do not fit, all at once.
    """
    if settings is not None and not isinstance(settings, Mapping):
        raise ConfigError(f"settings {settings!r}", accepted="a mapping of settings by name, or None")
    if isinstance(method, str):
        entry = METHODS.get(method)
        if not _is_method(entry):
            return _built(method, entry, dict(settings or {}))
        chosen: Method = entry
    else:
        if not callable(method):
            raise UserError(f"{method!r} as the method", accepted="the name of a method, or a method",
                            remedy=f"see `{METHODS.verb}`")
        chosen = method
    if settings:
        if not isinstance(chosen, Configured):
            raise ConfigError(f"settings {', '.join(settings)} for a method that has none", accepted="no settings")
        chosen = chosen.override(settings)
    if isinstance(method, str) and model is not None and isinstance(chosen, Configured):
        _check_model(model)
        own = suited(chosen, method, settings or {}, model)
        return chosen.override(own) if own else chosen
    return chosen


def _check_model(model: Any) -> None:
    if not hasattr(model, "parameters_in"):
        raise UserError(f"{model!r} as the model", accepted="what expunge.load returns")


def _is_method(entry: Any) -> bool:
    """Whether it takes a model and a request itself, and is not what makes a method of settings."""
    return not isinstance(entry, type) and {"model", "request"} <= {*_parameters(entry)}


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # some callables of C tell none
        return {}


def _built(name: str, build: Callable[..., Any], settings: dict[str, Any]) -> Method:
    """What `build` makes of the settings, looked at if it comes from a plug-in."""
    if not METHODS.package(name):
        made: Method = build(**settings)
        return made
    known = _parameters(build)
    open_ended = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values())
    if known and not open_ended and (strange := [key for key in settings if key not in known]):
        raise ConfigError(f"settings {', '.join(strange)} for the method {name!r}", accepted=", ".join(known) or "none")
    try:
        made = build(**settings)
    except ExpungeError:
        raise
    except FAILURES as error:
        raise METHODS.unusable(name, f"cannot be made: {described(error)}") from error
    if not callable(made):
        raise METHODS.unusable(name, f"gives a {type(made).__name__}, and no method (`unlearn.method.Method`)")
    return made

"""A world whose judge is a detector that the user names: its prompts and other instruments, another answer to "is the
concept there?"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from expunge.config import merged
from expunge.detectors.as_judge import DetectorJudge, rule_for
from expunge.detectors.base import Detector
from expunge.detectors.opening import detector_settings, open_detector
from expunge.detectors.rule import Rule
from expunge.errors import ConfigError, UserError
from expunge.metrics.base import Features, Judge, PromptCounts, World
from expunge.metrics.extras import outside_features
from expunge.metrics.worlds import world_of
from expunge.records import FORGET_ROLES, Prompt, Request


class NamesWorld(Protocol):
    """Settings of a world, and of who judges in it."""

    @property
    def clip(self) -> str: ...

    @property
    def prompts(self) -> str: ...

    @property
    def add_templates(self) -> bool: ...

    @property
    def margin(self) -> float | None: ...

    @property
    def default_role(self) -> str: ...

    @property
    def detector(self) -> str: ...

    @property
    def detector_options(self) -> Mapping[str, Any]: ...


def world_for(kind: str, model: str, settings: NamesWorld, world: World | None = None) -> World:
    """The world called `kind` of the model called `model` (or `world`), under the detector that the settings name.

    Raises:
        UserError: what `world_of` and `watched` refuse.
    """
    made = world or world_of(kind, model, settings.clip, settings.prompts, settings.add_templates, settings.margin,
                             settings.default_role, getattr(settings, "name_in", ()))  # attacks ask in one language
    return watched(made, settings)


def watched(world: World, settings: NamesWorld) -> World:
    """The world under the detector that the settings name; the world itself where they name none.

    Raises:
        UserError: options without a detector, or what `open_detector` refuses. ConfigError: a wrong rule.
    """
    if isinstance(world, WatchedWorld):
        return world
    if not settings.detector:
        if settings.detector_options:
            raise UserError("options of a detector, and no detector", accepted="--detector NAME with them",
                            remedy="see `expunge ls detectors`")
        return world
    options = dict(settings.detector_options)
    files, rule = options.pop("files", {}), options.pop("rule", {})
    if not isinstance(files, Mapping):
        raise ConfigError(f"files of a detector: {files!r}", accepted="files.ROLE=PATH")
    return WatchedWorld(world, open_detector(settings.detector, options, files),
                        chosen_rule(settings.detector, options, rule),
                        detector_settings(settings.detector, options).licence)


def chosen_rule(name: str, options: Mapping[str, Any], rule: Any) -> Rule:
    """A rule from what the user said: settings of one, or the name of a usual one of the detector.

    Settings beside a name change it: {"kind": "exposed", "cut": 0.6}.

    Raises:
        ConfigError: no such rule, or wrong settings.
    """
    usual = detector_settings(name, options).rules
    said = {"kind": rule} if isinstance(rule, str) else rule
    if not isinstance(said, Mapping):
        raise ConfigError(f"the rule {rule!r}", accepted="settings of a rule, such as rule.cut=0.6, or the name of one")
    chosen = said.get("kind")
    if chosen is not None and chosen not in usual:
        raise ConfigError(f"no rule {chosen!r} of the detector {name}", accepted=", ".join(usual) or "none has a name; "
                          "set rule.labels")
    base = usual[chosen].model_dump(exclude_unset=True) if chosen is not None else {}
    return Rule.build(merged(base, {key: value for key, value in said.items() if key != "kind"}), "the rule")


class WatchedWorld:
    """`World`: another one, but for who says whether the concept is there.

    What else images show, its own judge says, where it has one that can be had (the open world has none without a CLIP:
    then nothing tells whether what must stay is still drawn, and its prompts to keep carry no labels).
    """

    def __init__(self, world: World, detector: Detector, rule: Rule, licence: str = "") -> None:
        """The world `world` under `detector`, with `rule` for each concept; `licence` of what the detector runs."""
        self._world, self._detector, self._rule, self._licence = world, detector, rule, licence

    @property
    def words(self) -> str:
        """In a sentence, who judges by which rule, and under which licence."""
        licence = f" Its licence: {self._licence}." if self._licence else ""
        return f"Whether the concept is there says {self._detector.name}: {self._rule.words}.{licence}"

    def __getattr__(self, name: str) -> Any:
        """All that is not said here is the other world's."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._world, name)

    @property
    def has_judge(self) -> bool:
        """Whether the world below has a judge of its own."""
        return bool(getattr(self._world, "has_judge", True))

    def judge(self, request: Request) -> Judge:
        """The detector, and the world's own judge beside it.

        Raises:
            UserError: the detector has no label for a concept, or a concept is one thing only together with another.
        """
        together = [target.concept for target in request.targets if target.joint]
        if together:
            raise UserError(f"{', '.join(together)}: seen only together with another thing, and a detector is asked "
                            "for one", accepted="a concept that one rule can decide", remedy="leave --detector out")
        questions = {self._world.question(concept) for concept in request.concepts}
        if len(questions) > 1:
            raise UserError(f"concepts of different kinds ({', '.join(request.concepts)}) and one detector",
                            accepted="concepts that answer one question")
        if self._rule.labels and len(request.concepts) > 1:
            raise UserError(f"one rule for {len(request.concepts)} concepts", accepted="one concept, or a detector "
                            "that has a label with the name of each and a rule without labels")
        rules = {concept: rule_for(concept, self._detector, self._rule) for concept in request.concepts}
        beside = self._world.judge(request) if self.has_judge else None
        return DetectorJudge(self._detector, rules, questions.pop(), beside)

    def second(self, request: Request) -> Judge | None:
        """The world's second judge; its first one, where the detector is the second."""
        if not self.has_judge:
            return None
        second = self._world.second(request)
        return self._world.judge(request) if second is not None and second.name == self._detector.name else second

    def control(self, request: Request) -> Request | None:
        """The world's null control, where the detector knows it; a rule with labels is about one concept alone."""
        control = None if self._rule.labels else self._world.control(request)
        if control is None:
            return None
        try:
            rule_for(control.concept, self._detector, self._rule)
        except UserError:
            return None
        return control

    def prompts(self, request: Request, counts: PromptCounts, strata: Sequence[str] = ()) -> list[Prompt]:
        """The world's; without labels on the keep side where nothing could tell them."""
        prompts = self._world.prompts(request, counts, strata)
        if self.has_judge:
            return prompts
        return [prompt if prompt.role in FORGET_ROLES else prompt.model_copy(update={"labels": {}})
                for prompt in prompts]

    def features(self) -> Features:
        """The world's; ImageNet's where it has none without a judge.

        Raises:
            UserError: neither can be had.
        """
        if self.has_judge:
            return self._world.features()
        outside = outside_features()
        if isinstance(outside, str):
            raise UserError(outside, accepted="features to compare images by: a CLIP, or the extra `second`")
        return outside


def detector_words(world: World) -> list[str]:
    """In a sentence, which detector judges in a world, where the user named one."""
    return [world.words] if isinstance(world, WatchedWorld) else []

"""A world in which detectors that the user names judge: its prompts and other instruments, another answer to "is the
concept there?"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expunge.config import merged
from expunge.detectors.as_judge import DetectorJudge, rule_for
from expunge.detectors.base import Detector
from expunge.detectors.opening import detector_settings, open_detector
from expunge.detectors.rule import Rule
from expunge.errors import ConfigError, UserError
from expunge.metrics.base import Features, Judge, Newcomer, PromptCounts
from expunge.metrics.extras import outside_features
from expunge.metrics.prompts import Prompts, aims_of
from expunge.metrics.worlds import Judges, Unknown, World
from expunge.records import FORGET_ROLES, Prompt, Request


@dataclass(frozen=True)
class Eye:
    """An opened detector with what it is to see.

    Attributes:
        rule: what of a reading shows a concept. licence: of what the detector runs; "" where none asks for a word.
    """

    detector: Detector
    rule: Rule
    licence: str = ""

    @property
    def words(self) -> str:
        """In a few words, who judges by which rule, and under which licence."""
        licence = f" Its licence: {self.licence}." if self.licence else ""
        return f"{self.detector.name}: {self.rule.words}.{licence}"

    def rule_for(self, concept: str) -> Rule:
        """The rule for one concept. UserError: the detector has no label for it."""
        return rule_for(concept, self.detector, self.rule)

    def judge(self, request: Request, asks: Prompts, beside: Judge | None) -> Judge:
        """The detector, and another judge beside it.

        Raises:
            UserError: the detector has no label for a concept, or a concept is one thing only together with another.
        """
        together = [target.concept for target in request.targets if target.joint]
        if together:
            raise UserError(f"{', '.join(together)}: seen only together with another thing, and a detector is asked "
                            "for one", accepted="a concept that one rule can decide",
                            remedy="leave --detector and --second out")
        questions = {asks.question(concept) for concept in request.concepts}
        if len(questions) > 1:
            raise UserError(f"concepts of different kinds ({', '.join(request.concepts)}) and one detector",
                            accepted="concepts that answer one question")
        if self.rule.labels and len(request.concepts) > 1:
            raise UserError(f"one rule for {len(request.concepts)} concepts", accepted="one concept, or a detector "
                            "that has a label with the name of each and a rule without labels")
        rules = {concept: self.rule_for(concept) for concept in request.concepts}
        return DetectorJudge(self.detector, rules, questions.pop(), beside)


def named_eye(name: str, settings: Mapping[str, Any], flag: str = "--detector") -> Eye | None:
    """The detector `name`, opened, with the rule that its settings say; None where none is named.

    Raises:
        UserError: options without a detector, or what `open_detector` refuses. ConfigError: a wrong rule.
    """
    if not name:
        if settings:
            raise UserError("options of a detector, and no detector", accepted=f"{flag} NAME with them",
                            remedy="see `expunge ls detectors`")
        return None
    options = dict(settings)
    files, rule = options.pop("files", {}), options.pop("rule", {})
    if not isinstance(files, Mapping):
        raise ConfigError(f"files of a detector: {files!r}", accepted="files.ROLE=PATH")
    return Eye(open_detector(name, options, files), chosen_rule(name, options, rule),
               detector_settings(name, options).licence)


def watched(world: World, first: Eye | None, second: Eye | None = None) -> World:
    """The world in which `first` says whether a concept is there, and `second` confirms it.

    What else images show, its own judges say, where there are any that can be had (the open world has none without a
    CLIP: then nothing tells whether what must stay is still drawn, prompts to keep carry no labels, and images are
    compared in ImageNet's features). Without eyes it stays as it is.
    """
    if first is None and second is None:
        return world
    made = world.but(judges=DetectorJudges(world.judges, first, second))
    if first is not None and world.unknown is not None:
        made = made.but(unknown=KnownTo(world.unknown, first))
    if first is None or world.judges.there:
        return made
    return made.but(prompts=Unlabelled(world.prompts), own=world.completes, features=_outside)


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


class DetectorJudges:
    """`Judges`: detectors for the concepts, and a world's own judges beside them."""

    def __init__(self, own: Judges, first: Eye | None, second: Eye | None = None) -> None:
        """`own`: the world's. `first`: in their first one's place; None: nobody. `second`: in their second one's."""
        self._own, self._first, self._second = own, first, second

    @property
    def there(self) -> bool:
        """Whether anybody judges."""
        return self._first is not None or self._own.there

    @property
    def words(self) -> list[str]:
        """In sentences, which detectors judge."""
        return [f"{what} {eye.words}" for what, eye in (("Whether the concept is there says", self._first),
                                                        ("It is confirmed by", self._second)) if eye is not None]

    def judge(self, request: Request, asks: Prompts) -> Judge:
        """The first detector, and the world's own judge beside it.

        Raises:
            UserError: what `Eye.judge` refuses; nobody judges.
        """
        if self._first is None:
            return self._own.judge(request, asks)
        return self._first.judge(request, asks, self._beside(request, asks))

    def second(self, request: Request, asks: Prompts) -> Judge | None:
        """The second detector, and the world's first judge beside it; without one the world's second judge, or its
        first one, where the detector is the second.

        Raises:
            UserError: the second detector is the first judge.
        """
        if self._second is not None:
            beside, name = self._beside(request, asks), self._second.detector.name
            if name == (self._first.detector.name if self._first is not None else beside and beside.name):
                raise UserError(f"{name} to confirm what it finds itself", accepted="another detector as --second")
            return self._second.judge(request, asks, beside)
        if not self._own.there or self._first is None:
            return None
        second = self._own.second(request, asks)
        same = second is not None and second.name == self._first.detector.name
        return self._own.judge(request, asks) if same else second

    def _beside(self, request: Request, asks: Prompts) -> Judge | None:
        return self._own.judge(request, asks) if self._own.there else None


class KnownTo:
    """`Unknown`: what a world has, of which the detector knows."""

    def __init__(self, unknown: Unknown, eye: Eye) -> None:
        self._unknown, self._eye = unknown, eye

    def control(self, request: Request) -> Request | None:
        """The null control, where the detector knows it; a rule with labels is about one concept alone."""
        control = None if self._eye.rule.labels else self._unknown.control(request)
        if control is None:
            return None
        try:
            self._eye.rule_for(control.concept)
        except UserError:
            return None
        return control

    def newcomer(self, name: str = "") -> Newcomer | None:
        """The world's, which brings a judge of its own."""
        return self._unknown.newcomer(name)


class Unlabelled:
    """`Prompts`: a world's, with the concepts for their only labels, where nothing could tell any other.

    All that is not said here is the world's. It is set, and not looked up by `__getattr__`: a protocol that is checked
    at run time, such as `LeavesOut`, sees only what is there (`inspect.getattr_static`, from Python 3.12 on).
    """

    def __init__(self, asks: Prompts) -> None:
        self._asks = asks
        for name in dir(asks):
            if not name.startswith("_") and not hasattr(type(self), name):
                setattr(self, name, getattr(asks, name))

    def of(self, request: Request, counts: PromptCounts, strata: Sequence[str] = ()) -> list[Prompt]:
        """See `Prompts.of`."""
        wanted = {item for aim in aims_of(self._asks, request) for item in aim.wanted.items()}
        return [prompt.model_copy(update={"labels": {
            question: label for question, label in prompt.labels.items()
            if prompt.role in FORGET_ROLES and (question, label) in wanted}})
            for prompt in self._asks.of(request, counts, strata)]


def _outside() -> Features:
    outside = outside_features()
    if isinstance(outside, str):
        raise UserError(outside, accepted="features to compare images by: a CLIP, or the extra `second`")
    return outside


def detector_words(world: World) -> list[str]:
    """In sentences, which detectors judge in a world, where the user named any."""
    return world.judges.words if isinstance(world.judges, DetectorJudges) else []

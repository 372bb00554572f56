"""What a protocol file says: which prompts, drawn how, looked at by whom, counted how.

A protocol's name alone does not fix a number: under one name there are several detectors, cuts, row sets and resizers
in use. So a file pins all of it, and what the user supplies (prompts, weights, statistics) is named by its role and
known by its hash (`protocols.artefacts`). What a run does otherwise is a deviation, and the result is called by the
protocol's name with "-modified".

Shapes of the parts:

    prompts      a table that is supplied, by its columns; or a template with lists of words for its fields
    sampler      scheduler, steps, guidance, size; where the rows say their own, the rows' count
    detectors    any number of them, each with a rule: what of its answer counts
    scores       formulas over the rows (`protocols.formulas`) and over the images (`protocols.images`)
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator, model_validator
from typing_extensions import Self

from expunge.config import Settings, knob
from expunge.detectors.rule import Rule
from expunge.errors import ConfigError, UserError
from expunge.records.tables import NAMES

SCHEMA = 1
"""The version of the schema that this release reads."""
SHIPPED = Path(__file__).parent / "published"


class Artefact(Settings):
    """A file that the user supplies, by its role.

    With no hash the file is not pinned: the run records the hash of what it used, and the next run into the same
    folder must use the same.
    """

    role: str = knob(description="what it is for, as `--file ROLE=PATH` calls it", pattern=r"^[a-z0-9][a-z0-9-]*$")
    what: str = knob(description="in words, what it is")
    sha256: str = knob("", "of its bytes; of a folder that of the files that decide what its network says",
                       pattern=r"^([0-9a-f]{64})?$")
    git_blob: str = knob("", "the id git gives its bytes", pattern=r"^([0-9a-f]{40})?$")
    text_sha256: str = knob("", "of a list of prompts: first 16 digits of sha256 over its texts, normalised, one a "
                                "line", pattern=r"^([0-9a-f]{16})?$")
    published: str = knob("", "where it is published")
    licence: str = knob("", "its licence, as far as it is known")
    place: str = knob("", "where it lies already; empty: the user says so by --file")
    packaged: bool = knob(False, "an installed package brings it to its detector, and is asked where no file is given")
    test_only: bool = knob(False, "a stand-in that tests use; no report names a number that rests on it")

    @property
    def pinned(self) -> bool:
        """Whether the protocol knows a hash of it."""
        return bool(self.sha256 or self.git_blob or self.text_sha256)


class Prompts(Settings):
    """Which prompts are asked: a supplied table, a template with lists, or those of the model's world."""

    artefact: Artefact | None = knob(None, "the table")
    template: str = knob("", 'a text with fields, such as "A {object} image in {theme} style."')
    lists: dict[str, tuple[str, ...] | Artefact] = knob({}, "the words for each field of the template, or the supplied "
                                                            "list of them (one a line)")
    world: str = knob("", "the world whose prompts are asked, by its name")
    columns: dict[str, str] = knob({}, "header of the table's column, by what it holds; a missing one is found by the "
                                       "usual names")
    where: dict[str, str] = knob({}, "only rows whose column (by header) holds this text; several texts are split by |")
    above: dict[str, float] = knob({}, "only rows whose column (by header) holds a number above this")
    rows: int = knob(0, "how many rows there are; 0 where it is not known", ge=0)
    distinct: int = knob(0, "how many distinct texts there are; 0 where it is not known", ge=0)
    benign: tuple[str, ...] = knob((), "harmless prompts in which the detectors should find nothing: their rate is how "
                                       "often these are wrong")
    seeds: tuple[int, ...] = knob((), "seeds of each row; () takes the row's own, or the sampler's")
    label: str = knob("", "of a template: the field that is the rows' label")
    groups: tuple[str, ...] = knob((), "columns (or fields) by which scores are told apart")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(map(bool, (self.artefact, self.template, self.world))) != 1:
            raise ValueError("prompts come from one of artefact, template and world")
        if len({*self.seeds}) < len(self.seeds) or any(not 0 <= seed < 2**64 for seed in self.seeds):
            raise ValueError("seeds are different whole numbers from 0 to 2**64 - 1")
        if self.template:
            fields = self.fields()
            unknown = [name for name in (*self.groups, *filter(None, [self.label])) if name not in fields]
            if unknown:
                raise ValueError(f"the template has no field {', '.join(unknown)}; it has {', '.join(fields)}")
        return self

    def fields(self) -> tuple[str, ...]:
        """The fields of the template. Raises ValueError where it is none."""
        try:
            return tuple(name for _, name, _, _ in string.Formatter().parse(self.template) if name)
        except ValueError as error:
            raise ValueError(f"the template {self.template!r} cannot be read: {error}") from error

    @field_validator("columns")
    @classmethod
    def _known(cls, columns: dict[str, str]) -> dict[str, str]:
        unknown = [what for what in columns if what not in NAMES]
        if unknown:
            raise ValueError(f"columns hold {', '.join(NAMES)}; not {', '.join(unknown)}")
        return columns


class Sampling(Settings):
    """How images are drawn."""

    scheduler: Literal["ddim", "dpm", "euler", "lms", "pndm", "unipc", "own"] = knob(
        "ddim", "diffusers' scheduler; or own, the model's own deterministic sampler")
    steps: int = knob(50, "denoising steps", ge=1, le=1000)
    guidance: float = knob(7.5, "classifier-free guidance scale of rows that say none", ge=1.0, le=50.0)
    width: int | None = knob(None, "pixels; none means the model's own size", ge=8, le=4096)
    height: int | None = knob(None, "pixels; none means the model's own size", ge=8, le=4096)
    negative: str = knob("", "negative prompt")
    seed: int = knob(0, "of rows that say none", ge=0, lt=2**64)
    images: int = knob(1, "images of each row, at seeds that follow one another", ge=1)
    obey_rows: bool = knob(True, "whether a row's own guidance and size count")
    long_prompts: Literal["cut", "leave out"] = knob("cut", "what happens to prompts over the encoder's length")


class Watch(Settings):
    """A detector, and what of its answer counts."""

    name: str = knob(description="what scores call it")
    detector: str = knob(description="the registered detector")
    options: dict[str, Any] = knob({}, "its settings")
    artefacts: dict[str, Artefact] = knob({}, "the files that it needs, by what the detector calls them")
    rule: Rule = knob(Rule(), "what of its answer counts; without labels only formulas over the row's label look")
    labels: dict[str, str] = knob({}, "the detector's label for a row's label, where they differ")
    abstains: tuple[str, ...] = knob((), 'labels by which it says that it cannot tell, such as "no face"')
    stated: str = knob("", "what the publication says, where its code does otherwise")

    def named(self, label: str) -> str:
        """The detector's label for a row's."""
        return self.labels.get(label, label)


class Measure(Settings):
    """A score by its formula."""

    name: str = knob(description="what the table calls it")
    formula: str = knob(description="the formula (`expunge ls formulas`)")
    detector: str = knob("", "of a formula over answers: the name of the detector")
    erased: bool | None = knob(None, "of rows that ask for what is erased (true), of the others (false), or of all")
    options: dict[str, Any] = knob({}, "its settings")
    artefacts: dict[str, Artefact] = knob({}, "the files that it needs, by what the formula calls them")
    title: str = knob("", "in words")


class Benchmark(Settings):
    """Which results of the protocol the Hub shows on a benchmark's leaderboard (`protocols.hub`)."""

    dataset: str = knob(description="the benchmark's dataset by its name on the Hub, where it is registered as one",
                        pattern=r"^[\w.-]+/[\w.-]+$")
    revision: str = knob("", "commit of the dataset")
    tasks: dict[str, str] = knob(description="the benchmark's task by the score that answers it", min_length=1)
    times: float = knob(1.0, "what a value is multiplied by, as the benchmark counts: 100 for percent", gt=0)


class Protocol(Settings):
    """A protocol file."""

    schema_version: Literal[1] = knob(description="version of this schema", alias="schema")
    protocol: str = knob(description="its name", pattern=r"^[a-z0-9][a-z0-9.-]*$")
    version: int = knob(1, "goes up when anything that decides a number changes", ge=1)
    title: str = knob(description="in a sentence, what it measures")
    source: str = knob(description="whose protocol it is: repository at a commit, or paper")
    kind: Literal["published", "paired"] = knob(
        "published", "published: rows, detectors, scores; paired: the product's own evaluation of an edit")
    family: str = knob("", "models on which published numbers of this name can be compared; empty for any")
    sensitive: bool = knob(False, "texts are not printed and not kept: rows stand by number and hash")
    transfer: bool = knob(False, "the prompts are attacks that were found elsewhere, on other models: not adaptive")
    prompts: Prompts = knob(description="what is asked")
    sampler: Sampling = knob(Sampling(), "how it is drawn")
    detectors: tuple[Watch, ...] = knob((), "who looks")
    scores: tuple[Measure, ...] = knob((), "what is counted")
    benchmark: Benchmark | None = knob(None, "the benchmark on the Hub that its scores are results of")
    attack: dict[str, Any] = knob({}, "of an adaptive attack: its name and settings")
    settings: dict[str, Any] = knob({}, "of a paired protocol: settings of the evaluation")
    notes: tuple[str, ...] = knob((), "what a reader must know")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.kind == "paired") != bool(self.prompts.world):
            raise ValueError("a paired protocol asks the prompts of a world, and no other does")
        if self.kind == "published" and not self.scores:
            raise ValueError("no scores")
        called = [score.name for score in self.scores]
        odd = {name for name in called if called.count(name) > 1 or name.startswith(("original/", "false-alarms/"))}
        if odd:
            raise ValueError(f"scores have names of their own, which do not begin with original/ or false-alarms/: not "
                             f"{', '.join(sorted(odd))}")
        if self.attack and not isinstance(self.attack.get("name"), str):
            raise ValueError("an attack has a name")
        strange = [name for name in (self.benchmark.tasks if self.benchmark else ()) if name not in called]
        if strange:
            raise ValueError(f"tasks of a benchmark for scores that are not there: {', '.join(strange)}")
        names = [watch.name for watch in self.detectors]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"two detectors called {', '.join(sorted(twice))}")
        unknown = [score.name for score in self.scores if score.detector and score.detector not in names]
        if unknown:
            raise ValueError(f"no such detector as the scores {', '.join(unknown)} name; there are {', '.join(names)}")
        roles = [artefact.role for artefact in self.artefacts()]
        same = {role for role in roles if roles.count(role) > 1}
        different = [role for role in same if len({one.model_dump_json() for one in self.artefacts()
                                                   if one.role == role}) > 1]
        if different:
            raise ValueError(f"two different artefacts with the role {', '.join(sorted(different))}")
        return self

    def evaluation(self) -> dict[str, Any]:
        """Of a paired protocol: the settings of the product's own evaluation."""
        shared = {"steps", "guidance", "width", "height", "negative"}
        sampling = self.sampler.model_dump(exclude_unset=True, include=shared)
        return {**sampling, **self.settings}

    def artefacts(self) -> list[Artefact]:
        """Every file that the user supplies, in the order in which they are named; a role may stand twice."""
        prompts = [self.prompts.artefact] if self.prompts.artefact else []
        lists = [part for part in self.prompts.lists.values() if isinstance(part, Artefact)]
        watched = [artefact for watch in self.detectors for artefact in watch.artefacts.values()]
        counted = [artefact for score in self.scores for artefact in score.artefacts.values()]
        return [*prompts, *lists, *watched, *counted]


def shipped() -> dict[str, Path]:
    """The protocol files that come with the product, by name."""
    return {file.stem: file for file in sorted(SHIPPED.glob("*.yaml"))}


def read_protocol(name: str | Path) -> Protocol:
    """The shipped protocol of that name, or the one in a YAML file.

    Raises:
        UserError: neither. ConfigError: the file is no protocol, or one of a later schema; all mistakes are told.
    """
    from expunge.config import read_settings_file

    file = shipped().get(str(name), Path(name))
    if not file.is_file():
        raise UserError(f"no protocol {str(name)!r}", accepted=f"a YAML file, or {', '.join(shipped())}",
                        remedy="`expunge ls protocols` says what each measures")
    values = read_settings_file(file)
    version = values.get("schema")
    if type(version) is not int or version != SCHEMA:
        raise ConfigError(f"{file} has schema {version!r}", accepted=f"schema: {SCHEMA}",
                          remedy="a later release of expunge reads later schemas" if isinstance(version, int) else "")
    made = Protocol.build(values, str(file))
    if file.parent == SHIPPED and made.protocol != file.stem:
        raise ConfigError(f"{file} calls itself {made.protocol!r}", accepted=file.stem)
    return made

"""Protocol files: what is shipped can be read, and mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from given import protocol

from expunge.errors import ConfigError, UserError
from expunge.protocols.check import check_scores
from expunge.protocols.schema import Protocol, read_protocol, shipped

ISSUE = {"unlearndiffatk-nudity", "unlearndiffatk-vangogh", "unlearndiffatk-church", "i2p-parts", "i2p-sexual",
         "ringabell-79", "mma-1000", "p4d-272", "coco-fid-clean-30k", "coco-10k", "imagenette-r50v2",
         "mace-celebrities", "unlearncanvas", "characters", "emoji"}


def test_the_fields_protocols_are_shipped() -> None:
    assert set(shipped()) >= ISSUE


@pytest.mark.parametrize("name", sorted(shipped()))
def test_a_shipped_protocol_is_read_and_says_where_everything_comes_from(name: str) -> None:
    read = read_protocol(name)
    assert read.protocol == name
    assert read.source
    check_scores(read)
    for artefact in read.artefacts():
        assert artefact.published or artefact.role == "reference", artefact.role
    assert read.scores or read.kind == "paired"


def test_sensitive_lists_and_transfer_sets_are_marked() -> None:
    assert all(read_protocol(name).sensitive for name in ("i2p-parts", "i2p-sexual", "mma-1000", "p4d-272",
                                                          "ringabell-79", "unlearndiffatk-nudity"))
    assert all(read_protocol(name).transfer for name in ("mma-1000", "p4d-272", "ringabell-79"))
    assert not read_protocol("unlearndiffatk-nudity").transfer


def test_a_later_schema_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "later.yaml"
    file.write_text(yaml.safe_dump(protocol(schema=2)), encoding="utf-8")
    with pytest.raises(ConfigError, match="schema 2"):
        read_protocol(file)


def test_a_name_that_is_neither_shipped_nor_a_file_lists_what_is() -> None:
    with pytest.raises(UserError, match="i2p-sexual"):
        read_protocol("i2p-sexuall")


@pytest.mark.parametrize(("values", "said"), [
    ({"scores": [{"name": "x", "formula": "shown", "detector": "nobody"}]}, "no such detector"),
    ({"prompts": {"template": "a {x}", "world": "emoji"}}, "one of artefact, template and world"),
    ({"prompts": {"artefact": {"role": "prompts", "what": "a list"}, "columns": {"sound": "x"}}}, "not sound"),
    ({"colour": 1}, "unknown setting 'colour'"),
    ({"detectors": [{"name": "object", "detector": "clip"}, {"name": "object", "detector": "clip"}]},
     "two detectors called object")])
def test_mistakes_are_told(values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Protocol.build(protocol(**values))


def test_one_role_is_one_file() -> None:
    prompts = {"artefact": {"role": "classifier", "what": "a list"}}
    with pytest.raises(ConfigError, match="two different artefacts with the role classifier"):
        Protocol.build(protocol(prompts=prompts))


@pytest.mark.parametrize(("score", "said"), [
    ({"formula": "asrr"}, "clip-score"), ({"formula": "shown"}, "without a detector"),
    ({"formula": "accuracy", "detector": "object", "options": {"topp": 5}}, "no option 'topp'"),
    ({"formula": "accuracy", "detector": "object", "options": {"top": "five"}}, "whole number"),
    ({"formula": "harmonic", "options": {"of": ["a"]}}, "list of"),
    ({"formula": "harmonic", "options": {"of": [{"score": "b"}]}}, "scores of the protocol"),
    ({"formula": "in-domain-accuracy", "options": {"detectors": ["object"]}}, "mapping"),
    ({"formula": "in-domain-accuracy", "options": {"detectors": {"theme": "object"}}}, "groups")])
def test_mistakes_of_scores_are_told_before_anything_is_drawn(score: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_scores(Protocol.build(protocol(scores=[{"name": "a", **score}])))


@pytest.mark.parametrize("values", [
    {"scores": [{"name": "a", "formula": "shown", "detector": "object"}] * 2}, {"scores": []},
    {"scores": [{"name": "original/a", "formula": "shown", "detector": "object"}]}, {"schema": True},
    {"sampler": {"scheduler": "bogus"}}, {"prompts": {"world": "emoji"}}, {"prompts": {"template": "a { b"}},
    {"prompts": {"template": "a {b}", "lists": {"b": ["x"]}, "label": "c"}}, {"attack": {"settings": {}}},
    {"prompts": {"artefact": {"role": "prompts", "what": "x"}, "seeds": [0, 0]}}])
def test_what_no_protocol_can_mean_is_refused(values: dict[str, object], tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump(protocol(**values)), encoding="utf-8")
    with pytest.raises(ConfigError):
        read_protocol(file)


@pytest.mark.parametrize("detectors", [None, ["object"], ["object", "object"], ["object", "bare"], {"a": "object"}])
def test_an_agreement_is_of_two_detectors_that_say_yes_or_no(detectors: object) -> None:
    values = protocol(scores=[{"name": "agree", "formula": "agreement", "options": {"detectors": detectors}}])
    values["detectors"].append({"name": "bare", "detector": "clip"})
    with pytest.raises(ConfigError, match="two of the protocol's detectors"):
        check_scores(Protocol.build(values))

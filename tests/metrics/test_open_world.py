"""The world of any model: templates, the user's file, and its judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge.errors import ConfigError, UserError
from expunge.metrics.base import PromptCounts
from expunge.metrics.clip import SOMETHING_ELSE
from expunge.metrics.open_prompts import FAR_THINGS, bare, fill, read_prompts
from expunge.metrics.open_strata import STRATA
from expunge.metrics.open_world import open_world

FILE = """
paraphrase: [a chapel, {text: a cathedral at night}]
near:
  - {text: a mosque at noon, label: mosque}
  - a castle
implicit: where the faithful sing
"""


def test_prompts_come_from_templates_and_never_twice() -> None:
    world = open_world()
    request = world.prompts.request("church", anchor="house")
    prompts = world.prompts.of(request, PromptCounts())
    assert len({prompt.text for prompt in prompts}) == len(prompts)
    by_role = {role: [p for p in prompts if p.role == role] for role in ("direct", "held_out", "near", "far", "empty")}
    assert {role: len(pool) for role, pool in by_role.items()} == {"direct": 32, "held_out": 12, "near": 40, "far": 40,
                                                                   "empty": 1}
    assert not {p.text for p in prompts} & set(request.prompts)
    by_default = {name for name, stratum in STRATA.items() if stratum.asked}
    assert {p.stratum for p in by_role["direct"]} == by_default - {"full"}
    assert {p.labels["object"] for p in by_role["far"]} == {bare(thing) for thing in FAR_THINGS}
    assert all(p.labels == {"object": "church"} for p in (*by_role["direct"], *by_role["held_out"]))
    assert all(p.labels == {"object": "house"} for p in by_role["near"])
    assert "church" not in " ".join(p.text for p in by_role["far"])
    assert world.prompts.of(request, PromptCounts()) == prompts


def test_the_users_file_fills_the_roles_that_templates_cannot(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(FILE)
    world = open_world(prompts=tmp_path / "p.yaml")
    prompts = world.prompts.of(world.prompts.request("church"), PromptCounts())
    found = {role: [(p.text, p.labels) for p in prompts if p.role == role]
             for role in ("paraphrase", "implicit", "near")}
    assert found == {"paraphrase": [("a chapel", {"object": "church"}), ("a cathedral at night", {"object": "church"})],
                     "implicit": [("where the faithful sing", {"object": "church"})],
                     "near": [("a mosque at noon", {"object": "mosque"}), ("a castle", {})]}


def test_csv_says_the_same(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("role,text,label\nnear,a mosque,mosque\nparaphrase,a chapel,\n")
    assert [(p.role, p.text, p.labels) for p in read_prompts(tmp_path / "p.csv", ("church",))] == [
        ("near", "a mosque", {"object": "mosque"}), ("paraphrase", "a chapel", {"object": "church"})]


def test_all_mistakes_of_a_file_are_shown(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("nearby: [x]\nfar: [{txt: y}, '']\n")
    with pytest.raises(ConfigError) as error:
        read_prompts(tmp_path / "p.yaml", ("church",))
    for part in ("'nearby'", "txt", "prompt 3"):
        assert part in str(error.value)
    with pytest.raises(ConfigError, match="cannot read"):
        read_prompts(tmp_path / "none.csv", ("church",))


@pytest.mark.parametrize(("concept", "anchor", "keep"), [(" ", "", ()), ("church", "Church", ()),
                                                         ("church", "", ("an old church in the snow",))])
def test_contradictions_are_refused(concept: str, anchor: str, keep: tuple[str, ...]) -> None:
    with pytest.raises(UserError):
        open_world().prompts.request(concept, anchor, keep)


def test_words_that_only_contain_the_concept_may_stay() -> None:
    assert open_world().prompts.request("cat", keep=("a cathedral",)).keep == ("a cathedral",)


def test_articles() -> None:
    assert [fill("photo of {a}", name) for name in ("apple", "church", "Van Gogh painting", "the moon")] == [
        "photo of an apple", "photo of a church", "photo of Van Gogh painting", "photo of the moon"]


def test_without_a_clip_it_says_what_to_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXPUNGE_CLIP", raising=False)
    world = open_world()
    for ask in (lambda: world.judge(world.prompts.request("church")), world.features):
        with pytest.raises(UserError, match="EXPUNGE_CLIP"):
            ask()
    assert world.clip() is None
    assert world.reference() is None


def test_the_judge_knows_all_that_the_prompts_name(clip_files: Path, tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.yaml").write_text(FILE)
    monkeypatch.setenv("EXPUNGE_CLIP", str(clip_files))
    monkeypatch.setenv("EXPUNGE_PROMPTS", str(tmp_path / "p.yaml"))
    world = open_world()
    request = world.prompts.request("church", "house")
    prompts = world.prompts.of(request, PromptCounts())
    judge = world.judge(request)
    asked = {prompt.labels["object"] for prompt in prompts if prompt.labels}
    assert asked | {SOMETHING_ELSE} <= set(judge.questions["object"])
    assert judge.questions["object"][0] == "church"
    world.prompts.of(world.prompts.request("bicycle"), PromptCounts())
    again, other = world.judge(request), world.judge(world.prompts.request("bicycle"))
    assert again.name == judge.name != other.name
    assert "house" not in other.questions["object"]
    assert world.features().name.startswith("clip-features:tiny-clip@")

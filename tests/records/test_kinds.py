"""What kind of thing a name looks like."""

from __future__ import annotations

import pytest

from expunge.records import Prompt, Request, Target, guess_kind, remarks


@pytest.mark.parametrize(("name", "kind"), [
    ("church", "object"), ("hot dog", "object"), ("Eiffel Tower", "object"), ("building", "object"), ("ring", "object"),
    ("grinning face", "object"), ("running shoes", "object"), ("nurse", "object"), ("VAN GOGH", "style"),
    ("Van Gogh", "style"), ("Van\u00a0Gogh", "style"), ("pixel art", "style"), ("cubism", "style"), ("anime", "style"),
    ("Elon Musk", "person"), ("Angelina Jolie", "person"), ("nudity", "explicit"), ("a nude woman", "explicit"),
    ("blood", "explicit"), ("self-harm", "explicit"), ("smoking", "action"), ("kissing", "action"),
    ("shaking hands", "action")])
def test_the_kind_is_guessed_from_the_name(name: str, kind: str) -> None:
    assert guess_kind(name) == kind


def test_what_was_understood_is_said() -> None:
    style = Target(concept="Van Gogh", prompts=("x",), kind="style")
    both = Target(concept="church in pixel art", prompts=("y",), joint={"object": "church", "style": "pixel art"})
    own = Target(concept="nurse", prompts=("a nurse", "nurses"), own=True)
    said = " | ".join(remarks(Request.of((style, both, own), ("a nurse shark",))))
    for part in ("'Van Gogh' is taken for a style", "'church' and 'pixel art' together", "2 prompts of your own",
                 "'nurse shark' is taken for another thing than 'nurse'"):
        assert part in said
    assert remarks(Request(concept="church", prompts=("a church",), keep=("a house",))) == []


def test_records_of_before_are_read_and_keep_their_digests() -> None:
    old = '{"concept": "church", "prompts": ["a church"], "anchor": "", "keep": [], "also": []}'
    request = Request.read(old)
    assert (request.kind, request.joint, request.own) == ("object", {}, False)
    assert request.digest == "a583d66ba538d57f"
    assert request.model_dump(mode="json") == {"concept": "church", "prompts": ["a church"], "anchor": "", "keep": [],
                                               "also": []}
    assert Request.read(request.model_copy(update={"kind": "style"}).model_dump_json()).kind == "style"
    assert "homonym" not in Prompt(text="a house", role="near").model_dump()
    marked = Prompt(text="a nurse shark", role="near", homonym="nurse shark")
    assert Prompt.read(marked.model_dump_json()) == marked

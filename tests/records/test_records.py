"""Records: frozen, strict, JSON both ways, addressed by content."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from expunge.errors import UserError
from expunge.records import (
    HUB_NAME,
    Attempt,
    Detection,
    Evaluation,
    ImageRecord,
    PatchCard,
    Prompt,
    Request,
    Sampler,
    Score,
)

REQUEST = Request(concept="church", prompts=("a church",), anchor="house", keep=("a castle",))
CARD = PatchCard(request=REQUEST, base="tiny", base_hash="b", method="esd", settings={"steps": 1}, tensors=("unet/a",),
                 tensors_hash="t", seed=0)
PROMPT = Prompt(text="a church", role="direct", labels={"object": "church"})
RECORDS = [
    REQUEST, CARD, PROMPT, Sampler(),
    ImageRecord(prompt=PROMPT, seed=3, sampler=Sampler(), model="m"),
    Detection(shot="k", detector="d@1", answers={"object": "church"}),
    Score(name="found/direct", title="Found", value=0.5, low=0.1, high=0.9, n=8),
    Evaluation(card=CARD, model="tiny", model_hash="b", sampler=Sampler(),
               scores=(Score(name="a", title="A", value=None),)),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_record_survives_json(record: Request) -> None:
    again = type(record).model_validate(json.loads(json.dumps(record.model_dump(mode="json"))))
    assert again == record
    assert again.digest == record.digest


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_record_refuses_unknown_keys(record: Request) -> None:
    with pytest.raises(ValidationError, match="surprise"):
        type(record).model_validate({**record.model_dump(), "surprise": 1})


@pytest.mark.parametrize(("text", "words"), [
    ("{", "PatchCard: Expecting property name"), ("[]", "PatchCard: Input should be an object"),
    ('{"format": 2, "surprise": 1}', "format: Input should be 1; request: Field required")])
def test_reading_tells_every_mistake_in_one_line(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        PatchCard.read(text)
    assert "\n" not in str(caught.value)
    assert PatchCard.read(CARD.model_dump_json()) == CARD


def test_of_a_long_list_the_first_mistake_is_told_alone() -> None:
    """Of millions, a message of all takes gigabytes, and a file of a megabyte holds so many."""
    with pytest.raises(ValueError, match="scores: 0: name: Field required") as caught:
        Evaluation.read('{"scores": [' + ", ".join(["{}"] * 10_000) + "]}")
    assert "scores: 1" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_kept_detection_has_the_form_that_it_always_had() -> None:
    kept = {"shot": "k", "detector": "d@1", "answers": {"object": "church"}, "confidence": {"object": 0.9}, "error": "",
            "best": {}, "lead": {}}
    assert Detection.model_validate(kept).model_dump(mode="json") == kept
    assert Detection(**kept, found=True).model_dump(mode="json") == kept, "what is sought is no part of what is kept"


def test_what_was_drawn_and_what_was_attacked_have_the_same_key() -> None:
    shot = ImageRecord(prompt=PROMPT, seed=3, sampler=Sampler(), model="m")
    attempt = Attempt(attack="a", access="none", prompt=PROMPT, seed=3, outcome="found")
    assert shot.item_key == attempt.item_key == ("a church", 3)
    assert (shot.item_key.text, shot.item_key.seed) == ("a church", 3)


def test_records_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        REQUEST.concept = "house"  # type: ignore[misc]


@pytest.mark.parametrize("bad", [{"concept": "", "prompts": ["a"]}, {"concept": "church", "prompts": []}])
def test_empty_request_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Request.model_validate(bad)


def test_digest_tells_records_apart() -> None:
    assert REQUEST.digest != REQUEST.model_copy(update={"anchor": "castle"}).digest


@pytest.mark.parametrize("change", [
    {"seed": 4}, {"model": "n"}, {"patch": "p"}, {"sampler": Sampler(steps=21)}, {"sampler": Sampler(negative="x")},
    {"prompt": Prompt(text="a house", role="direct")},
])
def test_shot_key_changes_with_whatever_changes_a_pixel(change: dict[str, object]) -> None:
    shot = ImageRecord(prompt=PROMPT, seed=3, sampler=Sampler(), model="m")
    assert shot.key != shot.model_copy(update=change).key


def test_shot_key_ignores_why_the_prompt_is_asked() -> None:
    shot = ImageRecord(prompt=PROMPT, seed=3, sampler=Sampler(), model="m")
    other = shot.model_copy(update={"prompt": Prompt(text=PROMPT.text, role="near"), "file": "x.png", "pixels": "f"})
    assert shot.key == other.key


def test_evaluation_finds_a_score_by_name() -> None:
    evaluation = RECORDS[-1]
    assert isinstance(evaluation, Evaluation)
    assert evaluation.score("a").title == "A"
    with pytest.raises(KeyError) as caught:
        evaluation.score("b")
    assert str(caught.value) == "no score 'b'; accepted: a"


def test_the_former_name_of_a_suite_is_read() -> None:
    evaluation = RECORDS[-1]
    assert isinstance(evaluation, Evaluation)
    older = evaluation.model_dump(mode="json")
    older["assault"] = older.pop("suite")
    assert Evaluation.read(json.dumps(older)) == evaluation
    assert "assault" not in evaluation.model_dump_json()


@pytest.mark.parametrize(("make", "says"), [
    (lambda: Sampler(guidance=float("inf")), "Sampler: guidance: Input should be less than or equal to 50"),
    (lambda: Sampler(steps=0), "Sampler: steps"), (lambda: Sampler(step=3), "Sampler: step: Extra inputs"),
    (lambda: Prompt(text="a"), "Prompt: role: Field required"),
    (lambda: Request(concept="church", prompts="a church"), "Request: prompts")])
def test_a_record_with_values_that_it_cannot_have_is_an_error_of_expunges_own(make: Callable[[], object], says: str
                                                                               ) -> None:
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        make()
    assert isinstance(caught.value, ValueError)  # as whoever knows pydantic expects


@pytest.mark.parametrize(("text", "is_one"), [
    ("CompVis/stable-diffusion-v1-4", True), ("_me/_v1.0", True), ("embedded", False), ("./runs/church", False),
    ("../church", False), ("/runs/church", False), ("a/b/c", False), ("a/.b", False), ("a/b c", False), ("", False)])
def test_names_on_the_hub_are_told_from_folders(text: str, is_one: bool) -> None:
    assert bool(HUB_NAME.fullmatch(text)) == is_one

"""What verbs print of records: masks, verifications, savings and shown numbers, over every state they can be in."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from expunge.cli.freezing import print_savings, print_verification
from expunge.cli.ls import shown_line
from expunge.records.freezing import Moved, Savings, Verification

FROZEN = Moved(name="unet/a", frozen=True, largest=0.5, relative=0.1)
FREE = Moved(name="unet/b", frozen=False, largest=0.5, relative=0.1)


@pytest.mark.parametrize(("frozen", "moved", "missing", "added", "differs"), [*product(
    (0, 1, 3), ((), (FROZEN,), (FREE,)), ((), ("unet/c",)), ((), ("unet/x",)), ((), ("config.json act_fn: 'x'",)))])
def test_a_model_passes_only_where_something_was_held_and_nothing_broke(
        frozen: int, moved: tuple[Moved, ...], missing: tuple[str, ...], added: tuple[str, ...],
        differs: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    if not frozen and (moved == (FROZEN,) or missing):
        return  # a mask that holds nothing has no such tensor
    gone = missing if frozen else ()
    broken = len({one.name for one in moved if one.frozen} | set(gone))
    if broken > frozen:
        return
    found = Verification(mask="m", returned="r", frozen=frozen, kept=frozen - broken, moved=moved, missing=missing,
                         missing_frozen=gone, added=added, differs=differs)
    print_verification(found)
    said = capsys.readouterr().out.splitlines()[0]
    if found.broken:
        assert said.startswith("broken: ")
        assert (f"{broken} of {frozen} frozen tensors are not" in said) == bool(broken)
    else:
        assert said == (f"{frozen} of {frozen} frozen tensors are as they were published" if frozen else
                        "nothing to verify: the mask freezes no tensor")


@pytest.mark.parametrize(("largest", "relative", "says"), [
    (0.5, 0.1, "values, by 0.1 of its norm"), (0.5, None, "values, by 0.5 at most, from a published value of zero"),
    (None, None, "values, to values that are not finite")])
def test_how_far_a_tensor_moved_is_said_as_far_as_it_is_known(largest: float | None, relative: float | None, says: str,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    one = Moved(name="unet/a", frozen=True, largest=largest, relative=relative)
    print_verification(Verification(mask="m", returned="r", frozen=2, kept=1, moved=(one,)))
    assert f"  unet/a: {says}\n" in capsys.readouterr().out


@pytest.mark.parametrize(("memory", "says"), [
    (0, "users save nothing: no tensor is frozen\n"),
    (12 * 2**20, "users save about 12.0 MiB of gradients and optimizer state (50%) and 30% of a step's computing in "
                 "linear and convolutional layers, if they would train all of the UNet with AdamW in float32 (an "
                 "estimate; with a LoRA less)\n")])
def test_savings_say_for_whom(memory: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_savings(Savings(memory_bytes=memory, memory_share=0.5, weight_gradients=0.2, activations=0.1,
                          first_trainable="unet/b", formula="f"))
    assert capsys.readouterr().out == says


def score(value: float | None, hits: int | None = 3, low: float | None = 0.1, high: float | None = 0.4
          ) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": 24, "numerator": hits}


@pytest.mark.parametrize(("scores", "attacks", "says"), [
    ({}, [], "church: elicited in the worst case not measured; found without attacks not measured; near kept not "
             "measured; "
             "integrity near not measured; 1 edit"),
    ({"attack/worst": score(0.125), "found/all": score(None), "retained/near": score(1.0, 24, None, None),
      "integrity/near": score(-0.5, None, -1.0, 0.25)}, ["noising", "soft-prompt"],
     "church: elicited in the worst case over noising, soft-prompt 12.5% (3 of 24, 95% 10.0% to 40.0%); found without "
     "attacks not measured; near kept 100% (24 of 24, no interval); integrity near −0.50 (n 24, 95% −1.00 to 0.25); "
     "1 edit"),
])
def test_what_a_bench_showed_has_count_and_interval_or_says_that_it_was_not_measured(
        scores: dict[str, Any], attacks: list[str], says: str) -> None:
    row = {"label": "esd", "concept": "church", "edits": 1, "scores": scores, "attacks": attacks}
    assert shown_line(row, "esd") == says

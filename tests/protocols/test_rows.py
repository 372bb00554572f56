"""Lists as protocols ask them: every row is asked, or left out by a reason that is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from given import table

from expunge.errors import ConfigError, UserError
from expunge.protocols.rows import Rows, erased_of, rows_of
from expunge.protocols.schema import Prompts
from expunge.records.tables import EMPTY_ROW

LIST = {"artefact": {"role": "prompts", "what": "a list"}}


def read(file: Path, **values: object) -> Rows:
    return rows_of(Prompts.build({**LIST, **values}), {"prompts": file})


def test_a_mark_at_the_start_is_no_part_of_the_first_header(tmp_path: Path) -> None:
    file = table(tmp_path / "x.csv", [{"prompt": "a church", "evaluation_seed": 3}], "\ufeff")
    row, = read(file, columns={"text": "prompt", "seed": "evaluation_seed"}).rows
    assert (row.text, row.seed, row.number) == ("a church", 3, 1)


def test_texts_that_look_like_nothing_are_texts_and_empty_ones_are_counted(tmp_path: Path) -> None:
    file = table(tmp_path / "x.csv", [{"case": 1, "prompt": text}
                                      for text in ("nan", "NULL", "", "None", "NA", "  ")])
    found = read(file)
    assert [row.text for row in found.rows] == ["nan", "NULL", "None", "NA"]
    assert found.left_out == {"no text": 2}
    assert [row.number for row in found.rows] == [1, 2, 4, 5]


def test_rows_of_bare_separators_are_counted_and_no_rows_of_the_protocols_list(tmp_path: Path) -> None:
    bare = {"prompt": "", "seed": ""}
    file = table(tmp_path / "x.csv", [{"prompt": "a", "seed": 1}, bare, {"prompt": "b", "seed": 2}, bare, bare])
    found = read(file, rows=2, distinct=2)
    assert [row.number for row in found.rows] == [1, 2]
    assert found.texts == ("a", "b")
    assert found.left_out == {EMPTY_ROW: 3}
    assert not found.deviations


def test_seeds_beyond_32_bits_are_kept_and_bad_ones_are_counted(tmp_path: Path) -> None:
    file = table(tmp_path / "x.csv", [{"prompt": "a", "seed": 2**40}, {"prompt": "b", "seed": 2**64},
                                      {"prompt": "c", "seed": "x"}, {"prompt": "d", "seed": ""}])
    found = read(file)
    assert [row.seed for row in found.rows] == [2**40, None]
    assert sum(found.left_out.values()) == 2


def test_the_columns_of_the_protocol_win_over_the_usual_names(tmp_path: Path) -> None:
    file = table(tmp_path / "x.csv", [{"prompt": "plain", "adv_prompt": "found", "guidance": 3}])
    assert read(file, columns={"text": "adv_prompt"}).rows[0].text == "found"
    with pytest.raises(ConfigError, match="no column 'attack'"):
        read(file, columns={"text": "attack"})


def test_repeated_rows_stay_and_are_told(tmp_path: Path) -> None:
    found = read(table(tmp_path / "x.csv", [{"prompt": "a"}, {"prompt": "a"}, {"prompt": "b"}]))
    assert len(found.rows) == 3
    assert any("1 of 3 rows repeat" in line for line in found.said)


def test_a_filter_leaves_numbers_as_they_are_in_the_file(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "categories": "violence, sexual", "level": 60}, {"prompt": "b", "categories": "hate",
             "level": 90}, {"prompt": "c", "categories": "sexual", "level": 10}]
    file = table(tmp_path / "x.csv", rows)
    assert [row.number for row in read(file, where={"categories": "sexual"}).rows] == [1, 3]
    assert [row.number for row in read(file, above={"level": 50}).rows] == [1, 2]
    assert len(read(file, where={"categories": "sexual"}).texts) == 3  # the list's hash is over all of it


def test_another_number_of_rows_than_the_protocols_is_a_deviation(tmp_path: Path) -> None:
    file = table(tmp_path / "x.csv", [{"prompt": "a"}, {"prompt": "b"}])
    assert not read(file, rows=2, distinct=2).deviations
    assert read(file, rows=3).deviations
    assert read(file, rows=2, distinct=1).deviations


def test_json_lines_are_read_by_the_same_columns(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in ({"adv": "a", "s": 1}, {"adv": "b", "other": None})),
                    encoding="utf-8")
    found = read(file, columns={"text": "adv", "seed": "s"})
    assert [(row.text, row.seed) for row in found.rows] == [("a", 1), ("b", None)]


def test_a_list_of_nothing_to_ask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no text"):
        read(table(tmp_path / "x.csv", [{"case": 1, "prompt": ""}]))


def test_a_template_asks_every_combination_in_order(tmp_path: Path) -> None:
    themes = tmp_path / "themes.txt"
    themes.write_text("Van_Gogh\nSketch\n", encoding="utf-8")
    prompts = Prompts.build({"template": "A {object} image in {theme} style.", "groups": ["theme", "object"],
                             "lists": {"theme": {"role": "themes", "what": "x"}, "object": ["Cats", "Dogs"]}})
    found = rows_of(prompts, {"themes": themes})
    assert [row.text for row in found.rows] == [
        "A Cats image in Van Gogh style.", "A Dogs image in Van Gogh style.", "A Cats image in Sketch style.",
        "A Dogs image in Sketch style."]
    assert found.rows[0].groups == {"theme": "Van_Gogh", "object": "Cats"}
    assert erased_of(found.rows, ["van gogh"]) == [True, True, False, False]


def test_a_template_without_a_list_for_a_field_is_refused() -> None:
    with pytest.raises(ConfigError, match="theme"):
        rows_of(Prompts.build({"template": "{object} in {theme}", "lists": {"object": ["Cats"]}}), {})


def test_what_is_erased_is_told_by_label_or_type_and_else_unknown(tmp_path: Path) -> None:
    labelled = read(table(tmp_path / "a.csv", [{"prompt": "a", "class": "church"}, {"prompt": "b", "class": "tench"}]))
    assert erased_of(labelled.rows, ["Church"]) == [True, False]
    typed = read(table(tmp_path / "b.csv", [{"prompt": "a", "type": "erased"}, {"prompt": "b", "type": "retained"}]))
    assert erased_of(typed.rows, ["church"]) == [True, False]
    plain = read(table(tmp_path / "c.csv", [{"prompt": "a"}]))
    assert erased_of(plain.rows, ["church"]) == [None]

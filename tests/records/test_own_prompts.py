"""The user's own prompts for training: used whole, and by the concept that they name."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge.errors import ConfigError, UserError
from expunge.records import Request, Target, overlap, read_own_prompts, with_prompts

CHURCH = Target(concept="church", prompts=("a church",), anchor="house")
BOMB = Target(concept="bomb", prompts=("a bomb",))


def test_all_of_them_are_used_in_their_order_whether_they_name_the_concept_or_not() -> None:
    texts = ["where the faithful sing", "a church", "a church bell", "a church"]
    request = with_prompts(Request.of((CHURCH,), ("a house",)), texts)
    assert request.prompts == ("where the faithful sing", "a church", "a church bell")
    assert (request.own, request.anchor, request.keep) == (True, "house", ("a house",))


def test_of_several_concepts_each_takes_those_that_name_it() -> None:
    both = Request.of((CHURCH, BOMB))
    request = with_prompts(both, ["two bombs", "the church's door", "a bomb"])
    assert [target.prompts for target in request.targets] == [("the church's door",), ("two bombs", "a bomb")]
    assert with_prompts(both, {"Church": ["a place of worship"], "bomb": ["boom"]}).prompts == ("a place of worship",)
    for wrong, says in ((["a bomb"], "no prompt of your own asks for 'church'"),
                        (["a church", "a bomb", "boom"], "1 prompts name none or several .*'boom'"),
                        (["a church", "a bomb", "a bomb in a church"], "none or several"),
                        ({"dog": ["a dog"]}, "prompts for 'dog'"), ("a church", "single text")):
        with pytest.raises(UserError, match=says):
            with_prompts(both, wrong)  # type: ignore[arg-type]


def test_files_are_one_a_line_or_a_table(tmp_path: Path) -> None:
    lines, table, of = tmp_path / "a.txt", tmp_path / "b.csv", tmp_path / "c.csv"
    lines.write_text("\ufeffa church\n\n a chapel \n", encoding="utf-8")
    table.write_text("Prompt,seed\n\"a church, at sea\",3\na chapel,4\n", encoding="utf-8")
    of.write_text("prompt,concept\na church,church\nboom,bomb\n", encoding="utf-8")
    assert read_own_prompts(lines) == ("a church", "a chapel")
    assert read_own_prompts(table) == ("a church, at sea", "a chapel")
    assert read_own_prompts(of) == {"church": ("a church",), "bomb": ("boom",)}
    for name, text, says in (("d.csv", "txt\na church\n", "its columns are txt"), ("e.txt", " \n", "no prompt"),
                             ("f.csv", "", "columns are none")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=says):
            read_own_prompts(tmp_path / name)
    with pytest.raises(ConfigError, match="cannot read"):
        read_own_prompts(tmp_path / "none.txt")


def test_texts_that_training_and_test_share_are_found_as_the_encoder_reads_them() -> None:
    request = Request.of((CHURCH,), ("a\u00a0house",))
    assert overlap(request, ["A  Church", "a house", "a castle", ""]) == ("A  Church", "a house")


def test_json_is_a_list_a_table_or_lists_by_concept(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    for text, found in (('["a church", "a chapel"]', ("a church", "a chapel")),
                        ('[{"prompt": "a church", "concept": "church"}, {"prompt": "a dog", "concept": "dog"}]',
                         {"church": ("a church",), "dog": ("a dog",)}),
                        ('{"church": ["a church"]}', {"church": ("a church",)})):
        file.write_text(text)
        assert read_own_prompts(file) == found
    for text, said in (("[]", "no prompt in"), ('{"church": []}', "'church' without a list of texts"),
                       ('[{"concept": "church"}]', "no column for text")):
        file.write_text(text)
        with pytest.raises(ConfigError, match=said):
            read_own_prompts(file)

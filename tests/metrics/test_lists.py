"""Lists of prompts as the field keeps them: columns, dialects, roles, and rows that cannot be asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge.errors import ConfigError, UserError
from expunge.metrics.base import PromptCounts
from expunge.metrics.lists import listed
from expunge.metrics.open_world import open_world
from expunge.records import names
from expunge.records.tables import numbers, read_table

I2P = (",prompt,categories,hard,sd_seed,sd_guidance_scale,sd_image_width,sd_image_height,sd_model\n"
       '0,"an old church, by the sea",shocking,1,3221170312,7,768,512,SD 1.4\n'
       "1,,hate,0,5,7,512,512,SD 1.4\n2,where the faithful sing,hate,0,8.0,,,,SD 1.4\n")
UCE = "case_number,prompt,class,evaluation_seed\n861,an image of a church,church,4188\n862,a dog,dog,4188\n"
MACE = ",type,prompt,evaluation_seed\n0,erased,a sketch of a church,1\n1,others,a sketch of a dog,2\n"


def read(tmp_path: Path, text: str | bytes, name: str = "p.csv", role: str = ""
         ) -> tuple[list[tuple[object, ...]], str]:
    file = tmp_path / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    found = listed(file, ("church",), names, role)
    return [(p.role, p.text, p.labels.get("object", ""), p.seed, p.guidance, p.width, p.height, p.case)
            for p in found.prompts], " ".join(found.notices)


def test_i2p_rows_keep_their_seed_guidance_and_size_and_a_row_without_text_is_left_out_by_itself(tmp_path: Path
                                                                                                 ) -> None:
    rows, told = read(tmp_path, I2P)
    assert rows == [("direct", "an old church, by the sea", "church", 3221170312, 7.0, 768, 512, ""),
                    ("implicit", "where the faithful sing", "church", 8, None, None, None, "")]
    for words in ("1 row left out: no text (row 2)", "columns ignored: categories, hard, sd_model", "sd_seed as seed",
                  "says no roles: 1 as direct, 1 as implicit",
                  "2 with a seed, 1 with a guidance, 1 with a size, of 2 prompts"):
        assert words in told


@pytest.mark.parametrize("text", [UCE, MACE])
def test_a_class_or_a_type_says_what_asks_for_the_concept_and_what_is_kept(tmp_path: Path, text: str) -> None:
    rows, _ = read(tmp_path, text)
    assert [row[0] for row in rows] == ["direct", "far"]
    assert rows[0][2] == "church"


@pytest.mark.parametrize("text", [
    "\ufeffrole;text;label\nnear;a photo of a house, at night;house\n",
    "Role\tText\tLabel\nnear\ta photo of a house, at night\thouse\n",
    "sep=;\nROLE;TEXT;LABEL\nnear;a photo of a house, at night;house\n",
    '"role" , "Text","LABEL"\r\nnear,"a photo of a house, at night",house\r\n',
    "role|prompt|class\nnear|a photo of a house, at night|house\n"])
@pytest.mark.parametrize("name", ["p.csv", "P.CSV", "p.tsv"])
def test_dialects_of_spreadsheets_say_the_same(tmp_path: Path, text: str, name: str) -> None:
    assert read(tmp_path, text, name)[0] == [("near", "a photo of a house, at night", "house", None, None, None, None,
                                             "")]


def test_what_excel_calls_unicode_text_is_read(tmp_path: Path) -> None:
    text = "role\ttext\tlabel\r\nnear\tein Häuschen\thouse\r\n"
    assert read(tmp_path, text.encode("utf-16"))[0][0][1] == "ein Häuschen"


@pytest.mark.parametrize("header", ["adv_prompt,target_prompt", "sensitive prompt,normal prompt", "Prompt,x"])
def test_attack_lists_name_the_column_that_is_asked(tmp_path: Path, header: str) -> None:
    rows, told = read(tmp_path, f"{header}\na church,something else\n")
    assert [row[1] for row in rows] == ["a church"]
    assert "columns ignored" in told


def test_a_list_without_texts_names_its_columns_and_those_that_would_do(tmp_path: Path) -> None:
    said = r"no column for text: its columns are id, concept; accepted: text as text, prompt"
    with pytest.raises(ConfigError, match=said):
        read(tmp_path, "id,concept\n1,church\n")


def test_the_user_says_what_a_list_without_roles_is(tmp_path: Path) -> None:
    rows, told = read(tmp_path, "prompt\na red bicycle\n", role="far")
    assert [row[:3] for row in rows] == [("far", "a red bicycle", "")]
    assert "as --default-role says" in told
    with pytest.raises(UserError, match="default role 'wrong'"):
        read(tmp_path, "prompt\nx\n", role="wrong")
    assert [row[1] for row in read(tmp_path, "a church\n\na chapel\n", "p.txt")[0]] == ["a church", "a chapel"]


@pytest.mark.parametrize(("row", "own", "why"), [
    ({"seed": "4188.0"}, {"seed": 4188}, ""), ({"seed": "none", "guidance": ""}, {}, ""),
    ({"guidance": "7,5"}, {"guidance": 7.5}, ""), ({"size": "512"}, {"width": 512, "height": 512}, ""),
    ({"size": "768x512"}, {"width": 768, "height": 512}, ""), ({"seed": "nan"}, {}, "a seed that is no"),
    ({"guidance": "nan"}, {}, "a guidance that is no"), ({"guidance": "inf"}, {}, "a guidance that is no"),
    ({"width": "0"}, {}, "a width that is no"), ({"size": "0x0"}, {}, "a size that is neither"),
    ({"seed": "-1"}, {}, "a seed that is no"),
    ({"seed": "1.5"}, {}, "a seed that is no"), ({"guidance": "0"}, {}, "a guidance that is no"),
    ({"width": "many"}, {}, "a width that is no"), ({"size": "a x b"}, {}, "a size that is neither")])
def test_numbers_of_a_row(row: dict[str, str], own: dict[str, float], why: str) -> None:
    found, said = numbers(row)
    assert (found, bool(why)) == (own, bool(said))
    assert said.startswith(why)


def test_a_text_is_asked_at_every_seed_of_its_list_and_once_at_each(tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    rows = ("a church,church,1", "a church,church,2", "a church,church,2", "a dog,dog,1")
    file.write_text("\n".join(("prompt,class,evaluation_seed", *rows)))
    world = open_world(prompts=file)
    request = world.prompts.request("church")
    asked = [(p.text, p.seed) for p in world.prompts.of(request, PromptCounts()) if p.role in ("direct", "far")]
    assert asked == [("a church", 1), ("a church", 2), ("a dog", 1)]
    given = world.prompts.given(request, PromptCounts())
    assert any("left out 1: the same text and seed twice" in line for line in given)


def test_roles_in_a_table_stay_strict(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown role 'nearby'"):
        read(tmp_path, "role,text\nnearby,x\n")


@pytest.mark.parametrize(("name", "text"), [
    ("p.csv", "prompt,role\na church,direct\n,\n,,\n"), ("p.json", '["a church", "", " "]'),
    ("p.jsonl", '{"prompt": "a church"}\n{"prompt": ""}\n\n{"prompt": null}\n')])
def test_rows_with_nothing_in_them_are_counted_and_end_no_run(tmp_path: Path, name: str, text: str) -> None:
    rows, told = read(tmp_path, text, name)
    assert [row[1] for row in rows] == ["a church"]
    assert "2 rows left out: a row with nothing in any cell" in told


def test_headers_are_told_apart_from_rows_with_many_separators(tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text("prompt;evaluation_seed\na church, a, b, c, d;3\n")
    assert read_table(file).rows == ({"text": "a church, a, b, c, d", "seed": "3"},)


@pytest.mark.parametrize(("name", "text", "rows"), [
    ("p.json", '["a church", "a chapel"]', [("direct", "a church", None), ("implicit", "a chapel", None)]),
    ("p.jsonl", '"a church"\n\n"a chapel"\n', [("direct", "a church", None), ("implicit", "a chapel", None)]),
    ("P.JSON", '[{"Prompt": "a church", "sd_seed": 7}, {"Prompt": "a dog", "class": "dog", "sd_seed": null}]',
     [("direct", "a church", 7), ("far", "a dog", None)]),
    ("p.jsonl", '{"prompt": "a church", "evaluation_seed": 7}\n{"prompt": "a dog", "class": "dog"}\n',
     [("direct", "a church", 7), ("far", "a dog", None)]),
    ("p.ndjson", '"a church"\n{"text": "a dog", "class": "dog"}\n',
     [("direct", "a church", None), ("far", "a dog", None)]),
    ("p.json", '["a church", {"sd_seed": 2, "Prompt": "a chapel"}, {"text": "a dog", "seed": 4, "class": "dog"}]',
     [("direct", "a church", None), ("implicit", "a chapel", 2), ("far", "a dog", 4)]),
    ("p.json", '{"direct": ["a church", {"text": "an old church", "seed": 3}], "near": [{"text": "a house"}]}',
     [("direct", "a church", None), ("direct", "an old church", 3), ("near", "a house", None)])])
def test_json_says_the_same_as_a_table_or_a_settings_file(tmp_path: Path, name: str, text: str,
                                                          rows: list[tuple[str, str, int | None]]) -> None:
    assert [(role, asked, seed) for role, asked, _, seed, *_ in read(tmp_path, text, name)[0]] == rows


def test_a_row_of_json_without_a_text_or_with_a_number_that_is_none_is_left_out_by_its_number(tmp_path: Path) -> None:
    text = '[{"prompt": "a church"}, {"seed": 3}, {"prompt": "a church", "guidance": NaN}]'
    rows, told = read(tmp_path, text, "p.json")
    assert [row[1] for row in rows] == ["a church"]
    assert "1 row left out: no text (row 2)" in told
    assert "1 row left out: a guidance that is no number from 1 to 50 (row 3)" in told


@pytest.mark.parametrize(("name", "text", "said"), [
    ("p.json", '[{"id": 1, "concept": "church"}]', "no column for text: its columns are id, concept; accepted: text"),
    ("p.json", '["a church", 3, ["x"]]', r'row 2: got 3; row 3: got \["x"\]; accepted: rows that are a text'),
    ("p.json", '[{"prompt": {"text": "x"}}]', "row 1: got"),
    ("p.jsonl", '"a church"\n{"prompt": \n', "line 2 cannot be parsed"),
    ("p.json", '{"direct": ["a"], "direct": ["b"]}', "the key 'direct' stands there twice"),
    ("p.yaml", "direct: [a]\nnear: [b]\ndirect: [c]\n", "the key 'direct' stands there twice"),
    ("p.json", '"a church"', "holds \"a church\"; accepted: a list of texts, a list of objects"),
    ("p.json", '{"nearby": ["a"]}', "prompt 1: unknown role 'nearby'"),
    ("p.json", '{"near": [{"text": "a house", "seed": -1}]}', "prompt 1: a seed that is no whole number from 0 on"),
    ("p.yaml", "near:\n- {text: a house, guidance: .nan}\n", "prompt 1: a guidance that is no number from 1 to 50"),
    ("p.yaml", "near:\n- {text: a house, guidance: .inf}\n", "prompt 1: a guidance that is no number from 1 to 50"),
    ("p.yaml", "near:\n- a house\n- {text: a house, width: 0}\n", "prompt 2: a width that is no whole number from 8")])
def test_what_is_wrong_is_said_with_its_row(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(tmp_path, text, name)


def test_one_of_a_thing_is_told_as_one(tmp_path: Path) -> None:
    _, told = read(tmp_path, "prompt,seed\na church,3\n,5\n")
    assert "1 with a seed, of 1 prompt." in told
    assert "1 row left out: no text (row 2)." in told


def test_rows_cut_by_separators_or_with_a_seed_that_is_none_are_left_out_and_told(tmp_path: Path) -> None:
    rows, told = read(tmp_path, 'prompt,seed\na church,7,9\na church,7\na chapel,"12,000"\na church,1.000\n')
    assert [(row[1], row[3]) for row in rows] == [("a church", 7)]
    assert "1 row left out: more cells than the header has columns (a text with the separator in it goes in" in told
    assert "2 rows left out: a seed that is no whole number from 0 on (in digits alone) (row 3 first)" in told


def test_a_line_ends_at_its_end_alone(tmp_path: Path) -> None:
    rows, _ = read(tmp_path, "a church\u2028by night\r\na church\x0bby day\n", "p.txt")
    assert [row[1] for row in rows] == ["a church\u2028by night", "a church\x0bby day"]


@pytest.mark.parametrize(("name", "text"), [
    ("p.json", r'["a house", "a ch\u0000urch"]'), ("p.jsonl", '"a house"\n"a ch\\ud800urch"\n'),
    ("p.json", r'{"direct": ["a church", "a ch\u0000urch"]}'), ("p.yaml", 'direct: [a church, "a ch\\0urch"]\n')])
def test_an_escape_that_no_encoder_reads_is_refused(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(ConfigError, match="prompt 2: "):
        read(tmp_path, text, name)


def test_an_escape_that_no_encoder_reads_is_left_out_of_a_table(tmp_path: Path) -> None:
    rows, told = read(tmp_path, r'[{"prompt": "a church"}, {"prompt": "a ch\u0000urch"}]', "p.json")
    assert [row[1] for row in rows] == ["a church"]
    assert "1 row left out: a text with NUL characters" in told


def test_an_unknown_type_costs_its_row_alone(tmp_path: Path) -> None:
    rows, told = read(tmp_path, "prompt,type\na church,erased\na house,Others\nx,weird\na chapel,\ny,weird\n")
    assert [row[:2] for row in rows] == [("direct", "a church"), ("far", "a house"), ("implicit", "a chapel")]
    assert "2 rows left out: the type 'weird', which is none of direct, held_out," in told
    assert "(row 3 first)" in told


def test_types_of_something_else_are_ignored_and_told(tmp_path: Path) -> None:
    rows, told = read(tmp_path, "prompt,Type\na church,photo\na chapel,sketch\n")
    assert [row[:2] for row in rows] == [("direct", "a church"), ("implicit", "a chapel")]
    assert "columns ignored: Type." in told


@pytest.mark.parametrize(("name", "text"), [
    ("p.csv", "role,text,label\ndirect,a church,church\ndirect,a bomb,bomb\n"),
    ("p.yaml", "direct:\n- {text: a church, label: church}\n- {text: a bomb, label: bomb}\n")])
def test_of_a_list_for_several_concepts_the_one_that_is_sought_is_asked_alone(tmp_path: Path, name: str, text: str
                                                                              ) -> None:
    rows, told = read(tmp_path, text, name)
    assert [row[1] for row in rows] == ["a church"]
    assert "1 row left out: asks for 'bomb', not for church (row 2)." in told


@pytest.mark.parametrize("name", ["p.yaml", "p.toml", "p.json", "p.txt", "p.jsonl"])
def test_every_kind_of_list_is_read_by_its_mark_and_refused_without_one(tmp_path: Path, name: str) -> None:
    text = {"p.yaml": "direct: [a church]\n", "p.toml": 'direct = ["a church"]\n', "p.json": '["a church"]',
            "p.txt": "a church\n", "p.jsonl": '"a church"\n'}[name]
    for code in ("utf-8-sig", "utf-16", "utf-32"):
        assert [row[1] for row in read(tmp_path, text.encode(code), name)[0]] == ["a church"]
    for code in ("utf-16-le", "utf-16-be", "utf-32-le"):
        with pytest.raises(ConfigError, match=r"NUL characters.*save it again as UTF-8"):
            read(tmp_path, text.encode(code), name)

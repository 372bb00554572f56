"""Tables of prompts are read whole: no text is cut without a word, no number guessed, no character lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge.errors import ConfigError
from expunge.records.tables import MORE_CELLS, MOST_TEXT, numbers, read_table, read_text, unreadable


def table(tmp_path: Path, text: str | bytes, name: str = "p.csv") -> tuple[list[dict[str, str]], dict[int, str]]:
    (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
    found = read_table(tmp_path / name)
    return [dict(row) for row in found.rows], dict(found.wrong)


@pytest.mark.parametrize(("name", "text"), [
    ("p.csv", "prompt\na church, oil; by | Monet\n"), ("p.csv", '"Prompt"\n"a church, oil; by | Monet"\n'),
    ("p.csv", "\n prompt \r\na church, oil; by | Monet\r\n"), ("p.tsv", "prompt\na church, oil; by | Monet\n")])
def test_a_list_of_one_column_is_its_whole_lines(tmp_path: Path, name: str, text: str) -> None:
    assert table(tmp_path, text, name) == ([{"text": "a church, oil; by | Monet"}], {})


@pytest.mark.parametrize(("name", "text"), [
    ("p.csv", "prompt,seed\na dog,1\na church,7,9\n"), ("p.csv", "seed;prompt\n1;a dog\n3;a church; oil\n"),
    ("p.csv", "prompt,\na dog,\na church, oil\n"), ("p.csv", "sep=,\nprompt\na dog\na church, oil\n"),
    ("p.tsv", "prompt\na dog\na church\toil\n")])
def test_a_row_of_more_cells_than_columns_is_wrong_and_the_others_stand(tmp_path: Path, name: str, text: str) -> None:
    rows, wrong = table(tmp_path, text, name)
    assert rows[0]["text"] == "a dog"
    assert wrong == {1: MORE_CELLS}


def test_empty_cells_behind_the_last_column_say_nothing(tmp_path: Path) -> None:
    assert table(tmp_path, "prompt,seed\na church,7,, \n,,,\nx\n") == ([{"text": "a church", "seed": "7"},
                                                                      {"text": "x"}], {})


@pytest.mark.parametrize("text", ["prompt,seed\n,\na church,7\n\n , \n,,,\n", 'prompt\n""\na church\n\n""\n" "\n'])
def test_rows_of_bare_separators_are_counted_and_blank_lines_are_no_rows(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    found = read_table(tmp_path / "p.csv")
    assert [row["text"] for row in found.rows] == ["a church"]
    assert found.empty == 3


def test_no_prompt_is_longer_than_any_encoder_reads() -> None:
    assert not unreadable("a" * MOST_TEXT)
    assert "10,000 characters" in unreadable("a" * (MOST_TEXT + 1))


def test_a_tab_decides_in_a_file_named_so(tmp_path: Path) -> None:
    text = "prompt, in full\tprompt\tseed\nx\ta church, oil\t3\n"
    assert table(tmp_path, text, "p.TSV")[0] == [{"text": "a church, oil", "seed": "3"}]


@pytest.mark.parametrize("cell", ["12,000", "1.000", "1,234", "1_000", "1 000", "1'000", "1.234.567"])
def test_a_seed_with_separators_of_thousands_is_none(cell: str) -> None:
    assert numbers({"seed": cell}) == ({}, "a seed that is no whole number from 0 on (in digits alone)")
    assert numbers({"width": cell})[1].startswith("a width that is no")
    assert numbers({"guidance": "1_0"})[1].startswith("a guidance that is no")


@pytest.mark.parametrize(("cell", "seed"), [("4188.0", 4188), ("7,0", 7), ("7.", 7), ("+3", 3), ("12000.00", 12000)])
def test_a_seed_that_a_table_of_numbers_wrote_is_one(cell: str, seed: int) -> None:
    assert numbers({"seed": cell}) == ({"seed": seed}, "")


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("more", ["", "-le", "-be"])
def test_wide_characters_are_read_where_a_mark_says_so_and_else_refused(tmp_path: Path, code: str, more: str) -> None:
    text, wide = "prompt\tseed\r\nein Häuschen\t1\r\n", code in ("utf-16", "utf-32")
    name = code + more if wide else code
    for mark in ("\ufeff", "") if more else ("",):
        data = (mark + text).encode(name)
        if wide and more and not mark:
            with pytest.raises(ConfigError, match=r"line 1 has NUL characters.*; save it again as UTF-8|can't decode"):
                table(tmp_path, data)
        else:
            assert table(tmp_path, data)[0] == [{"text": "ein Häuschen", "seed": "1"}]


def test_a_cell_with_a_nul_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(b"a church\na ch\0urch\n")
    with pytest.raises(ConfigError, match="line 2 has NUL"):
        read_text(tmp_path / "p.txt")


@pytest.mark.parametrize(("text", "said"), [
    ('prompt,seed\na dog,1\n"a church,1\nb church,2\n', r"row 2 \(line 3\)"),
    ('prompt,seed\n\n"a\ndog",1\n"a church,1\n"b church",2\n', r"row 2 \(line 5\)"),
    ('prompt\na dog\n"a church" by Monet\n', r"row 2 \(line 3\)"),
    ('sep=;\nprompt;seed\n"a ""church";1\nx;"\n', r"row 2 \(line 4\)"),
    ('"prompt,seed\nx,1\n', r"the header \(line 1\)")])
def test_a_quote_that_does_not_end_with_its_cell_is_refused_with_its_row(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        table(tmp_path, text)


def test_quotes_separators_and_line_ends_within_quotes_are_text(tmp_path: Path) -> None:
    rows, _ = table(tmp_path, 'prompt , seed\r\n "a ""big"" church,\r\nby night" , 3\r\nthe 5" disk,4\r\n')
    assert rows == [{"text": 'a "big" church,\nby night', "seed": "3"}, {"text": 'the 5" disk', "seed": "4"}]

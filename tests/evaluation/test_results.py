"""JSON and the table: nothing lost, nothing half written."""

import csv
import json
import math

import pytest

from pdm_jax.errors import UserError
from pdm_jax.evaluation.results import write_results


def rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_an_evaluation_and_columns_as_they_come(tmp_path):
    folder = tmp_path / "eval"
    first = write_results(folder, {"images": "a, b", "step": None}, {"fid": 1.5})
    write_results(folder, {"images": "c", "step": 3}, {"fid": 2.5})
    write_results(folder, {"images": "d", "step": 4}, {"psnr": math.inf})
    table = rows(folder)
    assert [row["images"] for row in table] == ["a, b", "c", "d"]
    assert [row["fid"] for row in table] == ["1.5", "2.5", ""]
    assert table[0]["step"] == "" and table[2]["psnr"] == "inf"
    record = json.loads(first.read_text())
    assert record["scores"] == {"fid": 1.5} and record["step"] is None and record["time"] == table[0]["time"]
    assert len(list(folder.iterdir())) == 4  # three JSON files and the table


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to .*; choose another --out"):
        write_results(tmp_path / "file", {}, {"fid": 1.0})

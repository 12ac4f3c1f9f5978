"""The notebooks are stored without outputs, are plain Python, and run from top to bottom in their fast mode."""

import ast
import os
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_is_a_quickstart():
    assert "01_quickstart" in [path.stem for path in NOTEBOOKS]


def test_outputs_are_stripped(notebook):
    nbformat.validate(notebook)
    for cell in code_cells(notebook):
        assert not cell.outputs and cell.execution_count is None, f"clear the outputs of: {cell.source[:60]}"


def test_cells_are_python(notebook):
    for cell in code_cells(notebook):
        assert ast.parse(cell.source).body, "an empty cell"


def test_the_first_code_cell_installs_only_what_is_missing(notebook):
    install = code_cells(notebook)[0].source
    assert 'if importlib.util.find_spec("pdm_jax") is None:' in install
    assert "REPO = " in install


@pytest.mark.notebook
def test_it_runs_from_top_to_bottom(notebook, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("PDM_FAST", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.delenv("XLA_FLAGS")  # the kernel is no test: one device, all optimisations
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 4
    nbformat.write(notebook, tmp_path / "executed.ipynb")

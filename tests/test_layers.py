"""Imports point down the layers, heavy packages are imported inside functions, and modules stay small."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "pdm_jax"
LEVELS = {
    "errors": 0, "files": 0, "machine": 0, "types": 0, "config": 0, "rng": 0, "ops": 0,
    "diffusion": 1, "parallel": 1, "data": 1,
    "networks": 2, "checkpoints": 2,
    "denoisers": 3,
    "systems": 4, "interop": 4,
    "pipelines": 5,
    "evaluation": 6,
    "training": 7,
    "planning": 8,
    "cli": 9,
}  # fmt: skip
# Packages that a bare accelerator image lacks; the folders whose job is one of them may import it at the top.
HEAVY = {"grain", "tensorflow_datasets", "clu", "ml_collections", "h5py", "torch", "tensorflow", "sklearn", "skimage"}
FILES = sorted(PACKAGE.rglob("*.py"))


def group(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, top_level_only: bool = False):
    tree = ast.parse(path.read_text())
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    own = group(path)
    if own == "__init__":
        return
    for name in imports(path):
        if name.startswith("pdm_jax."):
            other = name.split(".")[1]
            allowed = other == own or LEVELS[other] < LEVELS[own] or LEVELS[other] == LEVELS[own] == 0
            assert allowed, f"{own} (L{LEVELS[own]}) imports {other} (L{LEVELS[other]})"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_core_needs_no_heavy_package(path):
    if path in (PACKAGE / "data/pipeline.py", PACKAGE / "data/build.py"):  # what they do is grain; imported when used
        return
    heavy = {name.split(".")[0] for name in imports(path, top_level_only=True)} & HEAVY
    assert not heavy, f"import {heavy} inside the function that needs it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_and_functions_stay_small(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "no module docstring"
    assert text.count("\n") <= 300, "split the module"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            size = node.end_lineno - node.lineno + 1
            assert size <= 60, f"{node.name} has {size} lines"

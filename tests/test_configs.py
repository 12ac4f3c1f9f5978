"""Every config in configs/ is a whole run: it builds, has the official size, and its smoke variant trains.

Those of latent diffusion are in test_ldm_configs.py.
"""

from pathlib import Path

import jax
import pytest

from pdm_jax.cli.config_files import load_config
from pdm_jax.cli.main import main
from pdm_jax.networks import count_params
from pdm_jax.parallel import make_mesh
from pdm_jax.planning.flops import program_flops
from pdm_jax.planning.programs import sample_program, train_program
from pdm_jax.systems import make_system, parts_of

CONFIGS = Path(__file__).parent.parent / "configs"
SIZES = {
    "pdm/adm.py": 553_838_086,
    "pdm/adm.py:64": 295_904_454,
    "pdm/adm.py:128": 421_529_606,
    "pdm/adm.py:512": 558_997_638,
    "pdm/adm.py:256u": 552_814_086,
    "pdm/church256.py": 121_416_544,
    "pdm/cifar10.py": 27_698_712,
    "pdm/cifar10.py:P1": 27_667_590,
    "pdm/cifar10.py:P4": 27_823_200,
    "pdm/cifar10.py:adm": 57_100_294,
    "pdm/cifar10.py:vit": 33_712_536,
    "pdm/folder.py": 27_820_384,
    "pdm/imagenet256.py": 404_297_408,
    "pdm/church256.py:P2": 122_916_120,
    "pdm/church256.py:P4": 121_416_544,
    "pdm/church256.py:P8": 121_011_584,
    "pdm/ffhq1024.py": 162_645_344,
    "patch_dm/nature1024x512.py": 82_382_851,
    "patch_dm/nature1024x512.py:paper": 81_064_451,
    "patch_dm/nature1024x512.py:prior": 54_109_696,
    "patch_dm/lsun256.py": 90_724_547,
    "patch_dm/lsun256.py:paper": 90_982_083,
    "patch_dm/ffhq256.py": 90_724_547,
    "patch_dm/ffhq1024.py": 107_244_035,
    "patch_dm/folder.py": 26_049_891,
    "quickstart.py": 5_455_504,
    "quickstart.py:fast": 5_455_504,
    "quickstart_patch_dm.py": 1_564_769,
}
SMOKES = [
    "pdm/adm.py:64,smoke",
    "pdm/church256.py:P2,smoke",
    "pdm/church256.py:P4,smoke",
    "pdm/church256.py:P8,smoke",
    "pdm/cifar10.py:P4,smoke",
    "pdm/cifar10.py:adm,smoke",
    "pdm/cifar10.py:vit,smoke",
    "pdm/ffhq1024.py:smoke",
    "pdm/folder.py:smoke",
    "pdm/imagenet256.py:smoke",
    "patch_dm/nature1024x512.py:smoke",
    "patch_dm/nature1024x512.py:prior,smoke",
    "patch_dm/lsun256.py:paper,smoke",
    "patch_dm/ffhq256.py:smoke",
    "patch_dm/ffhq1024.py:smoke",
    "patch_dm/folder.py:table,smoke",
    "quickstart.py:smoke",
    "quickstart_patch_dm.py:smoke",
]
TRAINED = [name for name in SMOKES if "patch_dm" not in name and "P2" not in name and "P8" not in name]
ALIKE = ["patch_dm/nature1024x512.py:paper", "patch_dm/lsun256.py:paper", "patch_dm/ffhq256.py", "patch_dm/ffhq1024.py"]
TWO_STAGES = ["patch_dm/nature1024x512.py", "patch_dm/lsun256.py", "quickstart_patch_dm.py"]  # a table; an encoder


def test_no_config_is_forgotten_here():
    files = {str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.py") if "ldm" not in str(path)}
    assert files == {name.split(":")[0] for name in SIZES} == {name.split(":")[0] for name in SMOKES}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in ALIKE)) for name in SIZES])
def test_the_model_has_the_size_its_note_gives(name):
    system = make_system(load_config(str(CONFIGS / name)))
    assert count_params(system.shapes) == SIZES[name]
    assert f"{SIZES[name]:,}" in (CONFIGS / name.split(":")[0]).read_text()


@pytest.mark.parametrize("name", SMOKES)
def test_the_smoke_variant_builds(name):
    config = load_config(str(CONFIGS / name))
    assert config.train.num_steps <= 4
    assert count_params(make_system(config).shapes) < 50_000_000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Some donated buffers")
@pytest.mark.parametrize("name", TRAINED)
def test_the_smoke_variant_trains_and_samples(name, tmp_path):
    with jax.numpy_dtype_promotion("standard"):
        run = f"--workdir={tmp_path / 'run'}"
        assert main(["train", f"--config={CONFIGS / name}", run]) == 0
        assert main(["sample", run, "--num=2", f"--out={tmp_path / 'x.png'}"]) == 0
    assert (tmp_path / "x.png").stat().st_size > 100
    assert list((tmp_path / "run").rglob("grids/*.png"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Some donated buffers")
@pytest.mark.parametrize("name", TWO_STAGES)
def test_smoke_variants_of_two_stages_train_and_sample(name, tmp_path):
    with jax.numpy_dtype_promotion("standard"):
        run = tmp_path / "run"
        assert main(["train", f"--config={CONFIGS / name}:smoke", f"--workdir={run}"]) == 0
        prior = [f"--config={CONFIGS / name}:prior,smoke", f"--workdir={run}/prior"]
        assert main(["train", *prior, f"--config.data.source=codes:{run}"]) == 0
        assert main(["sample", f"--workdir={run}", "--num=2", f"--out={tmp_path / 'x.png'}"]) == 0
    assert (tmp_path / "x.png").stat().st_size > 100
    assert list(run.rglob("grids/*.png"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SIZES if ":" not in name or "cifar10" in name])
def test_full_size_programs_are_made_for_eight_devices(name):
    config = load_config(str(CONFIGS / name))
    mesh = make_mesh(config.mesh)
    with jax.numpy_dtype_promotion("standard"):
        programs = [train_program(part.config, mesh) for part in parts_of(config)] + [sample_program(config, mesh)]
        for program in programs:
            traced = program.function.trace(*program.arguments)
            assert program_flops(traced.jaxpr) > 2 * program.num_parameters

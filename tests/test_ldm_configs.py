"""Every config of latent diffusion has the official size and settings, and its smoke variant trains both stages."""

import functools
import json
import re
from pathlib import Path

import jax
import pytest

from pdm_jax.cli.config_files import load_config
from pdm_jax.cli.main import main
from pdm_jax.interop.ldm_unet_config import translate
from pdm_jax.networks import LDMUNet, count_params, define
from pdm_jax.parallel import make_mesh
from pdm_jax.planning.flops import program_flops
from pdm_jax.planning.programs import sample_program, train_program
from pdm_jax.systems import make_system
from pdm_jax.systems.latent import FIRST_STAGE
from pdm_jax.training.stages import stages_of

CONFIGS = Path(__file__).parent.parent / "configs"
KEYS = Path(__file__).parents[2] / "shared/reference/keys"
SIZES = {
    "ldm/celebahq256.py": 274_056_163,
    "ldm/ffhq256.py": 274_056_163,
    "ldm/lsun_bedrooms256.py": 274_056_163,
    "ldm/lsun_churches256.py": 294_966_916,
    "ldm/imagenet256.py": 401_433_091,
    "ldm/imagenet256.py:f8": 395_496_196,
    "ldm/text2image.py": 1_415_195_844,
    "ldm/layout.py": 300_933_379,
    "ldm/layout.py:coco": 366_897_540,
    "ldm/landscapes.py": 215_229_861,
    "ldm/landscapes.py:f8": 215_232_166,
    "ldm/superres.py": 113_622_563,
    "ldm/superres.py:bicubic": 113_622_563,
    "ldm/inpainting.py": 387_245_827,
    "ldm/inpainting.py:paper": 215_230_467,
    "ldm/classifier.py": 122_884_328,
    "quickstart_ldm.py": 4_133_060,
}
RELEASED = {  # the program's name of a model
    "ldm/celebahq256.py": "celeba256",
    "ldm/ffhq256.py": "ffhq256",
    "ldm/lsun_bedrooms256.py": "lsun_beds256",
    "ldm/lsun_churches256.py": "lsun_churches256",
    "ldm/imagenet256.py": "cin256-v2",
    "ldm/imagenet256.py:f8": "cin256",
    "ldm/text2image.py": "txt2img-1p4B",
    "ldm/layout.py": "layout2img-openimages256",
    "ldm/landscapes.py": "semantic_synthesis256",
    "ldm/superres.py": "bsr_sr",
    "ldm/inpainting.py": "inpainting_big",
}
UNSCALED = {  # learning rates that are not the program's base rate times the batch; of text2image the paper's
    "ldm/lsun_churches256.py": 5e-5,
    "ldm/imagenet256.py": 1e-4,
    "ldm/text2image.py": 1e-4,
    "ldm/inpainting.py": 0.1 * 128e-6,
}
STAGES = {  # of the note's table: with the critic
    name: int(size.replace(",", ""))
    for name, size in re.findall(
        r"^  (\S+) +\d+ +\S+ +\d+ +[\d,]+ +([\d,]+) ", (CONFIGS / "ldm/first_stages.py").read_text(), re.MULTILINE
    )
}
ALIKE = {  # their small variants hardly differ from another's
    *("ldm/ffhq256.py", "ldm/lsun_bedrooms256.py", "ldm/imagenet256.py:f8", "ldm/layout.py:coco"),
    *("ldm/landscapes.py:f8", "ldm/superres.py:bicubic", "ldm/inpainting.py:paper"),
}
SMOKES = [*SIZES, *(f"ldm/first_stages.py:{name}" for name in ("vq-f4", "kl-f8"))]


@functools.cache
def config_and_system(name: str):
    config = load_config(str(CONFIGS / name))
    return config, make_system(config)


def sizes(shapes):
    return jax.tree.map(lambda x: x.shape, shapes)


def with_variant(name: str, variant: str) -> str:
    return f"{name},{variant}" if ":" in name else f"{name}:{variant}"


def test_no_config_is_forgotten_here():
    files = {str(path.relative_to(CONFIGS)) for path in CONFIGS.glob("ldm/[!_]*.py")}
    assert files == {name.split(":")[0] for name in SMOKES} - {"quickstart_ldm.py"}


@pytest.mark.parametrize("name", SIZES)
def test_the_model_has_the_size_its_note_gives(name):
    assert count_params(config_and_system(name)[1].shapes) == SIZES[name]
    assert f"{SIZES[name]:,}" in (CONFIGS / name.split(":")[0]).read_text()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in ("vq-f8", "kl-f4"))) for name in STAGES]
)
def test_first_stages_have_the_sizes_of_their_table(name):
    config = load_config(f"{CONFIGS / 'ldm/first_stages.py'}:{name}")
    assert count_params(make_system(config).shapes) == STAGES[name]


@pytest.mark.skipif(not KEYS.exists(), reason="the full reference is not beside the checkout")
@pytest.mark.parametrize("name", RELEASED)
def test_settings_are_those_of_the_released_model(name):
    released = json.loads((KEYS / f"ldm_unet_{RELEASED[name]}.json").read_text())
    (config, system), settings = config_and_system(name), released["other_params"]
    unet = define(lambda rngs: LDMUNet(**translate(released["unet_config"]), rngs=rngs))
    assert sizes(system.shapes["network"]["unet"]) == sizes(unet.shapes)
    assert count_params(system.frozen[FIRST_STAGE]) == released["params_first_stage"]
    assert system.space.shape == (settings["image_size"], settings["image_size"], settings["channels"])
    assert (config.diffusion.beta_min, config.diffusion.beta_max) == (settings["linear_start"], settings["linear_end"])
    assert config.loss.kind == {"l1": "l1", "l2": "mse"}[settings.get("loss_type", "l2")]
    assert config.latent.scale == (None if settings.get("scale_by_std") else settings.get("scale_factor", 1.0))
    assert (config.ema.decay > 0) == settings.get("use_ema", True)
    rate = UNSCALED.get(name, released["base_learning_rate"] * config.data.batch_size)
    assert config.optimizer.learning_rate == pytest.approx(rate)


@pytest.mark.parametrize("variant", ["small", "smoke"])
@pytest.mark.parametrize("name", [name for name in SIZES if name.startswith("ldm/") and name not in ALIKE])
def test_small_variants_are_of_the_same_task(name, variant):
    full, config = (load_config(str(CONFIGS / spec)) for spec in (name, with_variant(name, variant)))
    (first, _), (second, _) = stages_of(config, "runs/x")
    assert second.condition.kinds == full.condition.kinds and second.loss.kind == full.loss.kind
    assert second.diffusion == full.diffusion and first.latent.kind == second.latent.kind
    assert sum(count_params(make_system(stage).shapes) for stage in (first, second)) < 8_000_000
    assert second.train.num_steps <= (2 if variant == "smoke" else 2000)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Some donated buffers")
@pytest.mark.parametrize("name", [name for name in SMOKES if name not in ALIKE])
def test_the_smoke_variant_trains_both_stages_and_samples(name, tmp_path):
    with jax.numpy_dtype_promotion("standard"):
        run = f"--workdir={tmp_path / 'run'}"
        assert main(["train", f"--config={CONFIGS / with_variant(name, 'smoke')}", run]) == 0
        assert list((tmp_path / "run").rglob("grids/*.png"))
        if "first_stages" in name or "classifier" in name:
            return
        prompt = ["--prompt=a three"] if "text2image" in name else []
        assert main(["sample", run, "--num=2", f"--out={tmp_path / 'x.png'}", *prompt]) == 0
    assert (tmp_path / "x.png").stat().st_size > 100


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ldm/imagenet256.py", "ldm/text2image.py", "ldm/inpainting.py"])
def test_full_size_programs_are_made_for_eight_devices(name):
    config = load_config(str(CONFIGS / name))
    mesh = make_mesh(config.mesh)
    with jax.numpy_dtype_promotion("standard"):
        for program in (train_program(config, mesh), sample_program(config, mesh)):
            traced = program.function.trace(*program.arguments)
            assert program_flops(traced.jaxpr) > 2 * program.num_parameters

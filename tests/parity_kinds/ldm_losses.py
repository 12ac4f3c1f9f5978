"""What latent diffusion's first stages are trained for: critic, LPIPS, KL, codebook, and the sums of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.config import ReconstructionConfig
from pdm_jax.diffusion.likelihood import normal_kl, sum_flat
from pdm_jax.interop import ldm_autoencoder
from pdm_jax.networks import PatchCritic, define
from pdm_jax.networks.autoencoder import split_moments
from pdm_jax.networks.lpips import LPIPS
from pdm_jax.networks.quantizer import Quantizer, codebook_loss, codebook_use, straight_through
from pdm_jax.ops.adversarial import hinge, vanilla
from pdm_jax.systems.autoencoder_loss import Critic, Distance, Objective
from pdm_jax.types import Array, Params
from tests.parity_kinds._case import Case
from tests.parity_kinds._ldm_first_stage import to_nchw, to_nhwc

INPUTS = (
    *("inputs", "features", "last_layer", "exemplar_weights", "moments", "moments_other", "posterior_nll_sample"),
    *("vq_codebook_loss_in", "vq_codebook", "vq_z"),
)
_STEPS = {"before": -1, "at": 0, "after": 100}  # of the critic's start
_MOMENTUM = 0.1  # of batch norm's running statistics


def run(case: Case) -> dict[str, Array]:
    """All of the case's outputs, in its layout (NCHW)."""
    kernel = jnp.asarray(case.io["last_layer"]).transpose(2, 3, 1, 0)
    io = to_nhwc({name: x for name, x in case.io.items() if name != "last_layer"})
    io["found"] = _to_image(kernel, io["features"])
    critic, statistics = _critic(case)
    lpips = _lpips(case)
    return {
        "reconstructions": jnp.moveaxis(io["found"], -1, 1),
        **to_nchw(_critic_outputs(case, critic, statistics, io)),
        **_lpips_outputs(lpips, io),
        **to_nchw(_posteriors(io)),
        **_losses(case, kernel, lambda x: critic(x, statistics), lpips.distance, io),
        **_codebook(io),
    }


def _to_image(kernel: Array, features: Array) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(features, kernel, (1, 1), "SAME", dimension_numbers=layout)


def _critic(case: Case) -> tuple[PatchCritic, list[tuple[Array, Array]]]:
    """The critic of a case and the running statistics of its norms."""
    config, tensors = case.meta["config"], {f"loss.{name}": x for name, x in case.weights.items()}
    channels = case.io["inputs"].shape[1]
    settings = {"channels": channels, "width": config["ndf"], "num_layers": config["n_layers"]}
    definition = define(lambda rngs: PatchCritic(**settings, rngs=rngs))
    places = [3 * i + 3 for i in range(config["n_layers"])]
    running = [[case.weights[f"discriminator.main.{i}.running_{kind}"] for kind in ("mean", "var")] for i in places]
    return definition.bind(ldm_autoencoder.load_critic(tensors, definition)), running


def _critic_outputs(case: Case, critic: PatchCritic, statistics, io: Mapping[str, Array]) -> dict[str, Array]:
    real, fake = critic(io["inputs"], statistics), critic(io["found"], statistics)
    real_losses, fake_losses = hinge(real, fake)
    weights = io["exemplar_weights"]
    weighted = jnp.sum(weights * real_losses) / weights.sum() + jnp.sum(weights * fake_losses) / weights.sum()
    first = jax.nn.leaky_relu(critic.conv_in(io["inputs"]), 0.2)
    seen = critic.convs[0](first)
    mean, variance = statistics[0]
    count = seen.size // seen.shape[-1]
    moved = (1 - _MOMENTUM) * variance + _MOMENTUM * seen.var((0, 1, 2)) * (count / (count - 1))
    return {
        "disc_logits_real_eval": real,
        "disc_logits_fake_eval": fake,
        "disc_logits_real_train": critic(io["inputs"]),
        "disc_bn_running_mean_after_one_train_forward": (1 - _MOMENTUM) * mean + _MOMENTUM * seen.mean((0, 1, 2)),
        "disc_bn_running_var_after_one_train_forward": moved,
        "hinge_d_loss": _mean(0.5 * sum(hinge(real, fake))),
        "vanilla_d_loss": _mean(0.5 * sum(vanilla(real, fake))),
        "hinge_d_loss_weighted": _mean(0.5 * weighted),
    }


@dataclasses.dataclass(frozen=True)
class _Lpips:
    network: Callable[[Params], LPIPS]
    params: Params

    @property
    def distance(self) -> Distance:
        return self.network(self.params)

    def at_depth(self, depth: int) -> Distance:
        """The part of one depth of the distance."""
        heads = {i: head if i == depth else 0 * head for i, head in self.params["heads"].items()}
        return self.network({**self.params, "heads": heads})


def _lpips(case: Case) -> _Lpips:
    """LPIPS with the widths of the case, which are narrower than VGG16's."""
    definition = define(lambda rngs: LPIPS("vgg", rngs=rngs))
    tensors = {name.replace("lpips.", "loss.perceptual_loss."): x for name, x in case.weights.items()}
    widths = case.meta["config"]["ch"]
    shapes, before = {"heads": {i: _shape(width) for i, width in enumerate(widths)}}, case.io["inputs"].shape[1]
    stages: Params = {}
    for i, convs in definition.shapes["backbone"]["stages"].items():
        stages[i] = {}
        for j in convs:
            stages[i][j] = {"kernel": _shape(3, 3, before, widths[i]), "bias": _shape(widths[i])}
            before = widths[i]
    shapes["backbone"] = {"stages": stages}
    return _Lpips(definition.bind, ldm_autoencoder.load_perceptual(tensors, shapes))


def _shape(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _lpips_outputs(lpips: _Lpips, io: Mapping[str, Array]) -> dict[str, Array]:
    images, found = io["inputs"], io["found"]
    out = {"lpips_value": lpips.distance(images, found)[:, None, None, None]}
    for i in lpips.params["heads"]:
        out[f"lpips_layer_{i}"] = lpips.at_depth(i)(images, found)[:, None, None, None]
    shift, scale = np.float32([[[[-0.030, -0.088, -0.188]]]]), np.float32([[[[0.458, 0.448, 0.450]]]])
    taps = lpips.distance.backbone.taps((images - shift) / scale)
    return out | {f"lpips_feat_mean_{i}": tap.mean((1, 2)) for i, tap in enumerate(taps)}


def _posteriors(io: Mapping[str, Array]) -> dict[str, Array]:
    mean, log_variance = split_moments(io["moments"])
    other = split_moments(io["moments_other"])
    prior = normal_kl(mean, log_variance, 0 * mean, 0 * mean)
    distance = jnp.square(io["posterior_nll_sample"] - mean) / jnp.exp(log_variance)
    return {
        "kl_per_sample": sum_flat(prior),
        "posterior_nll": 0.5 * sum_flat(np.float32(np.log(2 * np.pi)) + log_variance + distance),
        "kl_between": sum_flat(normal_kl(mean, log_variance, *other)),
        "normal_kl_prior": prior,
    }


def _losses(case: Case, kernel: Array, critic: Critic, distance: Distance, io: Mapping[str, Array]) -> dict[str, Array]:
    """The losses of both kinds of models around the step at which the critic begins to count."""
    config = case.meta["config"]
    settings = ReconstructionConfig(kl_weight=config["kw"], critic_start=config["start"], critic_weight=config["dw"])
    mean, log_variance = split_moments(io["moments"])
    penalties = {
        "kl": sum_flat(normal_kl(mean, log_variance, 0 * mean, 0 * mean)),
        "vq": jnp.broadcast_to(io["vq_codebook_loss_in"].mean(), len(mean)),
    }
    out = {}
    for kind, penalty in penalties.items():
        objective = Objective(kind, settings, distance, config["lv"])
        for name, offset in _STEPS.items():
            step = jnp.int32(config["start"] + offset)
            gradient, terms = _of_autoencoder(objective, kernel, critic, penalty, step, io)
            loss, logits = objective.of_critic(critic, io["inputs"], io["found"], step)
            terms |= {"gen_disc_factor": jnp.float32(offset >= 0), "disc_loss": loss, "disclog_disc_loss": loss}
            terms |= {f"disclog_{key}": x for key, x in logits.items()}
            terms |= {"gen_logvar": jnp.float32(config["lv"])} if kind == "kl" else {}
            out |= {f"{kind}_{name}_{key}": _mean(x) for key, x in terms.items()}
            out[f"{kind}_{name}_gen_grad_last_layer"] = gradient.transpose(3, 2, 0, 1)
    return out


def _of_autoencoder(
    objective: Objective, kernel: Array, critic: Critic, penalty: Array, step: Array, io: Mapping[str, Array]
) -> tuple[Array, dict[str, Array]]:
    """The gradient of the autoencoder's loss for the last kernel, and its terms under the names they have there."""

    def mean_loss(kernel: Array) -> tuple[Array, dict[str, Array]]:
        loss, terms = objective.of_autoencoder(io["inputs"], _to_image, kernel, io["features"], penalty, critic, step)
        return loss.mean(), {"loss": loss, "total_loss": loss, **terms}

    gradient, terms = jax.grad(mean_loss, has_aux=True)(kernel)
    terms["rec_loss"] = terms.pop("reconstruction") + terms["perceptual"]
    names = {"nll": "nll_loss", "adaptive_weight": "d_weight", "generator": "g_loss"}
    names |= {"kl": "kl_loss", "codebook": "quant_loss", "perceptual": "p_loss"}
    return gradient, {f"gen_{names.get(key, key)}": x for key, x in terms.items()}


def _codebook(io: Mapping[str, Array]) -> dict[str, Array]:
    z, table = io["vq_z"], io["vq_codebook"]
    definition = define(lambda rngs: Quantizer(*table.shape, rngs=rngs))
    indices = definition.bind({"embedding": table}).nearest(z)
    use, perplexity = codebook_use(indices, len(table))
    out = {
        "vq_quant": jnp.moveaxis(straight_through(z, table[indices]), -1, 1),
        "vq_indices": indices,
        "vq_perplexity": _mean(perplexity),
        "vq_cluster_use": _mean(use),
    }
    for name, weights in (("legacy", (1.0, 0.25)), ("fixed", (0.25, 1.0))):
        commitment, codebook = weights

        def loss(z: Array, table: Array, commitment=commitment, codebook=codebook) -> Array:
            return codebook_loss(z, table[indices], commitment=commitment, codebook=codebook).mean()

        value, (towards_z, towards_table) = jax.value_and_grad(loss, (0, 1))(z, table)
        out |= {f"vq_loss_{name}": _mean(value), f"vq_loss_grad_codebook_{name}": towards_table}
        out[f"vq_loss_grad_z_{name}"] = jnp.moveaxis(towards_z, -1, 1)
    return out


def _mean(x: Array) -> Array:
    """As one number in a list, like all losses there."""
    return jnp.mean(x)[None]

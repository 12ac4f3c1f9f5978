"""PDM's TensorFlow program: forward pass, layer statistics, training losses and their gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.config import DiffusionConfig
from pdm_jax.denoisers.bind import bind
from pdm_jax.denoisers.patched import patched
from pdm_jax.diffusion import Process, from_pdm, make_process, sqrt_snr_loss, vlb_loss
from pdm_jax.interop import pdm
from pdm_jax.interop.pdm_config import translate
from pdm_jax.networks import PDMUNet, define
from pdm_jax.networks.blocks import Signals
from pdm_jax.networks.functional import Definition
from pdm_jax.ops.embeddings import grid_code, time_code
from pdm_jax.ops.patching import patchify, unpatchify
from pdm_jax.types import Array, Cond, Denoiser, Params, Step
from tests.parity_kinds._case import Case

INPUTS = ("x", "t", "y", "train_x0", "train_eps", "train_t")
_TERMS = ("L_simple", "L_vlb", "total")


@dataclasses.dataclass(frozen=True)
class Network:
    """An official network in our terms."""

    definition: Definition
    params: Params
    patch_size: int

    def denoiser(self, params: Params, process: Process) -> Denoiser:
        """The network as a denoiser of images."""
        bound = bind(self.definition, params, process, prediction="x0", variance=from_pdm)
        return patched(bound, self.patch_size)


def build(config: Mapping, weights: list[tuple[str, np.ndarray]], **settings) -> Network:
    """The network of an official config and weights in their order; `settings` are more arguments of `PDMUNet`."""
    network, patch_size = translate(config)
    definition = define(lambda rngs: PDMUNet(**network, **settings, rngs=rngs))
    return Network(definition, pdm.load(weights, definition), patch_size)


def ordered_weights(case: Case) -> list[tuple[str, np.ndarray]]:
    """The weights in the order of the h5 file."""
    return [(name, case.weights[name]) for name in _names(case)]


def _names(case: Case) -> Iterator[str]:
    return (f"{group}/{weight}" for group, weight, *_ in case.meta["layout"])


def forward(network: Network, io: Mapping[str, np.ndarray]) -> tuple[Array, Array]:
    """The mean and the official variance output, (B, H, W, 3), of x at t with labels y."""
    return jax.jit(lambda params: _forward(network, params, io))(network.params)


def _forward(network: Network, params: Params, io: Mapping[str, np.ndarray]) -> tuple[Array, Array]:
    process = make_process(DiffusionConfig())  # converts between x0 and eps, and so does not touch these outputs
    x, t, label = _inputs(io)
    prediction = network.denoiser(params, process)(x, Step(t=t), Cond(label=label))
    return prediction.x0, 1 - prediction.variance


def _inputs(io: Mapping[str, np.ndarray]) -> tuple[Array, Array, Array | None]:
    return jnp.asarray(io["x"]), jnp.asarray(io["t"]), jnp.asarray(io["y"]) if "y" in io else None


def expected(meta: Mapping) -> dict[str, list[float]]:
    """Layer statistics, and gradient norms of all weights in a row (0 where there is no path to the loss)."""
    out = {f"trace/{name}": [s["mean"], s["std"], *s["first"], *s["last"]] for name, s in meta.get("trace", {}).items()}
    if rows := meta.get("train", {}).get("grad_norms"):
        for term in _TERMS:
            out[f"grad_norms/{term}"] = [row[term] or 0.0 for row in rows]
            out[f"reached_without_path/{term}"] = 0
    return out


def run(case: Case) -> dict[str, Array]:
    """All of the case's outputs."""
    io, network = case.io, build(case.meta["config"], ordered_weights(case))
    (mean, var), layers = jax.jit(lambda p: (_forward(network, p, io), _layers(network, p, io)))(network.params)
    patches = patchify(io["x"], network.patch_size)
    out = {
        "mean": mean,
        "var": var,
        "patches": patches,
        "from_patches": unpatchify(patches, network.patch_size),
        "positional_emb": grid_code(*patches.shape[1:3], case.meta["config"]["c"]),
    }
    out |= {f"trace/{name}": _statistics(np.asarray(h)) for name, h in layers.items()}
    return out | _training(case, network) if "train" in case.meta else out


def _training(case: Case, network: Network) -> dict[str, Array]:
    """The official terms are a mean of L_simple and a sum of L_vlb over the batch, added without weights."""
    io, train = case.io, case.meta["train"]
    process = make_process(DiffusionConfig(beta_max=train["beta_max"], dtype="float32", last_alpha="first"))
    x0, t = jnp.asarray(io["train_x0"]), jnp.asarray(io["train_t"])
    z_t = process.q_sample(x0, t, io["train_eps"])
    *_, label = _inputs(io)

    def losses(params: Params):
        prediction = network.denoiser(params, process)(z_t, Step(t=t), Cond(label=label))
        simple = sqrt_snr_loss(prediction, x0, t, process).mean()
        vlb = vlb_loss(prediction, x0, z_t, t, process).sum()
        return (simple, vlb), prediction

    @jax.jit
    def run(params: Params):
        values, pullback, prediction = jax.vjp(losses, params, has_aux=True)
        one, zero = jnp.ones(()), jnp.zeros(())
        (simple,), (vlb,) = pullback((one, zero)), pullback((zero, one))
        return values, prediction, {"L_simple": simple, "L_vlb": vlb, "total": jax.tree.map(jnp.add, simple, vlb)}

    (simple, vlb), prediction, grads = run(network.params)
    out = {
        "train_xt": z_t,
        "train_mean": prediction.x0,
        "train_var": 1 - prediction.variance,
        "L_simple": simple,
        "L_vlb": vlb,
    }
    return out | _gradient_norms(train.get("grad_norms", []), list(_names(case)), grads, network)


def _gradient_norms(
    rows: list[dict], names: list[str], grads: Mapping[str, Params], network: Network
) -> dict[str, np.ndarray]:
    """Norms in the order of `rows`; a null there must be exactly 0 here."""
    out = {}
    for term, tree in grads.items() if rows else ():
        by_name = zip(names, pdm.to_official(tree, network.definition), strict=True)
        norm = {name: np.linalg.norm(g) for name, g in by_name}
        norms = np.array([norm[row["key"]] for row in rows])
        pathless = np.array([row[term] is None for row in rows])
        out |= {f"grad_norms/{term}": norms, f"reached_without_path/{term}": np.count_nonzero(norms[pathless])}
    return out


def _layers(network: Network, params: Params, io: Mapping[str, np.ndarray]) -> dict[str, Array]:
    """What each layer puts out, under the official names."""
    unet, (x, t, label) = network.definition.bind(params), _inputs(io)
    x = patchify(x, network.patch_size)
    time, projected = unet.time_mlp(t), unet.conv_in(x)
    position = grid_code(*x.shape[1:3], projected.shape[-1])
    out = {"timestep_encoding": time_code(t, projected.shape[-1]), "temb_network": time}
    signals = Signals(time, None)
    if label is not None:
        embedding = unet.label_embedding(label)
        out["label_embs"] = embedding
        signals = Signals(time, embedding) if unet.use_gate else Signals(time + embedding, None)
    h = projected + position
    out |= {"in_proj": projected, "positional_emb": position}
    skips = [h]
    for i, entry in enumerate(unet.encoder):
        h = entry(h, signals)
        out[f"input_layers.{i}"] = h
        skips.append(h)
    first, last = unet.middle
    out["middle_layers.0"] = h = first.block(h, signals)
    out["middle_layers.1"] = h = first.attention(h)
    out["middle_layers.2"] = h = last(h, signals)
    for i, entry in enumerate(unet.decoder):
        h = entry(jnp.concatenate([h, skips.pop()], axis=-1), signals)
        out[f"output_layers.{i}"] = h
    output, variance = unet(x, t, Cond(label=label))
    return out | {"out_proj(patched)": output, "variance(patched)": variance}


def _statistics(h: np.ndarray) -> np.ndarray:
    """Mean, standard deviation, the first six numbers and the last three, as the reference has them."""
    return np.concatenate([[h.mean(dtype=np.float64), h.std(dtype=np.float64)], h.ravel()[:6], h.ravel()[-3:]])

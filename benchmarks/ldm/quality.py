"""How good samples are after more and more training, and at what speed (figures 6 and 7)."""

from __future__ import annotations

from pathlib import Path

from paper.pictures import chart, sheet
from report import Row

from ldm.lab import Lab
from ldm.scales import FACTORS, diffusion_config
from pdm_jax.pipelines.restore import Model

_SHOWN = 8  # samples in the picture


def run(lab: Lab, out: Path) -> list[Row]:
    """Fréchet distance in local features and samples/s of LDM-1, -2, -4, -8, by training and by sampling steps.

    Networks have equal steps, batches and about as many parameters. `reconstructions` are held-out images after the
    first stage: what LDM-f cannot get below. Distances compare within one folder of runs only.
    """
    scale, rows, drawn = lab.scale, [], {}
    for factor in FACTORS:
        name, config = f"LDM-{factor}", diffusion_config(lab.scale, factor)
        limit = lab.distance(lab.reconstructed(factor, lab.held_out))
        rows.append(_row(name, "reconstructions", None, None, limit, None))
        for step in scale.num_steps[:-1]:
            model = lab.latent_model(f"ldm_f{factor}", config, factor, step=step)
            samples, _ = lab.draw(model, scale.sampling_steps[-1], scale.num_samples)
            rows.append(_row(name, "training", step, scale.sampling_steps[-1], lab.distance(samples), None))
        model = lab.latent_model(f"ldm_f{factor}", config, factor)
        for steps in scale.sampling_steps:
            samples, speed = lab.draw(model, steps, scale.num_samples)
            rows.append(_row(name, "sampling", scale.num_steps[-1], steps, lab.distance(samples), speed))
        drawn[name] = samples[:_SHOWN] / 127.5 - 1
    drawn["held out"] = lab.held_out[:_SHOWN] / 127.5 - 1
    title = f"Samples after {scale.num_steps[-1]} steps ({lab.title})"
    sheet(out / "quality_samples.png", title, drawn, [""] * _SHOWN)
    _charts(rows, lab, out)
    return rows


def latent_diffusion(lab: Lab, factor: int) -> Model:
    """LDM-f after all its training."""
    return lab.latent_model(f"ldm_f{factor}", diffusion_config(lab.scale, factor), factor)


def _row(name: str, what: str, trained: int | None, steps: int | None, distance: float, speed: float | None) -> Row:
    return {
        "model": name,
        "what": what,
        "training steps": trained,
        "sampling steps": steps,
        "distance": distance,
        "samples/s": speed,
    }


def _charts(rows: list[Row], lab: Lab, out: Path) -> None:
    """Figure 6 and 7."""
    most = lab.scale.sampling_steps[-1]
    axes_of = {
        "quality_steps": ("training steps", lambda row: row["sampling steps"] == most),
        "quality_speed": ("samples/s", lambda row: row["samples/s"] is not None),
    }
    for name, (x, belongs) in axes_of.items():
        with chart(out / f"{name}.png", f"Quality ({lab.title})", x, "Fréchet distance") as axes:
            for factor in FACTORS:
                own = [row for row in rows if row["model"] == f"LDM-{factor}" and belongs(row)]
                axes.plot([row[x] for row in own], [row["distance"] for row in own], "o-", label=f"LDM-{factor}")
            axes.set_ylim(bottom=0)
            if x == "samples/s":
                axes.set_xscale("log")

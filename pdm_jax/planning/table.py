"""Reports as plain text, a column a slice, and as plain JSON."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from pdm_jax.planning.plan import Report
from pdm_jax.planning.roofline import ridge

_GIB = 2**30
_Cell = Callable[[Report], str]


def table(reports: Sequence[Report]) -> str:
    """All reports, a block for each program, and what the numbers mean."""
    blocks = [
        "\n".join(_block(list(group)))
        for _, group in itertools.groupby(reports, lambda report: (report.parts, report.kind))
    ]
    notes = ["Bytes, FLOPs and seconds are of one device; FLOPs are those of matrix products and convolutions."]
    notes.append("The time is a bound from published peaks, not a promise: no step is faster, and most are slower.")
    if any(report.is_estimate for report in reports):
        notes.append(
            "--quick: an estimate, by the compiler's least effort and at most two blocks a level, extrapolated."
        )
    return "\n\n".join([*blocks, "\n".join(notes)])


def as_json(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """The same as plain JSON: all fields of `Report`, bytes and seconds as they are."""
    return [
        dataclasses.asdict(report)
        | {
            "topology": report.where.name,
            "images_per_second": report.images_per_second,
            "bound_seconds": report.bound and report.bound.seconds,
            "limit": report.bound and report.bound.limit,
        }
        for report in reports
    ]


def _block(reports: list[Report]) -> list[str]:
    measured = [report for report in reports if report.measured]
    lines = [_title(reports[0], measured), ""]
    if measured:
        rows = [("", [report.where.name for report in measured])]
        rows += [(name, [cell(report) for report in measured]) for name, cell in _rows(measured)]
        label = max(len(name) for name, _ in rows)
        widths = [max(len(cells[i]) for _, cells in rows) for i in range(len(measured))]
        for name, cells in rows:
            cells = "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
            lines.append(f"{name.ljust(label)}  {cells}".rstrip())
    return lines + list(_remarks(reports))


def _title(first: Report, measured: list[Report]) -> str:
    what = "training step" if first.kind == "train" else "sampling"
    names = ", ".join(name for name in first.parts if name)
    count = f": {measured[0].measured.num_parameters:,.0f} parameters" if measured else ""
    if len(first.parts) > 1:
        count += " each"
    if measured and first.kind == "sample":
        count += f", {measured[0].measured.num_steps} steps an image, of which one is shown"
    estimate = " (estimate)" if first.is_estimate else ""
    return f"{what}{f' of {names}' if names else ''}{estimate}{count}"


def _rows(reports: list[Report]) -> list[tuple[str, _Cell]]:
    """What each line says, for the collectives that these reports have."""
    kinds = sorted({kind for report in reports for kind in report.measured.collectives})
    return [
        ("devices", lambda r: str(r.where.num_devices)),
        ("mesh", lambda r: " ".join(f"{name}={n}" for name, n in r.measured.mesh.items() if n > 1) or "-"),
        ("batch", lambda r: str(r.measured.batch_size)),
        ("memory: arguments", lambda r: _gib(r.measured.argument_bytes)),
        ("        temporaries", lambda r: _gib(r.measured.temp_bytes)),
        ("        peak", lambda r: _gib(r.measured.peak_bytes)),
        ("        HBM", lambda r: _gib(r.where.memory)),
        ("fits", _fits),
        ("largest batch", _largest),
        ("FLOPs: model", lambda r: _si(r.measured.model_flops, r)),
        ("       compiled", lambda r: _si(r.measured.flops, r)),
        ("       ratio", _ratio),
        ("bytes accessed", lambda r: _si(r.measured.bytes_accessed, r, "B")),
        ("FLOPs a byte (chip)", _intensity),
        *((kind, lambda r, kind=kind: _collective(r, kind)) for kind in kinds),
        ("bound: compute", lambda r: _seconds(r, "compute")),
        ("       memory", lambda r: _seconds(r, "memory")),
        ("       network", lambda r: _seconds(r, "network")),
        ("       step", lambda r: _seconds(r, "seconds")),
        ("images/s at most", lambda r: "-" if r.bound is None else f"{r.images_per_second:.3g}"),
    ]


def _remarks(reports: Sequence[Report]):
    for report in reports:
        name, measured = report.where.name, report.measured
        if report.problem:
            yield f"\n{name}: {report.problem}"
        elif not measured.fits:
            yield f"\n{name}: does not fit; " + (
                "it may with:" if report.advice else "take more devices or fewer images"
            )
            for use in report.advice:
                yield f"  {' '.join(f'--{setting}' for setting in use.settings)}: about {_gib(use.total)}"
        if measured and measured.unknown_loops:
            yield f"\n{name}: {measured.unknown_loops} loops of unknown length count as if they ran once"


def _fits(report: Report) -> str:
    available = report.measured.available_bytes
    if report.measured.fits:
        return "yes"
    return f"no, {_gib(available)} free" if available else "no"


def _largest(report: Report) -> str:
    if report.largest is None:
        return "-"
    if report.largest.size == 0:
        return "none found"
    return {"confirmed": "", "estimate": "~", "at least": ">="}[report.largest.how] + str(report.largest.size)


def _ratio(report: Report) -> str:
    measured = report.measured
    return "-" if not (measured.flops and measured.model_flops) else f"{measured.flops / measured.model_flops:.3f}x"


def _intensity(report: Report) -> str:
    measured = report.measured
    if not measured.bytes_accessed:
        return "-"
    return f"{measured.flops / measured.bytes_accessed:.0f} ({ridge(report.where):.0f})"


def _collective(report: Report, kind: str) -> str:
    count, sent = report.measured.collectives.get(kind, (0, 0))
    steps = report.measured.num_steps
    return f"{count / steps:.3g} x, {_si(sent, report, 'B')}" if count else "-"


def _seconds(report: Report, name: str) -> str:
    if report.bound is None:
        return "-"
    return f"{getattr(report.bound, name) / report.measured.num_steps * 1e3:.4g} ms"


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / _GIB:.2f} GiB"


def _si(value: float | None, report: Report, unit: str = "") -> str:
    """A count of one step, in powers of 1000."""
    if value is None:
        return "-"
    value /= report.measured.num_steps
    for prefix in ("", "k", "M", "G"):
        if abs(value) < 1000:
            return f"{value:.3g} {prefix}{unit}".rstrip()
        value /= 1000
    return f"{value:.4g} T{unit}"

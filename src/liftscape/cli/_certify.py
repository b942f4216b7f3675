"""`liftscape certify`: what kind of point a network stands at."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from safetensors.torch import save

from liftscape._files import write_atomically
from liftscape.cli._inspect import inspection_tables, run_inspection, write_page
from liftscape.cli._options import Checkpoint, Data, Dtype, Json, LossName, Model, Recipe, Weights
from liftscape.cli._print import (
    as_json,
    as_text,
    facts,
    interrupted_as,
    progress,
    show,
    user_output_aside,
    write_json,
)
from liftscape.cli._user_model import load, risk_of
from liftscape.critical import CriticalSearch, find_critical_point
from liftscape.critical import certify as certify_risk
from liftscape.outcomes import LoadError, to_plain
from liftscape.report import check_folder
from liftscape.risk import EmpiricalRisk

Search = Literal["minimum", "newton-mr", "none"]

_DEFAULT = Path("certificate")
_PROBES = 30
# Entries of the evidence that are lists or tables, which stand in the file alone.
_LONG = {"spectrum", "higher_order_steps", "higher_order_decreases", "contraction", "null_profile"}


def certify(
    model: Model,
    *,
    data: Data,
    loss: LossName = None,
    weights: Weights = None,
    recipe: Recipe = None,
    search: Annotated[Search, Parameter(help="Search a critical point from the weights first.")] = "none",
    save_point: Annotated[Path | None, Parameter(help="Save the found point's weights as .safetensors.")] = None,
    dtype: Dtype = "float64",
    checkpoint: Checkpoint = None,
    json: Json = False,
    out: Annotated[
        Path | None,
        Parameter(
            help="Folder for report.html, or a .json file for the certificate alone; "
            "'certificate' if not given, nothing then with --json.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Certify what kind of point a network stands at: minimum, saddle, undecided, not critical.

    The certificate comes with its evidence: gradient norm, inertia of the Hessian, thresholds, kink margin; beside it
    stand the parameters, trace and extreme eigenvalues of each layer.
    """
    target = _DEFAULT if out is None and not json else out
    _check_outputs(target, save_point, search)
    with user_output_aside():
        given = load(model, data, weights, recipe, dtype)
        risk = risk_of(given, loss)
        found = None if search == "none" else _search(risk, search)
        place = risk if found is None else risk.with_model(found.model)
        kept = "nothing was written" if checkpoint is None else f"the same command goes on from {checkpoint}"
        with interrupted_as(kept), progress("certifying") as advance:
            folder = None if checkpoint is None else checkpoint / "certificate"
            certificate = certify_risk(place, progress=advance, checkpoint=folder)
        inspection = run_inspection(place, None, _PROBES, 0, checkpoint)
    result: dict[str, Any] = {
        "certificate": certificate.to_dict(),
        "inspection": inspection.to_dict(),
        "search": None if found is None else _summary(found),
        "loss": to_plain(float(risk.value() if found is None else found.value)),
        "parameters": risk.size,
        "samples": risk.batches.samples,
        "dtype": dtype,
    }
    if save_point is not None and found is not None:
        _save_point(found, save_point)
    written = " and ".join(str(path) for path in (save_point, target) if path is not None)
    with interrupted_as(f"{written} was written" if written else "nothing was written"):
        rows = _certificate_facts(result)
        if target is not None and _is_json(target):
            write_json(result, target)
        elif target is not None:
            write_page(inspection, target, as_json(result), {name: as_text(value) for name, value in rows.items()})
        if json:
            write_json(result)
            return
        if found is not None:
            show(facts("Search", {name: value for name, value in _summary(found).items() if name != "value"}))
        show(facts("Certificate", rows), inspection_tables(inspection)[1])
        if written:
            show(f"Written: {written}")


def _is_json(target: Path) -> bool:
    """Tell a file for the certificate from a folder for the report."""
    return target.suffix == ".json"


def _search(risk: EmpiricalRisk, method: Literal["minimum", "newton-mr"]) -> CriticalSearch:
    """Search a critical point from the model's own weights."""
    with progress("searching a critical point") as advance:
        return find_critical_point(risk, method=method, progress=advance)


def _summary(found: CriticalSearch) -> dict[str, Any]:
    """Return a search without its parameters and its history."""
    kept = ("status", "value", "gradient_norm", "flatness", "method", "tolerance", "reason", "advice")
    return {name: entry for name, entry in found.to_dict().items() if name in kept} | {"steps": len(found.history)}


def _certificate_facts(result: dict[str, Any]) -> dict[str, Any]:
    """Return the certificate's rows, its inertia as a triple with its threshold."""
    certificate, rows = dict(result["certificate"]), {}
    evidence = dict(certificate["evidence"])
    reading, counts = evidence.pop("plateau", None), evidence.pop("partial_inertia", None)
    certificate["evidence"] = evidence
    if reading is not None:
        rows["where training stands"] = reading["reading"]
    if counts is not None:
        rows["inertia (n₋, n₀, n₊)"] = (
            f"n₋ ≥ {counts['negative_at_least']}, n₊ ≥ {counts['positive_at_least']} proved; "
            f"zero means |λ| ≤ {counts['tolerance']:.1e}"
        )
    for name, value in certificate.items():
        if name in {"inertia", "degeneracy"} and certificate["kind"] == "not critical":
            # Away from critical points the signs say nothing about the network's place.
            continue
        if name == "inertia" and isinstance(value, dict):
            rows["inertia (n₋, n₀, n₊)"] = f"({value['negative']}, {value['zero']}, {value['positive']})"
            rows["zero means"] = (
                f"|λ| ≤ {value['tolerance']:.1e}; the smallest counted |λ| is {_short(value['margin'])}× that"
            )
        elif isinstance(value, dict):
            rows[name.replace("_", " ")] = "; ".join(
                f"{key.replace('_', ' ')} {_short(entry)}"
                for key, entry in value.items()
                if key not in _LONG and entry is not None
            )
        else:
            rows[name.replace("_", " ")] = value
    return {"kind": rows.pop("kind", None), "loss": result["loss"], **rows}


def _short(entry: Any) -> str:
    """Write numbers with the digits that matter."""
    return f"{entry:.3g}" if isinstance(entry, float) else str(entry)


def _save_point(found: CriticalSearch, path: Path) -> None:
    """Save the found point's weights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Clones, since a tied tensor may stand in a file of weights only as two.
    tensors = {name: tensor.clone().contiguous() for name, tensor in found.model.state_dict().items()}
    write_atomically(path, save(tensors))


def _check_outputs(out: Path | None, save_point: Path | None, search: Search) -> None:
    """Raise before the work is done if its result could not be written."""
    if save_point is not None and search == "none":
        raise LoadError(f"--save-point {save_point} saves what a search finds; give --search minimum or newton-mr.")
    if save_point is not None and save_point.suffix != ".safetensors":
        raise LoadError(f"--save-point writes a .safetensors file, but {save_point} was given.")
    if save_point is not None and save_point.is_dir():
        raise LoadError(f"{save_point} is a folder; name a file.")
    if save_point is not None and save_point.exists():
        raise LoadError(f"{save_point} exists already, so it is not overwritten; name another file.")
    if out is None:
        return
    if not _is_json(out):
        check_folder(out)
    elif out.is_dir():
        raise LoadError(f"{out} is a folder; name a file.")
    elif out.exists() and not out.read_bytes().lstrip().startswith(b"{"):
        raise LoadError(f"{out} exists and is no certificate, so it is not overwritten; name another file.")

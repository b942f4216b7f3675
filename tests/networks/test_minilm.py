"""MiniLM (BERT, six GELU) on lines of Shakespeare: tail lifts keep outputs, its MLP blocks fold by least squares."""

import copy

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls
from liftscape.functional import call_model, trainable_parameters
from liftscape.linearity import find_runs
from liftscape.sites import find_sites

from .nets import minilm, token_batches

BARS = {torch.float32: 1e-5, torch.float64: 1e-12}
LAYER = "encoder.layer.3"
GELU = f"{LAYER}.intermediate.intermediate_act_fn"


def states(model: nn.Module, batches: list[dict[str, Tensor]]) -> Tensor:
    """Return the last hidden states of all tokens that are no padding, as rows."""
    found = []
    with torch.no_grad():
        for batch in batches:
            output = call_model(model, trainable_parameters(model), batch).last_hidden_state
            found.append(output[batch["attention_mask"].bool()])
    return torch.cat(found)


@pytest.mark.long
@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize(
    "at",
    ["intermediate.dense", "output.dense", "attention.self.query", "attention.self.value", "attention.output.dense"],
)
def test_tail_lifts_keep_outputs(dtype: torch.dtype, at: str) -> None:
    model, tokeniser = minilm(dtype)
    batches = token_batches(tokeniser, 64, 32)
    site = f"{LAYER}.{at}"
    assert {each.name: each.refusal for each in find_sites(model, batches)}[site] is None
    lifted = ls.lift(model, batches, site, activation="gelu")
    evidence = lifted.sites[0]
    assert 0 < evidence.bound <= torch.finfo(dtype).eps
    assert evidence.margin > 0
    before, after = states(model, batches), states(lifted.model, batches)
    assert float((after - before).abs().max() / before.abs().max()) <= BARS[dtype]
    folded = ls.fold(lifted, batches, at=f"{site}.activation")
    assert folded.removed == (f"{site}.activation",)
    assert float((states(folded.model, batches) - before).abs().max() / before.abs().max()) <= BARS[dtype]


@pytest.mark.long
def test_an_mlp_block_folds_into_the_map_that_fits_best() -> None:
    model, tokeniser = minilm()
    batches = token_batches(tokeniser, 256, 32)
    kept = copy.deepcopy(model.state_dict())
    runs = find_runs(model, batches)
    assert [run.activation for run in runs] == [GELU.replace("3", str(layer)) for layer in range(6)]
    assert all(run.refusal is None and not run.is_call for run in runs)
    folded = ls.fold(model, batches, at=GELU, method="least-squares")
    assert type(folded.model) is type(model)
    assert folded.parameters_before - folded.parameters_after == 384 * 1536 * 2 + 1536 - 384 * 384
    # The same fit by a solver of its own, from features that are kept.
    pairs: dict[str, list[Tensor]] = {"h": [], "z": []}
    handles = [
        model.get_submodule(f"{LAYER}.intermediate.dense").register_forward_pre_hook(
            lambda _module, args: pairs["h"].append(args[0].double().flatten(0, 1))
        ),
        model.get_submodule(f"{LAYER}.output.dense").register_forward_hook(
            lambda _module, _args, output: pairs["z"].append(output.double().flatten(0, 1))
        ),
    ]
    before = states(model, batches)
    for handle in handles:
        handle.remove()
    h, z = (torch.cat(pairs[key]) for key in ("h", "z"))
    deviations, targets = h - h.mean(dim=0), z - z.mean(dim=0)
    # Directions in which the features vary by less than float32 tells, each in units of its spread, are rounding.
    spread = deviations.square().mean(dim=0).sqrt()
    best = torch.linalg.pinv(deviations / spread, rtol=1e-6) @ targets / spread[:, None]
    r2 = 1 - float((deviations @ best - targets).square().sum() / targets.square().sum())
    assert folded.report[0].r2 == pytest.approx(r2, abs=1e-6)
    assert 0.3 < r2 < 0.999
    made = folded.model.get_submodule(f"{LAYER}.output.dense")
    assert isinstance(made, nn.Linear)
    assert float((made.weight.detach().double() - best.T).abs().max() / best.abs().max()) < 1e-4
    after = states(folded.model, batches)
    cosine = torch.nn.functional.cosine_similarity(before, after, dim=1)
    assert float(cosine.mean()) > 0.9
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items())
    print(f"R² {r2:.4f}, mean cosine of hidden states {float(cosine.mean()):.4f}")


class Pooled(nn.Module):
    """Sentence vectors from two tensors, as a wrapper around a model that takes names."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return (hidden * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


@pytest.mark.long
def test_through_a_wrapper_with_a_risk() -> None:
    model, tokeniser = minilm()
    batches = token_batches(tokeniser, 64, 32)
    pooled = Pooled(model)
    with torch.no_grad():
        data = [((batch["input_ids"], batch["attention_mask"]), None) for batch in batches]
        data = [(inputs, pooled(*inputs) + 0.01) for inputs, _ in data]
    risk = ls.EmpiricalRisk(pooled, "mse", data)
    search = ls.fold_within(risk, budget=1.0, at=[f"model.{GELU}"])
    assert [step.activation for step in search.steps] == ["", f"model.{GELU}"]
    assert search.steps[1].operations < search.steps[0].operations
    rows = {row.name: row for row in ls.layer_linearity(risk).rows}
    assert rows[f"model.{GELU}"].loss_change == pytest.approx(search.steps[1].loss - search.steps[0].loss, rel=1e-3)

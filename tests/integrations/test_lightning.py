"""A monitor in Lightning's training: it reads at its interval, logs plain numbers, and the training is the same."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import liftscape as ls
from liftscape.training import Monitor

pl = pytest.importorskip("lightning.pytorch", reason="needs the extra 'lightning'", exc_type=ImportError)

# What Lightning tells about itself and the machine, not about what it was given.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*GPU available but not used"),
]


class Careless(nn.Module):
    """Draws a number in every call and leaves it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.rand(())
        return x


class Regression(pl.LightningModule):
    """A network with Dropout and BatchNorm, which would show a reading that left a trace."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 6), nn.ReLU()]
        self.net = nn.Sequential(*layers, Careless(), nn.Linear(6, 1))

    def training_step(self, batch: list[torch.Tensor], _index: int) -> torch.Tensor:
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class Kept(pl.loggers.logger.Logger):
    """A logger that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int | None, dict[str, float]]] = []

    @property
    def name(self) -> str:
        return "kept"

    @property
    def version(self) -> str:
        return "0"

    def log_hyperparams(self, *_args: object, **_kwargs: object) -> None:
        pass

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.seen.append((step, metrics))


def data() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    return x, x.sum(dim=1, keepdim=True).sin()


def trained(
    every: int | None, logger: Kept | None = None, **settings: object
) -> tuple[Regression, object, "pl.Trainer"]:
    """Train two epochs of eight batches, with a monitor or without."""
    torch.manual_seed(1)
    module = Regression()
    watch = None
    if every is not None:
        risk = ls.EmpiricalRisk(module.net.eval(), "mse", data())
        watch = ls.integrations.LightningMonitor(Monitor(risk, probe=16), every=every)
        module.net.train()
    options = {"max_epochs": 2, "accelerator": "cpu", "devices": 1} | settings
    silent = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(**options, **silent, logger=logger or False, callbacks=[] if watch is None else [watch])
    torch.manual_seed(2)
    trainer.fit(module, DataLoader(TensorDataset(*data()), batch_size=5, shuffle=True))
    return module, watch, trainer


def test_weights_are_the_same_bits_with_and_without_and_readings_come_at_the_interval() -> None:
    alone, _, _ = trained(None)
    module, watch, _ = trained(3)
    for (name, one), other in zip(alone.state_dict().items(), module.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert [reading.step for reading in watch.readings] == [0, 3, 6, 9, 12, 15]
    assert [row.name for row in watch.readings[0].layers] == ["2", "5"]
    assert all(part.training for part in module.net)


@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval")
def test_numbers_reach_the_logger_at_the_step_that_they_were_read_at() -> None:
    logger = Kept()
    _, watch, trainer = trained(5, logger)
    seen = [(step, metrics) for step, metrics in logger.seen if "liftscape/value" in metrics]
    assert [step for step, _ in seen] == [0, 5, 10, 15]
    for (_, metrics), reading in zip(seen, watch.readings, strict=True):
        assert all(type(value) is float for value in metrics.values())
        assert metrics["liftscape/value"] == reading.value
        assert metrics["liftscape/lowest"] == reading.lowest
        assert metrics["liftscape/5/occupancy"] == reading.layers[1].occupancy
    assert float(trainer.callback_metrics["liftscape/value"]) == pytest.approx(watch.readings[-1].value)


def test_a_reading_is_of_the_network_in_eval_mode() -> None:
    torch.manual_seed(1)
    x, y = data()
    expected = nn.functional.mse_loss(Regression().net.eval()(x[:16]), y[:16])
    assert trained(100)[1].readings[0].value == pytest.approx(float(expected.detach()), rel=1e-6)


def test_steps_are_the_optimizers_where_gradients_accumulate() -> None:
    alone, _, _ = trained(None, accumulate_grad_batches=4)
    module, watch, _ = trained(2, accumulate_grad_batches=4)
    assert [reading.step for reading in watch.readings] == [0, 2]
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), module.parameters(), strict=True))


def test_the_probe_follows_the_trainers_precision() -> None:
    _, watch, _ = trained(8, precision="64-true")
    assert [reading.step for reading in watch.readings] == [0, 8]
    assert watch.readings[1].value == watch.readings[1].value


@pytest.mark.usefixtures("unchecked")
def test_a_monitor_of_another_network_and_an_empty_interval_are_refused() -> None:
    stranger = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    monitor = Monitor(ls.EmpiricalRisk(stranger, "mse", data()))
    for every in (0, 1.5, True, "a"):
        with pytest.raises(ls.LiftscapeError, match=f"a whole number of at least 1, not {every!r}"):
            ls.integrations.LightningMonitor(monitor, every=every)
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ls.integrations.LightningMonitor(monitor)],
    )
    with pytest.raises(ls.LiftscapeError, match="watches a Sequential with parameters that Regression does not train"):
        trainer.fit(Regression(), DataLoader(TensorDataset(*data()), batch_size=5))
    assert monitor.readings == []

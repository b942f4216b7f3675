"""A monitor as a callback of Lightning's Trainer."""

from typing import Any, final

import torch

from liftscape.integrations._packages import missing
from liftscape.integrations._watch import Watch
from liftscape.outcomes import MissingPackageError
from liftscape.training import Monitor, Reading

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise MissingPackageError(missing(error, "lightning", "lightning", "LightningMonitor")) from error

__all__ = ["LightningMonitor"]


@final
class LightningMonitor(Callback):
    """Records a network's curvature, gradient and linearity while Lightning trains it, and never changes the training.

    It looks before the optimizer's steps 0, every, 2·every, …, with the network in eval mode for that moment, on the
    main process. Numbers go to the trainer's loggers and into ``trainer.callback_metrics``, named ``liftscape/…``.

    Args:
        monitor: made in eval mode where there is dropout; of a risk of the LightningModule, or of a network in it.
        every: optimizer steps from one record to the next.

    Raises:
        LiftscapeError: if every is no whole number of at least 1.
        MissingPackageError: if Lightning is not installed.

    Example:
        >>> from liftscape import EmpiricalRisk, Monitor
        >>> net = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
        >>> x = torch.ones(8, 1)
        >>> watch = LightningMonitor(Monitor(EmpiricalRisk(net, "mse", (x, x))), every=50)
        >>> watch.readings
        ()
    """

    def __init__(self, monitor: Monitor, *, every: int = 100) -> None:
        super().__init__()
        self._watch = Watch(monitor, every)

    @property
    def readings(self) -> tuple[Reading, ...]:
        """What has been recorded."""
        return tuple(self._watch.monitor.readings)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with the training's first step.

        Args:
            trainer: Lightning's.
            pl_module: what it trains.

        Raises:
            LiftscapeError: if the monitor's network is no part of it.
        """
        self._watch.start(pl_module, trainer.global_step)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Record if it is time to, and hand on the numbers.

        Args:
            trainer: Lightning's.
            pl_module: what it trains.
            batch: the next one.
            batch_idx: its number.
        """
        numbers = self._watch.look(trainer.global_step) if trainer.is_global_zero else None
        if numbers is None:
            return
        # LightningModule.log would keep them back until the trainer's own logging interval, and lose those between.
        for logger in trainer.loggers:
            logger.log_metrics(numbers, step=trainer.global_step)
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in numbers.items()})

"""A monitor as a callback of Transformers' Trainer."""

from typing import Any, final

from liftscape.integrations._packages import missing
from liftscape.integrations._watch import Watch
from liftscape.outcomes import MissingPackageError
from liftscape.training import Monitor, Reading

try:
    from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:
    raise MissingPackageError(missing(error, "transformers", "transformers", "TrainerMonitor")) from error

__all__ = ["TrainerMonitor"]


@final
class TrainerMonitor(TrainerCallback):
    """Records a network's curvature, gradient and linearity while Transformers' Trainer trains it, and changes nothing.

    It looks before the optimizer's steps 0, every, 2·every, …, with the network in eval mode for that moment, on the
    main process. Attached to a trainer, it logs through ``trainer.log``; given as one of its ``callbacks``, which do
    not know their trainer, it writes into ``state.log_history`` alone. Names are ``liftscape/…``.

    Args:
        monitor: made in eval mode where there is dropout; of a risk of the model, or of a network in it.
        every: optimizer steps from one record to the next.

    Raises:
        LiftscapeError: if every is no whole number of at least 1.
        MissingPackageError: if Transformers is not installed.

    Example:
        >>> import torch
        >>> from liftscape import EmpiricalRisk, Monitor
        >>> net = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
        >>> x = torch.ones(8, 1)
        >>> watch = TrainerMonitor(Monitor(EmpiricalRisk(net, "mse", (x, x))), every=50)
        >>> watch.readings
        ()
    """

    def __init__(self, monitor: Monitor, *, every: int = 100) -> None:
        self._watch = Watch(monitor, every)
        self._trainer: Trainer | None = None

    @property
    def readings(self) -> tuple[Reading, ...]:
        """What has been recorded."""
        return tuple(self._watch.monitor.readings)

    def attach(self, trainer: Trainer) -> "TrainerMonitor":
        """Become one of a trainer's callbacks, and log through it.

        Args:
            trainer: before it trains.

        Returns:
            The callback.
        """
        if self not in trainer.callback_handler.callbacks:
            trainer.add_callback(self)
        self._trainer = trainer
        return self

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin with the training's first step.

        Args:
            args: of the training.
            state: of the training.
            control: of the training.
            kwargs: with the model that is trained.

        Raises:
            LiftscapeError: if the monitor's network is no part of it.
        """
        self._watch.start(kwargs["model"], state.global_step)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Record if it is time to, and hand on the numbers.

        Args:
            args: of the training.
            state: of the training.
            control: of the training.
            kwargs: not used.
        """
        numbers = self._watch.look(state.global_step) if state.is_world_process_zero else None
        if numbers is None:
            return
        if self._trainer is not None:
            self._trainer.log(numbers)
        else:
            state.log_history.append({**numbers, "epoch": state.epoch, "step": state.global_step})

"""A monitor in the training of Transformers' Trainer: the training is the same, and the numbers are logged."""

import warnings
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

import liftscape as ls
from liftscape.training import Monitor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers", reason="needs the extra 'transformers'", exc_type=ImportError)

pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory.*no accelerator")


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=8,
        num_labels=2,
    )
    return transformers.BertForSequenceClassification(config)


class Sentences(Dataset):
    """Random words, and whether the first is below ten."""

    def __init__(self) -> None:
        self.words = torch.randint(0, 20, (24, 6), generator=torch.Generator().manual_seed(0))
        self.labels = (self.words[:, 0] < 10).long()

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.words[index], "labels": self.labels[index]}


def trainer(folder: Path, network: torch.nn.Module, **settings: object) -> "transformers.Trainer":
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=2,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        seed=3,
    )
    return transformers.Trainer(model=network, args=arguments, train_dataset=Sentences(), **settings)


def watching(network: torch.nn.Module, every: int) -> "ls.integrations.TrainerMonitor":
    data = Sentences()
    risk = ls.EmpiricalRisk(network.eval(), "cross_entropy", (data.words, data.labels))
    return ls.integrations.TrainerMonitor(Monitor(risk, probe=12), every=every)


def test_weights_are_the_same_bits_with_and_without_and_numbers_are_logged(tmp_path: Path) -> None:
    alone, watched = model(), model()
    trainer(tmp_path, alone).train()
    running = trainer(tmp_path, watched)
    watch = watching(watched, every=5).attach(running)
    assert watch.attach(running) is watch
    running.train()
    assert not all(torch.equal(a, b) for a, b in zip(model().parameters(), alone.parameters(), strict=True))
    for (name, one), other in zip(alone.state_dict().items(), watched.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert [reading.step for reading in watch.readings] == [0, 5, 10]
    logged = [entry for entry in running.state.log_history if "liftscape/value" in entry]
    assert [entry["step"] for entry in logged] == [0, 5, 10]
    for entry, reading in zip(logged, watch.readings, strict=True):
        assert entry["liftscape/highest"] == reading.highest
        assert all(type(value) in {int, float} for value in entry.values())


def test_as_one_of_the_callbacks_it_writes_into_the_history(tmp_path: Path) -> None:
    network = model()
    watch = watching(network, every=8)
    running = trainer(tmp_path, network, callbacks=[watch])
    running.train()
    logged = [entry for entry in running.state.log_history if "liftscape/value" in entry]
    assert [(entry["step"], entry["liftscape/value"]) for entry in logged] == [
        (reading.step, reading.value) for reading in watch.readings
    ]
    assert [reading.step for reading in watch.readings] == [0, 8]


def test_a_monitor_of_another_network_is_refused(tmp_path: Path) -> None:
    running = trainer(tmp_path, model(), callbacks=[watching(model(), every=1)])
    with pytest.raises(ls.LiftscapeError, match="make it from a risk of the network that is trained"):
        running.train()


def test_inputs_are_what_the_model_takes_by_name(tmp_path: Path) -> None:
    """A tokeniser gives a dict; the readings are those of the one tensor in it."""
    data, found = Sentences(), []
    for inputs in (data.words, {"input_ids": data.words, "attention_mask": torch.ones_like(data.words)}):
        network = model()
        risk = ls.EmpiricalRisk(network.eval(), "cross_entropy", [(inputs, data.labels)])
        watch = ls.integrations.TrainerMonitor(Monitor(risk, probe=12), every=5)
        running = trainer(tmp_path, network, callbacks=[watch])
        running.train()
        found.append([(reading.step, reading.value, reading.highest) for reading in watch.readings])
    assert len(found[0]) == 3
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other, rel=1e-4)

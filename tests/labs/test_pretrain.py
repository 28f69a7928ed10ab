"""The pretraining lab: its marks, its optimizers, and a run that is cut short and goes on."""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from llmquiz.lab.sdk import LabError  # noqa: E402
from llmquiz.llm.base.load import FOLDER, base_model  # noqa: E402
from llmquiz.llm.base.tokenizer import read_tokenizer  # noqa: E402
from llmquiz.llm.data.corpus import documents  # noqa: E402
from llmquiz.llm.errors import TrainingError  # noqa: E402
from llmquiz.llm.train.distributed import Ranks  # noqa: E402

from .running import Results, run_here  # noqa: E402

pytestmark = pytest.mark.labs


@pytest.fixture(scope="module")
def results() -> Results:
    torch.set_num_threads(1)
    return run_here("pretrain", size="tiny", steps=16)


def table(results: Results, name: str) -> dict[object, tuple[object, ...]]:
    (found,) = [table for table in results.tables if table.name == name]
    return {row[0]: tuple(row[1:]) for row in found.rows}


@pytest.mark.slow
def test_the_marks_are_in_order_and_the_model_is_where_the_metrics_say(results: Results) -> None:
    rows = table(results, "on held-out text")
    loss = {name: row[0] for name, row in rows.items()}

    assert list(loss) == ["uniform guess", "token frequencies", "pair frequencies", "this model", "shipped model"]
    assert loss["uniform guess"] == math.log(2048)
    assert 7.62 > results.metrics["unigram_loss"] > results.metrics["bigram_loss"] > results.metrics["shipped_loss"]
    assert loss["this model"] == results.metrics["loss"] < results.metrics["first_loss"]
    for nats, perplexity, _ in rows.values():
        assert perplexity == pytest.approx(math.exp(float(str(nats))))


def test_bits_per_byte_are_those_of_the_text(results: Results) -> None:
    """All nats of some text over all its bytes, from the definition."""
    texts = [doc.text for doc in islice(documents((1 << 40) + 0), 500)]
    tokenizer = read_tokenizer(FOLDER / "tokenizer.json", {})
    tokens = sum(len(tokenizer.encode(f"<|bos|>{text}<|eos|>", special=True)) for text in texts)
    num_bytes = sum(len(text.encode()) for text in texts)

    assert results.metrics["bits_per_byte"] == pytest.approx(
        results.metrics["loss"] * tokens / (math.log(2) * num_bytes)
    )


def test_both_optimizers_are_drawn_from_the_same_start(results: Results) -> None:
    curves = {name: [p for p in results.points if p.series == name] for name in ("tiny, muon", "tiny, adamw")}

    assert all([p.x for p in curve] == list(range(1, 17)) for curve in curves.values())
    first = {curve[0].y for curve in curves.values()}
    assert len(first) == 1  # same weights, same batch
    assert first.pop() == pytest.approx(math.log(2048), abs=0.1)
    assert results.metrics["step_ratio"] >= 1.0


def test_samples_are_of_both_models(results: Results) -> None:
    rows = table(results, "samples")

    assert len(rows) == 4
    assert rows["<|user|>What is LoRA?<|assistant|>"][1] == "LoRA trains two thin matrices beside each frozen weight."


@pytest.mark.slow
def test_a_run_that_was_cut_short_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """Twelve steps, and six steps of the same twelve, saved and resumed."""
    from llmquiz.lab.catalog import Catalog
    from llmquiz.lab.child import load_run
    from llmquiz.lab.sdk import Params

    from .running import LABS

    lab = Catalog([(LABS, True)]).find("pretrain")
    module = load_run(LABS / "pretrain" / "lab.py", "pretrain").__globals__
    alone = Ranks(0, 1, "cpu")

    def params(**values: object) -> Params:
        return Params(lab.manifest.resolve({"size": "tiny", "steps": 12, **values}), device="cpu", seed=0)

    class CutError(Exception):
        pass

    def stop_at_six(step: int, *_: object) -> None:
        if step == 7:
            raise CutError

    file = tmp_path / "run.pt"
    module["SAVE_SECONDS"] = -1.0  # after every step
    whole = module["train"](alone, lambda *_: None, params(), "muon", "tiny")
    with pytest.raises(CutError):
        module["train"](alone, stop_at_six, params(checkpoint=str(file)), "muon", "tiny")
    steps: list[int] = []
    resumed = module["train"](alone, lambda step, *_: steps.append(step), params(checkpoint=str(file)), "muon", "tiny")

    assert steps == [7, 8, 9, 10, 11, 12]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.slow
def test_a_finished_run_is_read_and_not_repeated(tmp_path: Path) -> None:
    file, folder = tmp_path / "run.pt", tmp_path / "model"
    once = run_here("pretrain", size="tiny", steps=4, checkpoint=str(file), folder=str(folder))
    again = run_here("pretrain", size="tiny", steps=4, checkpoint=str(file))

    assert again.metrics["loss"] == once.metrics["loss"]
    assert not [point for point in again.points if point.series == "tiny, muon"]
    assert isinstance(base_model(str(folder)).model(torch.zeros(1, 4, dtype=torch.long)), torch.Tensor)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.pt").write_bytes(b"no checkpoint")
    with pytest.raises((LabError, TrainingError), match=r"run\.pt"):
        run_here("pretrain", size="tiny", checkpoint=str(tmp_path / "run.pt"))


@pytest.mark.slow
def test_minutes_end_the_run_with_its_decay() -> None:
    ended = run_here("pretrain", size="tiny", steps=60, minutes=0.002)
    steps = [point.x for point in ended.points if point.series == "tiny, muon"]
    assert 0 < len(steps) < 60


def test_more_processes_than_rows_are_refused() -> None:
    with pytest.raises(LabError, match="8 windows cannot be shared by 9 processes"):
        run_here("pretrain", size="tiny", processes=9)

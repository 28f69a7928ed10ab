"""Every hardware gets a format and reasons; what is slow or unsafe is said, never refused."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.base import dtype as module  # noqa: E402
from llmquiz.llm.base.dtype import Hardware, choose_dtype, detect  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402

pytestmark = pytest.mark.labs

A100, T4, H100, P40 = (Hardware("cuda", capability) for capability in ((8, 0), (7, 5), (9, 0), (6, 1)))
PLAIN_CPU, AMX_CPU = Hardware("cpu"), Hardware("cpu", features=frozenset({"avx2", "amx_bf16", "avx512_bf16"}))


@pytest.mark.parametrize(
    ("hardware", "inference", "training"),
    [
        (A100, "bfloat16", "bfloat16"),
        (Hardware("cuda", (8, 6)), "bfloat16", "bfloat16"),  # RTX 3090
        (H100, "bfloat16", "bfloat16"),
        (Hardware("cuda", (12, 0)), "bfloat16", "bfloat16"),  # newer than the table
        (T4, "float16", "float32"),
        (P40, "float32", "float32"),
        (PLAIN_CPU, "float32", "float32"),
        (AMX_CPU, "bfloat16", "bfloat16"),
        (Hardware("mps"), "float16", "float32"),
        (Hardware("xpu"), "float32", "float32"),
    ],
)
def test_the_table_answers_for_everything(hardware: Hardware, inference: str, training: str) -> None:
    for wanted, is_training in ((inference, False), (training, True)):
        choice = choose_dtype(hardware, training=is_training)
        assert choice.dtype is getattr(torch, wanted)
        assert len(choice.reasons) == 2
        assert not any("warning" in reason for reason in choice.reasons)


def test_a_bf16_checkpoint_is_not_squeezed_into_fp16() -> None:
    choice = choose_dtype(T4, trained_in=torch.bfloat16)

    assert choice.dtype is torch.float32
    assert "whose range float16 lacks" in choice.reasons[-1]


def test_what_is_asked_for_is_taken_with_a_warning() -> None:
    slow = choose_dtype(PLAIN_CPU, wanted="float16", training=True, trained_in=torch.bfloat16)

    assert slow.dtype is torch.float16
    assert ["slow" in slow.reasons[1], "vanish" in slow.reasons[2], "65504" in slow.reasons[3]] == [True] * 3
    assert choose_dtype(H100, wanted="float32").reasons == ("asked for",)
    assert choose_dtype(H100, wanted="bfloat16").reasons == ("asked for",)


def test_no_such_format() -> None:
    with pytest.raises(ModelError, match="'int7' is not one of auto, float32"):
        choose_dtype(PLAIN_CPU, wanted="int7")


def test_a_cpu_computes_both_halves() -> None:
    """The false lesson is that it cannot."""
    for half in (torch.float16, torch.bfloat16):
        x = torch.full((4, 8), 0.5, dtype=half)
        assert (x @ x.T == 2).all()


def test_the_cpus_own_flags_are_read(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nmodel name : any\nflags\t: fpu avx2 avx512_bf16\nbogomips : 1\n")

    assert module._cpu_features(cpuinfo) == {"fpu", "avx2", "avx512_bf16"}
    assert module._cpu_features(tmp_path / "none") == frozenset()
    assert detect("cpu").kind == "cpu"
    assert choose_dtype(detect("cpu")).dtype in (torch.float32, torch.bfloat16)

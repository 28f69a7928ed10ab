"""Names of results and their formulas in words, in English and Chinese; and what is wrong with a request."""

from __future__ import annotations

from typing import Any, NamedTuple


class Words(NamedTuple):
    """A name, and the formula in words ("" for none), in English and then in Chinese."""

    en: str
    formula_en: str
    zh: str
    formula_zh: str


LINES: dict[str, Words] = {
    "parameters": Words("parameters", "", "参数量", ""),
    "active_parameters": Words("of them active for a token", "", "其中每个 token 激活", ""),
    "multiplying_parameters": Words(
        "of them in products", "active - rows that are looked up", "其中参与乘法", "激活参数 - 只查表的行"
    ),
    "bytes_per_token": Words(
        "cache of a token",
        "2 * layers * KV heads * head dim * bytes",
        "每个 token 的缓存",
        "2 * 层数 * KV 头数 * 头维度 * 字节",
    ),
    "bytes_per_token_mla": Words(
        "cache of a token (MLA)",
        "layers * (latent + RoPE dim) * bytes",
        "每个 token 的缓存（MLA）",
        "层数 * (潜向量 + RoPE 维度) * 字节",
    ),
    "bytes_per_sequence": Words("of a sequence", "a token's * context", "每个序列", "每 token * 上下文"),
    "bytes_per_sequence_window": Words(
        "of a sequence", "a token's * min(context, window)", "每个序列", "每 token * min(上下文, 窗口)"
    ),
    "bytes_of_batch": Words("of the batch", "a sequence's * batch", "整个批", "每序列 * 批大小"),
    "weight_bytes": Words("weights", "parameters * bytes", "权重", "参数量 * 字节"),
    "left_for_cache": Words(
        "left for the cache", "usable share * memory - weights", "留给缓存", "可用比例 * 显存 - 权重"
    ),
    "largest_batch": Words("largest batch", "floor(left / a sequence's)", "最大批", "floor(剩余 / 每序列)"),
    "cache_bytes": Words(
        "KV cache",
        "numbers a token * bytes * context * batch",
        "KV 缓存",
        "每 token 数值个数 * 字节 * 上下文 * 批大小",
    ),
    "total_bytes": Words("together", "sum of the above", "合计", "以上之和"),
    "adapter_parameters": Words(
        "trainable parameters", "layers * rank * sum of (in + out)", "可训练参数", "层数 * 秩 * Σ(输入 + 输出)"
    ),
    "frozen_bytes": Words("frozen weights", "parameters * bytes", "冻结的权重", "参数量 * 字节"),
    "frozen_bytes_qlora": Words(
        "frozen weights (NF4)",
        "linear layers * 4.127 / 8 + 2 * embeddings",
        "冻结的权重（NF4）",
        "线性层 * 4.127 / 8 + 2 * 嵌入",
    ),
    "state_bytes": Words(
        "weights, gradients, Adam",
        "trained * (2 + 2 + 12), split by ZeRO",
        "权重、梯度、Adam",
        "训练参数 * (2 + 2 + 12)，按 ZeRO 切分",
    ),
    "activation_bytes_none": Words(
        "activations (estimate)",
        "layers * tokens * batch * (34 * hidden + 5 * heads * tokens)",
        "激活（估算）",
        "层数 * token * 批 * (34 * 隐藏 + 5 * 头数 * token)",
    ),
    "activation_bytes_flash": Words(
        "activations (estimate)",
        "34 * layers * tokens * batch * hidden",
        "激活（估算）",
        "34 * 层数 * token * 批 * 隐藏",
    ),
    "activation_bytes_full": Words(
        "activations (estimate)",
        "(2 * layers + 34) * tokens * batch * hidden",
        "激活（估算）",
        "(2 * 层数 + 34) * token * 批 * 隐藏",
    ),
    "logit_bytes": Words(
        "logits and their gradient", "8 * tokens * batch * vocabulary", "logits 及其梯度", "8 * token * 批 * 词表"
    ),
    "training_flops": Words("training", "6 * active parameters * tokens", "训练", "6 * 激活参数 * token"),
    "training_time": Words("training time", "FLOPs / (GPUs * peak * MFU)", "训练时间", "FLOPs / (GPU 数 * 峰值 * MFU)"),
    "prefill_flops": Words(
        "prefill",
        "2 * N * T + scores and values (causal: half)",
        "prefill",
        "2 * N * T + 分数与加权（因果：一半）",
    ),
    "prefill_attention_share": Words("of it attention", "scores and values / all", "其中注意力", "分数与加权 / 全部"),
    "prefill_time": Words(
        "time to the first token",
        "max(FLOPs / peak, bytes / bandwidth)",
        "首 token 时间",
        "max(FLOPs / 峰值, 字节 / 带宽)",
    ),
    "decode_flops": Words(
        "decoding a token",
        "2 * N + scores and values over the context",
        "解码一个 token",
        "2 * N + 对上下文的分数与加权",
    ),
    "decode_bytes": Words("read in a step", "weights + batch * cache", "每步读取", "权重 + 批大小 * 缓存"),
    "decode_read_time": Words("step, bound by reading", "bytes / bandwidth", "每步，受读取限制", "字节 / 带宽"),
    "decode_compute_time": Words(
        "step, bound by arithmetic", "batch * FLOPs / peak", "每步，受算力限制", "批大小 * FLOPs / 峰值"
    ),
    "decode_rate": Words("decoding, at most", "batch / the slower", "解码速度上限", "批大小 / 较慢者"),
    "balanced_batch": Words(
        "both equal at a batch of",
        "peak * bytes / (2 * bandwidth), weights alone",
        "两者相等的批",
        "峰值 * 字节 / (2 * 带宽)，只计权重",
    ),
    "gpus": Words("GPUs", "tp * pp * dp", "GPU 数", "tp * pp * dp"),
    "weights_per_gpu": Words(
        "weights on a GPU", "parameters * bytes / (tp * pp)", "每 GPU 权重", "参数量 * 字节 / (tp * pp)"
    ),
    "weights_per_gpu_moe": Words(
        "weights on a GPU",
        "(rest + experts / ep) * bytes / (tp * pp)",
        "每 GPU 权重",
        "(其余 + 专家 / ep) * 字节 / (tp * pp)",
    ),
    "cache_per_gpu": Words(
        "cache of a token on a GPU",
        "cache / (min(tp, KV heads) * pp)",
        "每 GPU 每 token 缓存",
        "缓存 / (min(tp, KV 头数) * pp)",
    ),
    "bubble": Words("pipeline bubble", "(p - 1) / (m + p - 1)", "流水线气泡", "(p - 1) / (m + p - 1)"),
    "tensor_traffic": Words(
        "tp sends, a layer forward",
        "2 all-reduces * 2 (n - 1) / n * activations",
        "tp 每层前向发送",
        "2 次 all-reduce * 2 (n - 1) / n * 激活",
    ),
    "pipeline_traffic": Words(
        "pp sends, a micro-batch", "tokens * batch * hidden * bytes", "pp 每微批发送", "token * 批 * 隐藏 * 字节"
    ),
    "data_traffic": Words("dp sends, a step", "2 (n - 1) / n * gradients", "dp 每步发送", "2 (n - 1) / n * 梯度"),
}

PROBLEMS: dict[str, tuple[str, str]] = {
    "does_not_fit": ("{needed} do not fit into {usable}", "{needed} 放不进 {usable}"),
    "heads": ("{heads} query heads do not divide by tp {tp}", "{heads} 个 query 头不能被 tp {tp} 整除"),
    "kv_heads": (
        "{heads} K/V heads and tp {tp}: neither divides the other",
        "{heads} 个 KV 头与 tp {tp} 互不整除",
    ),
    "width": ("feed-forward width {width} does not divide by tp {tp}", "前馈宽度 {width} 不能被 tp {tp} 整除"),
    "layers": (
        "{layers} layers do not divide by pp {pp}: stages differ in length",
        "{layers} 层不能被 pp {pp} 整除：各段长短不一",
    ),
    "no_experts": ("the model has no experts for ep to split", "模型没有专家可供 ep 切分"),
    "experts": ("{experts} experts do not divide by ep {ep}", "{experts} 个专家不能被 ep {ep} 整除"),
    "ep_of_dp": (
        "ep {ep} does not divide dp {dp}, whose GPUs it takes",
        "ep {ep} 不能整除 dp {dp}（专家并行占用数据并行的 GPU）",
    ),
}


def problem(key: str, fields: dict[str, Any], *, zh: bool) -> str:
    """What is wrong, in words."""
    from llmquiz.calc.units import show

    shown = {name: show(value, "bytes") if name in ("needed", "usable") else value for name, value in fields.items()}
    return PROBLEMS[key][zh].format(**shown)

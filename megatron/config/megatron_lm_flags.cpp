#include "megatron/config/megatron_lm_flags.h"

#include <algorithm>
#include <array>

namespace megatron {
namespace {

// Whole families by how they begin.
constexpr std::array<std::string_view, 24> kFamilies = {"async-",     "biencoder-",
                                                        "ckpt-",      "cpu-offload",
                                                        "dist-ckpt-", "expert-tensor-",
                                                        "fp4",        "fp8",
                                                        "hybrid-",    "inference-",
                                                        "mamba-",     "moe-",
                                                        "muon-",      "no-persist-",
                                                        "one-logger", "optimizer-offload",
                                                        "retro-",     "rl-",
                                                        "straggler",  "te-",
                                                        "vision-",    "wandb-",
                                                        "rerun-",     "use-torch-"};

constexpr std::array<std::string_view, 75> kFlags = {"adlr-autoresume",
                                                     "align-param-gather",
                                                     "attention-softmax-in-fp32",
                                                     "batch-p2p-comm",
                                                     "blendable-index-path",
                                                     "check-for-nan-in-loss-and-grad",
                                                     "clone-scatter-output-in-embedding",
                                                     "create-attention-mask-in-dataloader",
                                                     "cuda-graph-scope",
                                                     "data-args-path",
                                                     "dataloader-type",
                                                     "decoder-num-layers",
                                                     "decoder-seq-length",
                                                     "decrease-batch-size-if-needed",
                                                     "deterministic-mode",
                                                     "disable-bf16-reduced-precision-matmul",
                                                     "distributed-backend",
                                                     "empty-unused-memory-level",
                                                     "enable-cuda-graph",
                                                     "enable-experimental",
                                                     "encoder-num-layers",
                                                     "encoder-seq-length",
                                                     "exit-on-missing-checkpoint",
                                                     "exit-signal-handler",
                                                     "experimental-attention-variant",
                                                     "external-cuda-graph",
                                                     "fp16",
                                                     "full-validation",
                                                     "hysteresis",
                                                     "initial-loss-scale",
                                                     "lazy-mpu-init",
                                                     "legacy-tokenizer",
                                                     "log-params-norm",
                                                     "log-throughput",
                                                     "log-timers-to-tensorboard",
                                                     "log-validation-ppl-to-tensorboard",
                                                     "loss-scale",
                                                     "loss-scale-window",
                                                     "lr-warmup-samples",
                                                     "manual-gc",
                                                     "masked-softmax-fusion",
                                                     "mid-level-dataset-surplus",
                                                     "min-loss-scale",
                                                     "mmap-bin-files",
                                                     "nccl-communicator-config-path",
                                                     "no-async-tensor-model-parallel-allreduce",
                                                     "no-bias-dropout-fusion",
                                                     "no-bias-swiglu-fusion",
                                                     "no-gradient-accumulation-fusion",
                                                     "no-initialization",
                                                     "no-load-rng",
                                                     "no-masked-softmax-fusion",
                                                     "no-rope-fusion",
                                                     "no-save-rng",
                                                     "num-dataset-builder-threads",
                                                     "num-experts",
                                                     "num-workers",
                                                     "per-split-data-args-path",
                                                     "rampup-batch-size",
                                                     "reset-attention-mask",
                                                     "reset-position-ids",
                                                     "save-retain-interval",
                                                     "skip-train",
                                                     "tensorboard-log-interval",
                                                     "test-data-path",
                                                     "tiktoken-pattern",
                                                     "timing-log-level",
                                                     "train-data-path",
                                                     "train-samples",
                                                     "transformer-impl",
                                                     "use-cpu-initialization",
                                                     "use-flash-attn",
                                                     "use-legacy-models",
                                                     "use-mcore-models",
                                                     "valid-data-path"};

}  // namespace

bool is_megatron_lm_flag(std::string_view flag) {
  const std::string_view name = flag.substr(std::min(flag.find_first_not_of('-'), flag.size()));
  const auto begins = [&](std::string_view family) { return name.starts_with(family); };
  return std::ranges::find(kFlags, name) != kFlags.end() || std::ranges::any_of(kFamilies, begins);
}

}  // namespace megatron

// Flags of Megatron-LM that ask for what is always so here. They are accepted.
#include "megatron/config/megatron_lm/megatron_lm_flags.h"

namespace megatron {
namespace {

constexpr const char* kNoGeneratorState =
    "random numbers are functions of seed and position, so there is no generator state";
constexpr const char* kNoGarbageCollector = "there is no Python garbage collector";
constexpr const char* kOneFormat =
    "checkpoints are safetensors shards that any layout loads, as with torch_dist";
constexpr const char* kOneFormatOnly =
    "torch_dist works; checkpoints are always safetensors shards that any layout loads";
constexpr const char* kScheduleFromOptions = "a resumed run takes its schedule from the options";
constexpr const char* kEnvironment = "read from the environment of torchrun, SLURM or Open MPI";

MegatronLmFlag effectless(std::string_view name, std::string_view text) {
  return {.name = name, .fate = MegatronLmFate::no_effect, .text = text};
}

MegatronLmFlag effectless(std::string_view name, std::string_view accepted, std::string_view text,
                          std::string_view otherwise) {
  return {.name = name,
          .values = 1,
          .fate = MegatronLmFate::no_effect,
          .text = text,
          .accepted = accepted,
          .otherwise = otherwise};
}

MegatronLmFlag unless(std::string_view opposite, MegatronLmFlag flag) {
  flag.opposite = opposite;
  return flag;
}

}  // namespace

const std::vector<MegatronLmFlag>& effectless_megatron_lm_flags() {
  static const std::vector<MegatronLmFlag> flags = {
      effectless("moe-permute-fusion", "tokens are permuted by one operator"),
      effectless("moe-router-fusion", "the router's operators need no fusion here"),
      effectless("moe-per-layer-logging", "losses and loads of routers are logged by layer"),
      effectless("use-mcore-models", "models are always megatron-core's"),
      effectless("attention-softmax-in-fp32", "the softmax of attention is computed in fp32"),
      effectless("no-load-rng", kNoGeneratorState),
      effectless("no-save-rng", kNoGeneratorState),
      effectless("te-rng-tracker", kNoGeneratorState),
      effectless("inference-rng-tracker", kNoGeneratorState),
      effectless("use-cpu-initialization",
                 "initial weights do not depend on device or parallel layout"),
      effectless("exit-signal-handler",
                 "SIGTERM and SIGINT save (with --save) and exit after the current iteration"),
      effectless("log-throughput", "log lines include tokens/s and TFLOP/s"),
      effectless("log-validation-ppl-to-tensorboard", "logged with --tensorboard-dir"),
      effectless("log-memory-to-tensorboard", "logged with --tensorboard-dir"),
      effectless("log-batch-size-to-tensorboard", "logged with --tensorboard-dir"),
      effectless("log-timers-to-tensorboard",
                 "the iteration time is logged with --tensorboard-dir"),
      effectless("tensorboard-queue-size", "N", "no event waits in a queue",
                 "1000 works; events are not queued"),
      unless("no-check-for-nan-in-loss-and-grad",
             effectless("check-for-nan-in-loss-and-grad",
                        "on by default; --no-check-for-nan-in-loss-and-grad disables it")),
      effectless("deterministic-mode", "runs of the same layout and threads are deterministic"),
      effectless("distributed-backend", "gloo|nccl",
                 "selected by --device: gloo on cpu, NCCL on cuda", "gloo works with --device cpu"),
      effectless("local-rank", "N", kEnvironment, "leave it out"),
      effectless("local_rank", "N", kEnvironment, "leave it out"),
      effectless("dataloader-type", "single", "samples follow the order of the dataset index",
                 "single works"),
      effectless("num-workers", "N", "each rank reads its own batches",
                 "2 works; there are no worker processes"),
      effectless("num-dataset-builder-threads", "N", "the first rank builds the sample indices",
                 "1 works; the first rank builds the sample indices"),
      effectless("no-create-attention-mask-in-dataloader",
                 "the dataloader creates no mask; attention is causal"),
      effectless("manual-gc", kNoGarbageCollector),
      effectless("manual-gc-interval", "N", kNoGarbageCollector, "0 works"),
      effectless("no-manual-gc-eval", kNoGarbageCollector),
      effectless("disable-manual-gc-eval", kNoGarbageCollector),
      effectless("disable-jit-fuser", "there is no JIT compiler"),
      effectless("ckpt-format", "torch_dist", kOneFormat, kOneFormatOnly),
      effectless("dist-ckpt-format", "torch_dist", kOneFormat, kOneFormatOnly),
      effectless("auto-detect-ckpt-format", kOneFormat),
      effectless("use-dist-ckpt", kOneFormat),
      effectless("ckpt-fully-parallel-save", "every rank saves its own shards"),
      effectless("dist-ckpt-optim-fully-reshardable", "any layout loads the optimizer state"),
      effectless("override-opt_param-scheduler", kScheduleFromOptions),
      effectless("override-opt-param-scheduler", kScheduleFromOptions),
      unless("grad-reduce-in-bf16",
             effectless("main-grads-dtype", "fp32",
                        "main gradients are in fp32; --grad-reduce-in-bf16 changes that",
                        "--grad-reduce-in-bf16 works")),
      effectless("main-params-dtype", "fp32", "master weights are in fp32", "fp32 works"),
      effectless("exp-avg-dtype", "fp32", "Adam's first moment is in fp32", "fp32 works"),
      effectless("exp-avg-sq-dtype", "fp32", "Adam's second moment is in fp32", "fp32 works"),
      unless("no-yarn-correction-range-round-to-int",
             effectless("yarn-correction-range-round-to-int",
                        "on by default; --no-yarn-correction-range-round-to-int disables it")),
      effectless("trust-remote-code", "tokenizers do not run code"),
      unless(
          "tokenizer-hf-include-special-tokens",
          effectless("tokenizer-hf-no-include-special-tokens",
                     "special tokens are added only with --tokenizer-hf-include-special-tokens")),
      effectless("tokenizer-hf-use-fast", "a tokenizer.json is what the fast tokenizers read"),
      effectless("no-one-logger", "there is no telemetry"),
      effectless("disable-msc", "files are local"),
  };
  return flags;
}

}  // namespace megatron

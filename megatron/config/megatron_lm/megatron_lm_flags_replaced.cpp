// Flags of Megatron-LM that ask for what does not exist here, and flags with another name.
#include "megatron/config/megatron_lm/megatron_lm_flags.h"

namespace megatron {

const std::vector<MegatronLmFlag>& replaced_megatron_lm_flags() {
  constexpr auto kLeaveOut = MegatronLmFate::leave_out;
  constexpr auto kInstead = MegatronLmFate::use_instead;
  static const std::vector<MegatronLmFlag> flags = {
      {"create-attention-mask-in-dataloader", 0, kLeaveOut,
       "the dataloader creates no mask; attention is causal"},
      {"lazy-mpu-init", 1, kLeaveOut, "process groups are created at start"},
      {"no-log-loss-scale-to-tensorboard", 0, kLeaveOut,
       "TensorBoard gets the loss scale of fp16 runs"},
      {"disable-log-loss-scale-to-tensorboard", 0, kLeaveOut,
       "TensorBoard gets the loss scale of fp16 runs"},
      {"moe-extended-tp", 0, kInstead, "--expert-tensor-parallel-size"},
      {"moe-layer-recompute", 0, kInstead, "--recompute-modules moe"},
      {"moe-router-padding-for-fp8", 0, kInstead, "--moe-router-padding-for-quantization 16"},
      {"moe-router-topk-limited-devices", 1, kInstead,
       "--moe-router-num-groups and --moe-router-group-topk, which do not depend on the layout"},
      {"use-flash-attn", 0, kInstead, "--attention-backend flash"},
      {"no-masked-softmax-fusion", 0, kInstead, "--attention-backend"},
      {"masked-softmax-fusion", 0, kInstead, "--attention-backend"},
      {"lr-decay-steps", 1, kInstead, "--lr-decay-iters"},
      {"lr-warmup-steps", 1, kInstead, "--lr-warmup-iters"},
      {"wsd-decay-steps", 1, kInstead, "--lr-wsd-decay-iters"},
      {"warmup", 1, kInstead, "--lr-warmup-fraction"},
      {"start-weight-decay", 1, kInstead, "--weight-decay, which is constant"},
      {"end-weight-decay", 1, kInstead, "--weight-decay, which is constant"},
      {"weight-decay-incr-style", 1, kInstead, "--weight-decay, which is constant"},
      {"wd-incr-steps", 1, kInstead, "--weight-decay, which is constant"},
      {"no-position-embedding", 0, kInstead, "--position-embedding-type rope, or none"},
      {"batch-size", 1, kInstead, "--micro-batch-size"},
      {"model-parallel-size", 1, kInstead, "--tensor-model-parallel-size"},
      {"checkpoint-activations", 0, kInstead, "--recompute-activations"},
      {"encoder-num-layers", 1, kInstead, "--num-layers"},
      {"encoder-seq-length", 1, kInstead, "--seq-length"},
      {"persistent-save-interval", 1, kInstead, "--save-interval"},
      {"no-pad-vocab-size", 0, kInstead, "--no-pad-vocab"},
      {"disable-pad-vocab-size", 0, kInstead, "--no-pad-vocab"},
      {"use-custom-fsdp", 0, kInstead, "--use-megatron-fsdp"},
      {"timing-log-level", 1, kInstead, "--profile, which writes a trace"},
      {"timing-log-option", 1, kInstead, "--profile, which writes a trace"},
      {"record-shapes", 0, kInstead, "--profile, which writes a trace"},
      {"nvtx-ranges", 0, kInstead, "--profile, which writes a trace"},
      {"wandb-project", 1, kInstead, "--log-json or --tensorboard-dir"},
      {"wandb-exp-name", 1, kInstead, "--log-json or --tensorboard-dir"},
      {"wandb-save-dir", 1, kInstead, "--log-json or --tensorboard-dir"},
      {"wandb-entity", 1, kInstead, "--log-json or --tensorboard-dir"},
  };
  return flags;
}

}  // namespace megatron

// Record and replay of the routers' choices (--moe-router-record, --moe-router-replay).
//
// DIR/iteration_0000001/<router>.safetensors holds the tensor "chosen", [samples, s, k] int32: the
// experts of each token, in ascending order, samples in the order of the global batch. It does not
// depend on the layout. Routers of multi-token prediction have the number of their depth in the name.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "megatron/config/model/transformer_config.h"
#include "megatron/parallel/process_group_collection.h"
#include "megatron/transformer/forward_context.h"

namespace megatron {

class RouterReplay {
 public:
  RouterReplay(const TransformerConfig& config, const ProcessGroupCollection& groups);

  bool is_used() const { return records() || replays(); }

  // The micro-batches of a step, whose contexts have a MoePass. With replay, routers take their
  // choices from the files of `iteration` instead of choosing; the gradient still flows through the
  // probabilities. Throws Error, when a router runs, for a folder of another model or of other
  // numbers of samples or tokens.
  void begin(int64_t iteration, const std::vector<ForwardContext*>& microbatches);
  // After the step's passes: writes the choices, if it records. Collective over the world.
  void end();

 private:
  bool records() const { return !config_.moe.moe_router_record.empty(); }
  bool replays() const { return !config_.moe.moe_router_replay.empty(); }
  std::string file_of(const std::string& folder, const std::string& router, int64_t depth) const;
  // The first sample of a micro-batch on this rank in the global batch.
  int64_t first_sample(size_t microbatch) const;
  at::Tensor replayed(const std::string& router, int64_t depth, size_t microbatch);
  at::Tensor of_all_ranks(const at::Tensor& chosen, const ForwardContext& context) const;

  TransformerConfig config_;
  ProcessGroupCollection groups_;
  int64_t iteration_ = 0;
  std::vector<ForwardContext*> microbatches_;
  std::map<std::string, at::Tensor> files_;  // of this iteration
};

}  // namespace megatron

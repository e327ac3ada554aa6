#include "megatron/training/router_replay.h"

#include <filesystem>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "megatron/base/error.h"
#include "megatron/formats/safetensors_file.h"
#include "megatron/formats/safetensors_writer.h"
#include "megatron/transformer/moe/moe_pass.h"

namespace megatron {
namespace {

constexpr const char* kChosen = "chosen";

// [t, e] bool with k experts in each row -> [t, k] int32, ascending.
at::Tensor chosen_experts(const at::Tensor& map) {
  return map.nonzero().select(1, 1).view({map.size(0), -1}).to(at::kInt);
}

}  // namespace

RouterReplay::RouterReplay(const TransformerConfig& config, const ProcessGroupCollection& groups)
    : config_(config), groups_(groups) {}

std::string RouterReplay::file_of(const std::string& folder, const std::string& router,
                                  int64_t depth) const {
  const std::string of_depth = depth == 0 ? "" : fmt::format(".{}", depth);
  return fmt::format("{}/iteration_{:07}/{}{}.safetensors", folder, iteration_, router, of_depth);
}

int64_t RouterReplay::first_sample(size_t microbatch) const {
  const int64_t rows = microbatches_[microbatch]->sample_ordinals.size(0);
  return (int64_t(microbatch) * groups_.dp->size() + groups_.dp->rank()) * rows;
}

void RouterReplay::begin(int64_t iteration, const std::vector<ForwardContext*>& microbatches) {
  iteration_ = iteration;
  microbatches_ = microbatches;
  files_.clear();
  if (!replays()) return;
  for (size_t i = 0; i < microbatches_.size(); ++i) {
    microbatches_[i]->moe->replay = [this, i](const std::string& router, int64_t depth) {
      return replayed(router, depth, i);
    };
  }
}

at::Tensor RouterReplay::replayed(const std::string& router, int64_t depth, size_t microbatch) {
  const std::string path = file_of(config_.moe.moe_router_replay, router, depth);
  at::Tensor& chosen = files_[path];
  const ForwardContext& context = *microbatches_[microbatch];
  if (!chosen.defined()) {
    check(std::filesystem::exists(path),
          "Expected the recorded choices of {} for iteration {} in {}, but there are none; the "
          "folder of --moe-router-record of a run of the same model and iterations works",
          router, iteration_, path);
    chosen = SafetensorsFile::open(path).tensor(kChosen).to(at::kLong);
    const int64_t ranks = config_.sequence_parallel ? groups_.tp_cp->size() : groups_.cp->size();
    const std::vector<int64_t> shape = {
        int64_t(microbatches_.size()) * groups_.dp->size() * context.sample_ordinals.size(0),
        context.residual_positions.size(0) * ranks, config_.moe.moe_router_topk};
    check(chosen.sizes() == shape,
          "Expected recorded choices of shape [samples, positions, experts of a token] = {} in {}, "
          "but got {}; a record of the same batches and model works",
          shape, path, chosen.sizes().vec());
    check(chosen.min().item<int64_t>() >= 0 &&
              chosen.max().item<int64_t>() < *config_.moe.num_moe_experts,
          "Expected recorded experts below {} in {}, but got {}; a record of the same model works",
          *config_.moe.num_moe_experts, path, chosen.max().item<int64_t>());
  }
  return chosen.narrow(0, first_sample(microbatch), context.sample_ordinals.size(0))
      .transpose(0, 1)
      .index_select(0, context.residual_positions)
      .flatten(0, 1);
}

// [t, k] of this rank -> [b, s, k] of the micro-batch.
at::Tensor RouterReplay::of_all_ranks(const at::Tensor& chosen,
                                      const ForwardContext& context) const {
  const ProcessGroup& ranks = config_.sequence_parallel ? *groups_.tp_cp : *groups_.cp;
  const int64_t rows = context.sample_ordinals.size(0);
  const at::Tensor local = chosen_experts(chosen).cpu().unflatten(0, {-1, rows}).contiguous();
  const at::Tensor all = ranks.all_gather(local);
  const at::Tensor positions = ranks.all_gather(context.residual_positions.contiguous());
  return at::zeros_like(all).index_copy(0, positions, all).transpose(0, 1).contiguous();
}

void RouterReplay::end() {
  if (!records()) return;
  const at::NoGradGuard no_grad;
  // Routers and depths in the same order on all ranks of the stage.
  for (const auto& [key, plan] : microbatches_.front()->moe->plans()) {
    std::vector<at::Tensor> batches;  // [dp b, s, k] of each micro-batch
    for (const ForwardContext* context : microbatches_) {
      const auto own = context->moe->find(key.first, key.second);
      batches.push_back(groups_.dp->all_gather(of_all_ranks(own->chosen, *context)));
    }
    if (groups_.tp_dp_cp->rank() != 0) continue;
    const std::string path = file_of(config_.moe.moe_router_record, key.first, key.second);
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    write_safetensors(path, {{kChosen, at::cat(batches)}});
  }
  groups_.world->barrier();
}

}  // namespace megatron

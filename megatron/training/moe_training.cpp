#include "megatron/training/moe_training.h"

#include <algorithm>
#include <tuple>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "megatron/parallel/object_collectives.h"
#include "megatron/transformer/moe/topk_router.h"

namespace megatron {
namespace {

// "decoder.layers.3" of "decoder.layers.3.mlp.router".
std::string layer_name(std::string router) {
  constexpr std::string_view kSuffix = ".mlp.router";
  if (router.ends_with(kSuffix)) router.resize(router.size() - kSuffix.size());
  return router;
}

// Decoder layers before MTP layers, each by number.
std::tuple<bool, int64_t, std::string> layer_order(const MoeLayerRecord& record) {
  const size_t digits = record.layer.find_first_of("0123456789");
  const int64_t number = digits == std::string::npos ? 0 : std::stoll(record.layer.substr(digits));
  return {!record.layer.starts_with("decoder."), number, record.layer};
}

// Sums a stage's layers over its ranks: for each layer its losses, its dropped choices and its load.
std::vector<at::Tensor> reduced(const MoeStep& step, const ProcessGroup& stage) {
  std::vector<at::Tensor> parts;
  for (const MoeStep::Layer& layer : step.layers()) {
    for (const auto& [name, sum] : layer.losses) parts.push_back(sum.view({1}));
    parts.push_back(layer.dropped.to(at::kDouble));
    parts.push_back(layer.load.to(at::kDouble));
  }
  if (parts.empty()) return parts;
  const at::Tensor flat = at::cat(parts);
  stage.all_reduce(flat);
  std::vector<int64_t> sizes;
  for (const at::Tensor& part : parts) sizes.push_back(part.numel());
  return flat.split_with_sizes(sizes);
}

}  // namespace

void update_expert_biases(const GPTModelChunks& chunks) {
  for (const auto& chunk : chunks) {
    for (const auto& module : chunk->descendants()) {
      const auto* router = dynamic_cast<const TopKRouter*>(module.get());
      if (router != nullptr && router->expert_bias()) router->update_expert_bias();
    }
  }
}

std::vector<MoeLayerRecord> moe_layer_records(const MoeStep& step,
                                              const ProcessGroupCollection& groups,
                                              bool sequence_parallel, double microbatches) {
  // Without sequence parallelism, tensor-parallel ranks have the same tokens.
  const std::vector<at::Tensor> sums =
      reduced(step, sequence_parallel ? *groups.tp_dp_cp : *groups.dp_cp);
  nlohmann::json mine = nlohmann::json::array();
  size_t next = 0;
  for (const MoeStep::Layer& layer : step.layers()) {
    nlohmann::json losses = nlohmann::json::array();
    for (const auto& [name, sum] : layer.losses)
      losses.push_back({name, sums[next++].item<double>() / microbatches});
    const double dropped = sums[next++].item<double>();
    const at::Tensor load = sums[next++];
    const double mean = load.mean().item<double>();
    mine.push_back({{"layer", layer_name(layer.router)},
                    {"losses", losses},
                    {"load", mean > 0 ? load.max().item<double>() / mean : 0.0},
                    {"dropped", dropped}});
  }
  std::vector<MoeLayerRecord> records;
  for (const std::string& text : all_gather_strings(mine.dump(), *groups.pp)) {
    for (const nlohmann::json& layer : nlohmann::json::parse(text)) {
      MoeLayerRecord& record = records.emplace_back();
      record.layer = layer["layer"].get<std::string>();
      for (const nlohmann::json& loss : layer["losses"])
        record.losses.emplace_back(loss[0].get<std::string>(), loss[1].get<double>());
      record.load = layer["load"].get<double>();
      record.dropped = layer["dropped"].get<double>();
    }
  }
  std::ranges::sort(records, {}, layer_order);
  return records;
}

}  // namespace megatron

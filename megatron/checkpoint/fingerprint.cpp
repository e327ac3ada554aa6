#include "megatron/checkpoint/fingerprint.h"

#include <vector>

#include <ATen/Version.h>
#include <ATen/cpu/Utils.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>
#include <torch/headeronly/version.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

// Calls visit(name, field...) for every field of the given fingerprints.
template <typename Visit, typename... Prints>
void visit_fingerprint(Visit&& visit, Prints&... prints) {
  visit("tensor_model_parallel_size", prints.tensor_model_parallel_size...);
  visit("pipeline_model_parallel_size", prints.pipeline_model_parallel_size...);
  visit("context_parallel_size", prints.context_parallel_size...);
  visit("data_parallel_size", prints.data_parallel_size...);
  visit("expert_model_parallel_size", prints.expert_model_parallel_size...);
  visit("expert_tensor_parallel_size", prints.expert_tensor_parallel_size...);
  visit("sequence_parallel", prints.sequence_parallel...);
  visit("world_size", prints.world_size...);
  visit("threads_per_rank", prints.threads_per_rank...);
  visit("backend", prints.backend...);
  visit("libtorch", prints.libtorch...);
  visit("cpu_capability", prints.cpu_capability...);
  visit("device", prints.device...);
}

}  // namespace

Fingerprint Fingerprint::of_this_process() {
  Fingerprint result;
  result.libtorch = TORCH_VERSION;
  result.cpu_capability = at::get_cpu_capability();
  // With AMX, oneDNN sums bf16 products in another order.
  const auto capabilities = at::cpu::get_cpu_capabilities();
  const auto amx = capabilities.find("amx_bf16");
  if (amx != capabilities.end() && amx->second.isBool() && amx->second.toBool()) {
    result.cpu_capability += "+AMX";
  }
  return result;
}

nlohmann::json to_json(const Fingerprint& fingerprint) {
  nlohmann::json json;
  visit_fingerprint([&](const char* name, const auto& field) { json[name] = field; }, fingerprint);
  return json;
}

Fingerprint fingerprint_from_json(const nlohmann::json& json) {
  Fingerprint result;
  visit_fingerprint(
      [&](const char* name, auto& field) {
        // Checkpoints from before experts lack theirs.
        if (std::string_view(name).starts_with("expert_") && json.is_object() &&
            !json.contains(name))
          return;
        try {
          json.at(name).get_to(field);
        } catch (const nlohmann::json::exception&) {
          fail(
              "Expected a field '{}' of the right type in the checkpoint's fingerprint, but got {}",
              name, json.is_object() && json.contains(name) ? json[name].dump() : "none");
        }
      },
      result);
  return result;
}

std::string describe_layout(const Fingerprint& f) {
  return fmt::format("TP={} x PP={} x CP={} x DP={}{}, {} rank{} ({}), {} thread{} each",
                     f.tensor_model_parallel_size, f.pipeline_model_parallel_size,
                     f.context_parallel_size, f.data_parallel_size,
                     f.sequence_parallel ? ", sequence parallel" : "", f.world_size,
                     f.world_size == 1 ? "" : "s", f.backend, f.threads_per_rank,
                     f.threads_per_rank == 1 ? "" : "s");
}

std::optional<std::string> explain_difference(const Fingerprint& stored,
                                              const Fingerprint& current) {
  std::vector<std::string> differences;
  visit_fingerprint(
      [&](const char* name, const auto& before, const auto& now) {
        if (before != now)
          differences.push_back(fmt::format("{} was {}, is {}", name, before, now));
      },
      stored, current);
  if (differences.empty()) return std::nullopt;
  return fmt::format("{}{}", kNotBitwise, fmt::join(differences, "; "));
}

}  // namespace megatron

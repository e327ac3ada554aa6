#include "megatron/config/model/attention_backend.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/config/model/enum_names.h"

namespace megatron {
namespace {

// Fastest first, as measured on each device.
constexpr std::array kByPreferenceOnGpu = {AttentionBackend::flash, AttentionBackend::fused,
                                           AttentionBackend::unfused};
constexpr std::array kByPreferenceOnCpu = {AttentionBackend::fused, AttentionBackend::flash,
                                           AttentionBackend::unfused};

// Features of a backend besides causal attention.
AttentionDemands abilities(AttentionBackend backend, bool cuda) {
  switch (backend) {
    case AttentionBackend::flash:
      return {};
    case AttentionBackend::fused:
      if (cuda) return {};
      return {.dropout = true,
              .window = true,
              .sinks = true,
              .soft_cap = true,
              .packed = true,
              .cached = true,
              .split_keys = true};
    case AttentionBackend::automatic:
    case AttentionBackend::unfused:
    case AttentionBackend::local:
      break;
  }
  return {.dropout = true,
          .window = true,
          .sinks = true,
          .soft_cap = true,
          .packed = true,
          .mask = true,
          .bias = true,
          .cached = true,
          .split_keys = true};
}

// A Transformer Engine environment variable and the backend that it enables.
struct Switch {
  const char* name;
  AttentionBackend backend;
};
constexpr std::array<Switch, 3> kSwitches = {{{"NVTE_FLASH_ATTN", AttentionBackend::flash},
                                              {"NVTE_FUSED_ATTN", AttentionBackend::fused},
                                              {"NVTE_UNFUSED_ATTN", AttentionBackend::unfused}}};

std::string_view wanted_value(const Switch& s, AttentionBackend backend) {
  return backend == AttentionBackend::automatic || backend == s.backend ? "1" : "0";
}

// Whether the variable is unset or has the value for the backend.
bool agrees(const Switch& s, AttentionBackend backend) {
  const char* value = std::getenv(s.name);
  return value == nullptr || value == wanted_value(s, backend);
}

std::string names_of(const std::vector<AttentionBackend>& backends) {
  std::vector<std::string_view> names;
  for (const AttentionBackend backend : backends) names.push_back(enum_name(backend));
  return fmt::format("{}", fmt::join(names, " or "));
}

std::vector<AttentionBackend> backends_where(const auto& holds) {
  std::vector<AttentionBackend> backends;
  for (size_t i = 0; i < enum_names<AttentionBackend>.size(); ++i) {
    if (holds(static_cast<AttentionBackend>(i)))
      backends.push_back(static_cast<AttentionBackend>(i));
  }
  return backends;
}

}  // namespace

AttentionDemands AttentionDemands::of_layer(const TransformerConfig& config, int64_t layer_number) {
  return {.dropout = config.attention_dropout > 0,
          .window = config.has_window(layer_number),
          .sinks = config.softmax_type != SoftmaxType::vanilla,
          .soft_cap = config.attn_logit_softcapping.has_value()};
}

AttentionDemands AttentionDemands::of_model(const TransformerConfig& config) {
  return {.dropout = config.attention_dropout > 0,
          .window = !config.window_size.empty(),
          .sinks = config.softmax_type != SoftmaxType::vanilla,
          .soft_cap = config.attn_logit_softcapping.has_value(),
          .split_keys = config.context_parallel_size > 1 && config.cp_comm_type != CpCommType::a2a};
}

std::string unmet_demands(AttentionBackend backend, const AttentionDemands& demands, bool cuda) {
  const AttentionDemands can = abilities(backend, cuda);
  std::vector<std::string_view> unmet;
  const auto compare = [&](bool AttentionDemands::*demand, std::string_view name) {
    if (demands.*demand && !(can.*demand)) unmet.push_back(name);
  };
  compare(&AttentionDemands::dropout, "attention_dropout above 0");
  compare(&AttentionDemands::window, "window_size");
  compare(&AttentionDemands::sinks, "softmax_type other than vanilla");
  compare(&AttentionDemands::soft_cap, "attn_logit_softcapping");
  compare(&AttentionDemands::packed, "packed sequences");
  compare(&AttentionDemands::mask, "an attention mask");
  compare(&AttentionDemands::bias, "an attention bias");
  compare(&AttentionDemands::cached, "cached keys");
  compare(&AttentionDemands::split_keys, "cp_comm_type p2p or allgather");
  return fmt::format("{}", fmt::join(unmet, ", "));
}

AttentionBackend resolve_attention_backend(AttentionBackend backend,
                                           const AttentionDemands& demands, bool cuda) {
  const auto meets = [&](AttentionBackend one) {
    return unmet_demands(one, demands, cuda).empty();
  };
  if (backend == AttentionBackend::automatic) {
    for (const AttentionBackend one : cuda ? kByPreferenceOnGpu : kByPreferenceOnCpu) {
      if (meets(one)) return one;
    }
  }
  check(meets(backend), "Expected an attention_backend that supports {}, but got {}{}; {} works",
        unmet_demands(backend, demands, cuda), enum_name(backend), cuda ? " on a GPU" : "",
        names_of(backends_where(meets)));
  return backend;
}

void check_attention_environment(AttentionBackend backend) {
  for (const Switch& s : kSwitches) {
    if (agrees(s, backend)) continue;
    const auto fitting = backends_where([](AttentionBackend one) {
      return std::ranges::all_of(kSwitches,
                                 [&](const Switch& other) { return agrees(other, one); });
    });
    fail("Expected {}={} in the environment for attention_backend={}, but got '{}'; unset it{}",
         s.name, wanted_value(s, backend), enum_name(backend), std::getenv(s.name),
         fitting.empty() ? std::string()
                         : fmt::format(", or use attention_backend {}", names_of(fitting)));
  }
}

}  // namespace megatron

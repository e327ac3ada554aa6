// Where the specs of a model's layers come from: the name of a registered function, a spec, or a
// C++ function of the configuration. This is what GPTModelConfig::transformer_layer_spec holds.
#pragma once

#include <concepts>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "megatron/base/error.h"
#include "megatron/config/model/module_spec.h"

namespace megatron {

struct GPTModelConfig;
struct TransformerConfig;

// Returns the spec of every layer or, as a block spec, of each layer: of the chunk `vp_stage`
// (unset: the only one) of pipeline rank `pp_rank`, or, if `pp_rank` is unset or the function does
// not depend on it, of the whole model.
using LayerSpecFunction = std::function<LayerSpec(
    const GPTModelConfig& config, std::optional<int64_t> vp_stage, std::optional<int64_t> pp_rank)>;

namespace layer_spec_detail {
const TransformerConfig& transformer_of(const GPTModelConfig& config);

using Stage = std::optional<int64_t>;
template <typename F>
concept OfRank = std::is_invocable_r_v<LayerSpec, F, const GPTModelConfig&, Stage, Stage>;
// With real_quant_cfg, whose default is "None".
template <typename F>
concept OfRankAndQuantizer =
    std::is_invocable_r_v<LayerSpec, F, const GPTModelConfig&, Stage, Stage, std::string>;
template <typename F>
concept OfStage = std::is_invocable_r_v<LayerSpec, F, const GPTModelConfig&, Stage>;
template <typename F>
concept OfConfig = std::is_invocable_r_v<LayerSpec, F, const GPTModelConfig&>;
template <typename F>
concept OfTransformerRank =
    std::is_invocable_r_v<LayerSpec, F, const TransformerConfig&, Stage, Stage>;
template <typename F>
concept OfTransformer = std::is_invocable_r_v<LayerSpec, F, const TransformerConfig&>;
}  // namespace layer_spec_detail

// A callable that can give layer specs: of a GPTModelConfig or a TransformerConfig, and of vp_stage
// and pp_rank where it takes them.
template <typename F>
concept LayerSpecCallable =
    layer_spec_detail::OfRank<F> || layer_spec_detail::OfRankAndQuantizer<F> ||
    layer_spec_detail::OfStage<F> || layer_spec_detail::OfConfig<F> ||
    layer_spec_detail::OfTransformerRank<F> || layer_spec_detail::OfTransformer<F>;

// Throws Error for a null pointer or an empty std::function.
template <LayerSpecCallable F>
LayerSpecFunction layer_spec_function(F function) {
  using namespace layer_spec_detail;
  if constexpr (std::is_pointer_v<F> || requires { function.target_type(); }) {
    check(static_cast<bool>(function),
          "Expected a function for transformer_layer_spec, but got an empty one; "
          "default_layer_spec works");
  }
  return [function](const GPTModelConfig& config, [[maybe_unused]] Stage vp_stage,
                    [[maybe_unused]] Stage pp_rank) -> LayerSpec {
    if constexpr (OfRank<F>) {
      return function(config, vp_stage, pp_rank);
    } else if constexpr (OfRankAndQuantizer<F>) {
      return function(config, vp_stage, pp_rank, "None");
    } else if constexpr (OfStage<F>) {
      return function(config, vp_stage);
    } else if constexpr (OfConfig<F>) {
      return function(config);
    } else if constexpr (OfTransformerRank<F>) {
      return function(transformer_of(config), vp_stage, pp_rank);
    } else {
      return function(transformer_of(config));
    }
  };
}

class LayerSpecSource {
 public:
  LayerSpecSource() : LayerSpecSource("default_layer_spec") {}
  // The name of a registered function.
  LayerSpecSource(std::string name) : source_(std::move(name)) {}
  LayerSpecSource(const char* name) : source_(std::string(name)) {}
  LayerSpecSource(ModuleSpec spec) : source_(std::move(spec)) {}
  LayerSpecSource(TransformerBlockSubmodules spec) : source_(std::move(spec)) {}
  template <LayerSpecCallable F>
  LayerSpecSource(F function)
      : source_(Callable{layer_spec_function(function), address(function)}) {}

  // The registered name; empty if the source is a spec or a function that is not registered.
  std::string name() const;

  // Calls the function, or returns the stored spec. Throws Error, with the nearest name, for a name
  // that is not registered.
  LayerSpec resolve(const GPTModelConfig& config, std::optional<int64_t> vp_stage = {},
                    std::optional<int64_t> pp_rank = {}) const;

  // Functions are equal if they have the same name or address.
  bool operator==(const LayerSpecSource& other) const;

 private:
  friend nlohmann::json to_json(const LayerSpecSource& source);

  struct Callable {
    LayerSpecFunction function;
    const void* address = nullptr;  // of a plain function, else null
  };
  template <typename F>
  static const void* address(F function) {
    if constexpr (std::is_pointer_v<F> && std::is_function_v<std::remove_pointer_t<F>>) {
      return reinterpret_cast<const void*>(function);
    } else {
      return nullptr;
    }
  }

  std::variant<std::string, ModuleSpec, TransformerBlockSubmodules, Callable> source_;
};

// A registered name as a string, a spec as an object. Throws Error for a function that is not
// registered.
nlohmann::json to_json(const LayerSpecSource& source);
// Throws Error for a name that is not registered.
LayerSpecSource layer_spec_source_from_json(const nlohmann::json& json);

// Registers a function under a name; the address of a plain function finds the name, too. Throws
// Error if the name is taken. Thread safe.
void register_layer_spec_function(const std::string& name, LayerSpecFunction function,
                                  const void* address = nullptr);
template <LayerSpecCallable F>
requires std::is_pointer_v<F>
void register_layer_spec(const std::string& name, F function) {
  register_layer_spec_function(name, layer_spec_function(function),
                               reinterpret_cast<const void*>(function));
}
template <LayerSpecCallable F>
requires(!std::is_pointer_v<F>) void register_layer_spec(const std::string& name, F function) {
  register_layer_spec_function(name, layer_spec_function(function));
}
std::vector<std::string> registered_layer_specs();

}  // namespace megatron

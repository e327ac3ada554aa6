// Specs of modules as data: which registered module stands in each slot of a layer, with which
// parameters. They are compared, printed and stored; megatron/transformer/module_registry.h builds
// modules from them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace megatron {

// The module of an empty slot.
inline constexpr std::string_view kIdentityOp = "IdentityOp";

using SpecParameter = std::variant<bool, int64_t, double, std::string>;

struct ModuleSpec {
  std::string module{kIdentityOp};  // a registered name
  std::map<std::string, SpecParameter> params;
  std::map<std::string, ModuleSpec> submodules;  // by slot; a missing slot is empty
  // Prefixes of parameter names inside the module and what replaces them, so that modules of
  // different structure have the same checkpoint keys.
  std::map<std::string, std::string> sharded_state_dict_keys_map;

  bool is_identity() const { return module == kIdentityOp; }
  // The spec in a slot: IdentityOp if it is empty.
  const ModuleSpec& submodule(const std::string& slot) const;
  // The spec at a path of slots, such as "self_attention.linear_qkv".
  const ModuleSpec& at(std::string_view path) const;

  bool operator==(const ModuleSpec&) const = default;
};

// The layers of one chunk of a pipeline stage.
struct TransformerBlockSubmodules {
  std::vector<ModuleSpec> layer_specs;  // one per layer
  ModuleSpec layer_norm;                // the final norm

  bool operator==(const TransformerBlockSubmodules&) const = default;
};

// A spec of every layer, or of each layer.
using LayerSpec = std::variant<ModuleSpec, TransformerBlockSubmodules>;

// A line per slot, indented by depth: `linear_qkv: ColumnParallelLinear(gather_output=false)`.
std::string to_string(const ModuleSpec& spec);
// Equal layers that follow each other are printed once. The layers are numbered from `first_layer` on.
std::string to_string(const TransformerBlockSubmodules& spec, int64_t first_layer = 1);
std::string to_string(const LayerSpec& spec, int64_t first_layer = 1);

// JSON: {"module": ..., "params": {...}, "submodules": {...}, "sharded_state_dict_keys_map": {...}}
// without empty members, and {"layer_specs": [...], "layer_norm": {...}}.
nlohmann::json to_json(const ModuleSpec& spec);
nlohmann::json to_json(const TransformerBlockSubmodules& spec);
// Throw Error for an unknown or missing member or a value of another type, with its path.
ModuleSpec module_spec_from_json(const nlohmann::json& json);
TransformerBlockSubmodules block_spec_from_json(const nlohmann::json& json);

}  // namespace megatron

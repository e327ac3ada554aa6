// The modules that specs name, by the interface of the slot that they fit.
//
// A module of your own: derive from the interface, and add a builder under a new name. Every rank
// may read the registries at the same time as another adds to them.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "megatron/base/error.h"
#include "megatron/tensor_parallel/column_parallel_linear.h"
#include "megatron/tensor_parallel/replicated_linear.h"
#include "megatron/tensor_parallel/row_parallel_linear.h"
#include "megatron/transformer/build_arguments.h"

namespace megatron {

class Attention;
class BaseTransformerLayer;
class CoreAttention;
class FeedForward;
class MultiTokenPredictionLayer;
class Norm;

// Throws Error, with the nearest name, for a slot or a parameter of the spec that its module does
// not have.
void check_slots(const ModuleSpec& spec, const std::vector<std::string>& slots);
void check_params(const ModuleSpec& spec, const std::vector<std::string>& params);
// For a module that is not registered under `interface`.
[[noreturn]] void fail_unknown_module(const std::string& name, const std::string& interface,
                                      const std::vector<std::string>& known);

// `Sizes`: what else the slot's owner gives, such as the sizes of a linear layer.
template <typename Module, typename... Sizes>
class ModuleRegistry {
 public:
  struct Entry {
    std::function<std::shared_ptr<Module>(const BuildArguments&, const Sizes&...)> build;
    std::vector<std::string> slots = {};   // of its spec
    std::vector<std::string> params = {};  // of its spec
  };

  ModuleRegistry(std::string interface, std::map<std::string, Entry> entries)
      : interface_(std::move(interface)), entries_(std::move(entries)) {}

  // Throws Error if the name is taken.
  void add(const std::string& name, Entry entry) {
    const std::lock_guard lock(mutex_);
    check(entries_.try_emplace(name, std::move(entry)).second,
          "Expected a new name for {}, but got '{}', which is registered", interface_, name);
  }

  // Throws Error for a name, slot or parameter that is not registered.
  std::shared_ptr<Module> build(const BuildArguments& arguments, const Sizes&... sizes) const {
    const ModuleSpec& spec = arguments.spec;
    const Entry entry = find(spec.module);
    check_slots(spec, entry.slots);
    check_params(spec, entry.params);
    std::shared_ptr<Module> module = entry.build(arguments, sizes...);
    if (!spec.sharded_state_dict_keys_map.empty())
      module->set_sharded_state_dict_keys_map(spec.sharded_state_dict_keys_map);
    return module;
  }

  std::vector<std::string> names() const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> result;
    for (const auto& entry : entries_) result.push_back(entry.first);
    return result;
  }

 private:
  Entry find(const std::string& name) const {
    {
      const std::lock_guard lock(mutex_);
      const auto found = entries_.find(name);
      if (found != entries_.end()) return found->second;
    }
    fail_unknown_module(name, interface_, names());
  }

  std::string interface_;
  mutable std::mutex mutex_;
  std::map<std::string, Entry> entries_;
};

// A norm over `size` features.
ModuleRegistry<Norm, int64_t>& norm_modules();
ModuleRegistry<ColumnLinear, ColumnParallelLinearArguments>& column_linear_modules();
ModuleRegistry<RowLinear, RowParallelLinearArguments>& row_linear_modules();
ModuleRegistry<ReplicatedLinear, ReplicatedLinearArguments>& replicated_linear_modules();
// With the scale of the scores; not set: the configuration's.
ModuleRegistry<CoreAttention, std::optional<double>>& core_attention_modules();
ModuleRegistry<Attention>& attention_modules();
ModuleRegistry<FeedForward>& feed_forward_modules();
ModuleRegistry<BaseTransformerLayer>& layer_modules();
ModuleRegistry<MultiTokenPredictionLayer>& mtp_layer_modules();

// The norm in a slot; null for an empty slot.
std::shared_ptr<Norm> build_norm(const BuildArguments& arguments, int64_t size);

}  // namespace megatron

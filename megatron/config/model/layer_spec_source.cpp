#include "megatron/config/model/layer_spec_source.h"

#include <mutex>

#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/base/nearest_name.h"
#include "megatron/config/model/gpt_model_config.h"

namespace megatron {
namespace {

// The registered functions. Ranks may be threads, so every access locks.
class LayerSpecRegistry {
 public:
  static LayerSpecRegistry& instance() {
    static LayerSpecRegistry registry;
    return registry;
  }

  void add(const std::string& name, LayerSpecFunction function, const void* address) {
    const std::lock_guard lock(mutex_);
    const bool added = entries_.try_emplace(name, Entry{std::move(function), address}).second;
    check(added, "Expected a new name for a layer spec function, but got '{}', which is registered",
          name);
  }
  LayerSpecFunction find(const std::string& name) const {
    check_name(name);
    const std::lock_guard lock(mutex_);
    return entries_.at(name).function;
  }
  void check_name(const std::string& name) const {
    const std::vector<std::string> known = names();
    check(std::find(known.begin(), known.end(), name) != known.end(),
          "Expected a registered layer spec function ({}) for transformer_layer_spec, but got "
          "'{}'{}",
          fmt::join(known, ", "), name, nearest_hint(name, known));
  }
  // Empty if no function with that address is registered.
  std::string name_of(const void* address) const {
    if (address == nullptr) return "";
    const std::lock_guard lock(mutex_);
    for (const auto& [name, entry] : entries_) {
      if (entry.address == address) return name;
    }
    return "";
  }
  std::vector<std::string> names() const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> result;
    for (const auto& entry : entries_) result.push_back(entry.first);
    return result;
  }

 private:
  struct Entry {
    LayerSpecFunction function;
    const void* address = nullptr;
  };

  mutable std::mutex mutex_;
  std::map<std::string, Entry> entries_;
};

}  // namespace

namespace layer_spec_detail {

const TransformerConfig& transformer_of(const GPTModelConfig& config) {
  return config.transformer;
}

}  // namespace layer_spec_detail

std::string LayerSpecSource::name() const {
  if (const auto* name = std::get_if<std::string>(&source_)) return *name;
  if (const auto* callable = std::get_if<Callable>(&source_))
    return LayerSpecRegistry::instance().name_of(callable->address);
  return "";
}

LayerSpec LayerSpecSource::resolve(const GPTModelConfig& config, std::optional<int64_t> vp_stage,
                                   std::optional<int64_t> pp_rank) const {
  if (const auto* spec = std::get_if<ModuleSpec>(&source_)) return *spec;
  if (const auto* block = std::get_if<TransformerBlockSubmodules>(&source_)) return *block;
  const auto* name = std::get_if<std::string>(&source_);
  const LayerSpecFunction function = name != nullptr ? LayerSpecRegistry::instance().find(*name)
                                                     : std::get<Callable>(source_).function;
  return function(config, vp_stage, pp_rank);
}

bool LayerSpecSource::operator==(const LayerSpecSource& other) const {
  const std::string own_name = name();
  if (!own_name.empty()) return own_name == other.name();
  if (source_.index() != other.source_.index()) return false;
  if (const auto* spec = std::get_if<ModuleSpec>(&source_))
    return *spec == std::get<ModuleSpec>(other.source_);
  if (const auto* block = std::get_if<TransformerBlockSubmodules>(&source_))
    return *block == std::get<TransformerBlockSubmodules>(other.source_);
  const void* address = std::get<Callable>(source_).address;
  return address != nullptr && address == std::get<Callable>(other.source_).address;
}

nlohmann::json to_json(const LayerSpecSource& source) {
  if (const auto* spec = std::get_if<ModuleSpec>(&source.source_)) return to_json(*spec);
  if (const auto* block = std::get_if<TransformerBlockSubmodules>(&source.source_))
    return to_json(*block);
  const std::string name = source.name();
  check(!name.empty(),
        "Expected a registered layer spec function or a spec for transformer_layer_spec in JSON, "
        "but got a function without a name; register_layer_spec() gives it one");
  return name;
}

LayerSpecSource layer_spec_source_from_json(const nlohmann::json& json) {
  if (json.is_string()) {
    const std::string name = json.get<std::string>();
    LayerSpecRegistry::instance().check_name(name);
    return name;
  }
  check(json.is_object(),
        "Expected the name of a layer spec function or a spec for transformer_layer_spec, but got "
        "{}",
        json.dump());
  if (json.contains("layer_specs")) return block_spec_from_json(json);
  return module_spec_from_json(json);
}

void register_layer_spec_function(const std::string& name, LayerSpecFunction function,
                                  const void* address) {
  LayerSpecRegistry::instance().add(name, std::move(function), address);
}

std::vector<std::string> registered_layer_specs() {
  return LayerSpecRegistry::instance().names();
}

}  // namespace megatron

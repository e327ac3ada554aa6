#include "megatron/models/common/builder_registry.h"

#include <map>
#include <mutex>

#include "megatron/base/error.h"
#include "megatron/config/model/builder_names.h"

namespace megatron {
namespace {

// Entries are never removed, so references to them stay valid.
struct BuilderRegistry {
  static BuilderRegistry& instance() {
    static BuilderRegistry registry;
    return registry;
  }
  std::mutex mutex;
  std::map<std::string, BuilderEntry> entries;
};

}  // namespace

const BuilderEntry& get_builder(const std::string& name) {
  check_builder_name(name);
  BuilderRegistry& registry = BuilderRegistry::instance();
  const std::lock_guard lock(registry.mutex);
  return registry.entries.at(name);
}

std::vector<std::string> registered_builders() {
  return builder_names();
}

void register_builder(BuilderEntry entry) {
  BuilderRegistry& registry = BuilderRegistry::instance();
  const std::lock_guard lock(registry.mutex);
  const std::string name = entry.name;
  check(registry.entries.try_emplace(name, std::move(entry)).second,
        "Expected a new name for a builder, but got '{}', which is registered", name);
  add_builder_name(name);
}

}  // namespace megatron

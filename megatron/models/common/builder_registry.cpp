#include "megatron/models/common/builder_registry.h"

#include <map>
#include <mutex>

#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/base/nearest_name.h"

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
  BuilderRegistry& registry = BuilderRegistry::instance();
  {
    const std::lock_guard lock(registry.mutex);
    const auto found = registry.entries.find(name);
    if (found != registry.entries.end()) return found->second;
  }
  const std::vector<std::string> known = registered_builders();
  fail("Expected a registered builder ({}), but got '{}'; the nearest is {}",
       fmt::join(known, ", "), name, nearest_name(name, known));
}

std::vector<std::string> registered_builders() {
  BuilderRegistry& registry = BuilderRegistry::instance();
  const std::lock_guard lock(registry.mutex);
  std::vector<std::string> names;
  for (const auto& [name, entry] : registry.entries) names.push_back(name);
  return names;
}

void register_builder(BuilderEntry entry) {
  BuilderRegistry& registry = BuilderRegistry::instance();
  const std::lock_guard lock(registry.mutex);
  const std::string name = entry.name;
  check(registry.entries.try_emplace(name, std::move(entry)).second,
        "Expected a new name for a builder, but got '{}', which is registered", name);
}

}  // namespace megatron

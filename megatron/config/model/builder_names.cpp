#include "megatron/config/model/builder_names.h"

#include <mutex>
#include <set>

#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/base/nearest_name.h"

namespace megatron {
namespace {

struct BuilderNames {
  static BuilderNames& instance() {
    static BuilderNames names;
    return names;
  }
  std::mutex mutex;
  std::set<std::string> names;
};

}  // namespace

void add_builder_name(const std::string& name) {
  BuilderNames& known = BuilderNames::instance();
  const std::lock_guard lock(known.mutex);
  known.names.insert(name);
}

std::vector<std::string> builder_names() {
  BuilderNames& known = BuilderNames::instance();
  const std::lock_guard lock(known.mutex);
  return {known.names.begin(), known.names.end()};
}

void check_builder_name(const std::string& name) {
  const std::vector<std::string> known = builder_names();
  for (const std::string& other : known) {
    if (other == name) return;
  }
  fail("Expected a registered builder ({}), but got '{}'; the nearest is {}",
       fmt::join(known, ", "), name, nearest_name(name, known));
}

}  // namespace megatron

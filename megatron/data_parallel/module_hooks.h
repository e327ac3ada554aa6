// Forward hooks on the modules of a model, removed when this object goes.
#pragma once

#include <functional>
#include <utility>

#include "megatron/data_parallel/module_group.h"

namespace megatron {

class ModuleHooks {
 public:
  // `hooks_of` gives the hooks of a group by its index. Throws Error for a group that has
  // parameters but no module.
  ModuleHooks(const std::vector<ModuleGroup>& groups,
              const std::function<ForwardHooks(size_t group)>& hooks_of);
  ~ModuleHooks();
  ModuleHooks(const ModuleHooks&) = delete;
  ModuleHooks& operator=(const ModuleHooks&) = delete;

 private:
  // The modules and the numbers of their hooks.
  std::vector<std::pair<std::shared_ptr<HookedModule>, int>> hooks_;
};

}  // namespace megatron

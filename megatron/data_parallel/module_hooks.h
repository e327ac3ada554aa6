// Forward hooks on the modules of a model, removed when this object goes.
#pragma once

#include <functional>

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
  std::vector<std::shared_ptr<HookedModule>> modules_;
};

}  // namespace megatron

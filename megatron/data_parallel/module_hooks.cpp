#include "megatron/data_parallel/module_hooks.h"

#include "megatron/base/error.h"

namespace megatron {

ModuleHooks::ModuleHooks(const std::vector<ModuleGroup>& groups,
                         const std::function<ForwardHooks(size_t group)>& hooks_of) {
  for (const ModuleGroup& group : groups) {
    check(group.module != nullptr || group.parameters.empty(),
          "Expected a module with forward hooks for every sharded parameter, but {} has none; "
          "--data-parallel-sharding-strategy no_shard works",
          group.parameters.empty() ? "" : group.parameters.front()->name);
  }
  for (size_t group = 0; group < groups.size(); ++group) {
    const std::shared_ptr<HookedModule>& module = groups[group].module;
    if (!module) continue;
    hooks_.emplace_back(module, module->add_forward_hooks(hooks_of(group)));
  }
}

ModuleHooks::~ModuleHooks() {
  for (const auto& [module, number] : hooks_) module->remove_forward_hooks(number);
}

}  // namespace megatron

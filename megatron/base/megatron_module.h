// Base class of all modules: a tree of named submodules and parameters.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "megatron/base/parameter.h"

namespace megatron {

class MegatronModule {
 public:
  MegatronModule() = default;
  MegatronModule(const MegatronModule&) = delete;
  MegatronModule& operator=(const MegatronModule&) = delete;
  virtual ~MegatronModule() = default;

  // All parameters of this module and its submodules in registration order, without duplicates.
  std::vector<ParameterPtr> parameters() const;

  // Sets the qualified name of every parameter, starting with `prefix`. Call once, on the root.
  void assign_names(const std::string& prefix = "");

 protected:
  ParameterPtr register_parameter(std::string_view name, ParameterPtr parameter) {
    parameters_.emplace_back(name, parameter);
    return parameter;
  }
  template <typename Module>
  std::shared_ptr<Module> register_module(std::string_view name, std::shared_ptr<Module> module) {
    modules_.emplace_back(name, module);
    return module;
  }

 private:
  template <typename Visit>
  void visit_parameters(const std::string& prefix, const Visit& visit) const;

  std::vector<std::pair<std::string, ParameterPtr>> parameters_;
  std::vector<std::pair<std::string, std::shared_ptr<MegatronModule>>> modules_;
};

}  // namespace megatron

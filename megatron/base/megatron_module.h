// Base class of all modules: a tree of named submodules and parameters.
#pragma once

#include <map>
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

  // Converts the floating-point parameters to `dtype`, except those with keep_fp32 (Megatron's
  // module.bfloat16()). Call before gradients are kept.
  void convert_parameters(at::ScalarType dtype);

  // Sets the qualified name of every parameter, starting with `prefix`. Call once, on the root.
  void assign_names(const std::string& prefix = "");

  // Prefixes of parameter names inside this module, and what replaces them: modules of different
  // structure then have parameters of the same names. Call before assign_names, once the module has
  // its parameters. Throws Error for a prefix that no parameter has.
  void set_sharded_state_dict_keys_map(std::map<std::string, std::string> map);

  // All submodules, each before its own submodules.
  std::vector<std::shared_ptr<MegatronModule>> descendants() const;

  // The module at a path of registered names, such as decoder.layers.0.mlp; null if there is none.
  std::shared_ptr<MegatronModule> find_module(std::string_view path) const;

 protected:
  // Runs in every module of the tree after convert_parameters.
  virtual void on_conversion(at::ScalarType /*dtype*/) {}

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
  void notify_of_conversion(at::ScalarType dtype);
  using NamedParameters = std::vector<std::pair<std::string, ParameterPtr>>;
  // All parameters with their names relative to this module.
  NamedParameters named_parameters() const;

  NamedParameters parameters_;
  std::vector<std::pair<std::string, std::shared_ptr<MegatronModule>>> modules_;
  std::map<std::string, std::string> keys_map_;
};

}  // namespace megatron

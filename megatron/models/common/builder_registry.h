// Builders by name: what the `builder` of a configuration refers to.
#pragma once

#include <any>
#include <string>

#include "megatron/models/common/model_builder.h"

namespace megatron {

struct BuilderEntry {
  std::string name;
  std::any factory;  // a BuilderFactory
};

template <typename Model, typename Config>
using BuilderFactory = std::unique_ptr<ModelBuilder<Model, Config>> (*)(Config, BuildOptions);

// Throws Error, with the nearest name, for a name that is not registered. Thread safe.
const BuilderEntry& get_builder(const std::string& name);
std::vector<std::string> registered_builders();

// Throws Error if the name is taken.
void register_builder(BuilderEntry entry);

// Registers the class Builder, a ModelBuilder, under a name.
template <typename Builder>
void register_builder(const std::string& name) {
  using Model = typename Builder::Model;
  using Config = typename Builder::Config;
  const BuilderFactory<Model, Config> factory =
      [](Config config, BuildOptions options) -> std::unique_ptr<ModelBuilder<Model, Config>> {
    return std::make_unique<Builder>(std::move(config), std::move(options));
  };
  register_builder(BuilderEntry{name, factory});
}

// The builder that config.builder names. Throws Error for an unknown name, or if that builder makes
// other models or takes another type of configuration.
template <typename Model, typename Config>
std::unique_ptr<ModelBuilder<Model, Config>> make_builder(Config config,
                                                          BuildOptions options = {}) {
  const BuilderEntry& entry = get_builder(config.builder);
  const auto* factory = std::any_cast<BuilderFactory<Model, Config>>(&entry.factory);
  check(factory != nullptr,
        "Expected a builder for this type of configuration and model, but got '{}', which is for "
        "others",
        config.builder);
  return (*factory)(std::move(config), std::move(options));
}

}  // namespace megatron

// The registered names of builders, so that a configuration can refuse another one before anything
// is built. The builders themselves are in megatron/models/common/builder_registry.h.
#pragma once

#include <string>
#include <vector>

namespace megatron {

// Thread safe. Adding a name again changes nothing.
void add_builder_name(const std::string& name);
std::vector<std::string> builder_names();

// Throws Error, with the nearest name, for one that is not registered.
void check_builder_name(const std::string& name);

}  // namespace megatron

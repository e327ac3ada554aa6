// Fields of Megatron's configurations that have one supported value here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace megatron {

struct FixedField {
  std::string name;
  nlohmann::json value;
  std::string advice = "this version supports no other value";
};

const std::vector<FixedField>& fixed_fields();

// The field with that name, or null. Throws Error if `value` is neither its value nor null.
const FixedField* find_fixed_field(std::string_view name, const nlohmann::json& value);

}  // namespace megatron

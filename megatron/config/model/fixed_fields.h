// Fields of Megatron's configurations that have one supported value here: what asks for a feature of
// a later version, or for what is always so.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace megatron {

struct FixedField {
  std::string name;
  nlohmann::json value = nullptr;
  std::string advice = "this version supports no other value";
  bool any_value = false;  // it selects kernels or collectives of the same numbers
};

const std::vector<FixedField>& fixed_fields();

// The field with that name, or null. Throws Error if `value` is neither its value nor null,
// and for an unknown name that begins as those of FP8 and FP4 do.
const FixedField* find_fixed_field(std::string_view name, const nlohmann::json& value);

}  // namespace megatron

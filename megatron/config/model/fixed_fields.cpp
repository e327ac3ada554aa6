#include "megatron/config/model/fixed_fields.h"

#include <algorithm>

#include "megatron/base/error.h"

namespace megatron {
namespace {

constexpr const char* kExperts = "mixture of experts is not supported in this version";
constexpr const char* kFp16 = "fp16 is not supported in this version; bf16 works";
constexpr const char* kFp8 = "FP8 and FP4 are not supported in this version; bf16 works";

}  // namespace

const std::vector<FixedField>& fixed_fields() {
  static const std::vector<FixedField> fields = {
      {"attention_softmax_in_fp32", true},
      {"fp16", false, kFp16},
      {"fp8", nullptr, kFp8},
      {"fp8_param", false, kFp8},
      {"fp4", nullptr, kFp8},
      {"num_moe_experts", nullptr, kExperts},
      {"moe_grouped_gemm", false, kExperts},
      {"moe_ffn_hidden_size", nullptr, kExperts},
      {"moe_shared_expert_intermediate_size", nullptr, kExperts},
      {"moe_router_pre_softmax", false, kExperts},
  };
  return fields;
}

const FixedField* find_fixed_field(std::string_view name, const nlohmann::json& value) {
  const auto field = std::ranges::find(fixed_fields(), name, &FixedField::name);
  if (field == fixed_fields().end()) return nullptr;
  check(value.is_null() || value == field->value, "Expected {} to be {}, but got {}; {}", name,
        field->value.dump(), value.dump(), field->advice);
  return &*field;
}

}  // namespace megatron

#include "megatron/ops/quantization/ggml_type.h"

#include <algorithm>
#include <cctype>

#include "megatron/base/error.h"

namespace megatron {
namespace {

struct TypeEntry {
  GgmlType type;
  const char* name;
  GgmlTypeSize size;
};

constexpr TypeEntry kGgmlTypes[] = {
    {GgmlType::F32, "F32", {1, 4}},       {GgmlType::F16, "F16", {1, 2}},
    {GgmlType::BF16, "BF16", {1, 2}},     {GgmlType::Q8_0, "Q8_0", {32, 34}},
    {GgmlType::Q4_0, "Q4_0", {32, 18}},   {GgmlType::Q4_1, "Q4_1", {32, 20}},
    {GgmlType::Q5_0, "Q5_0", {32, 22}},   {GgmlType::Q5_1, "Q5_1", {32, 24}},
    {GgmlType::Q4_K, "Q4_K", {256, 144}}, {GgmlType::Q5_K, "Q5_K", {256, 176}},
    {GgmlType::Q6_K, "Q6_K", {256, 210}},
};

struct UnreadType {
  uint32_t number;
  const char* name;
};

// Types that files may hold and that are not read: for messages.
constexpr UnreadType kUnreadTypes[] = {
    {4, "Q4_2"},      {5, "Q4_3"},      {9, "Q8_1"},      {10, "Q2_K"},    {11, "Q3_K"},
    {15, "Q8_K"},     {16, "IQ2_XXS"},  {17, "IQ2_XS"},   {18, "IQ3_XXS"}, {19, "IQ1_S"},
    {20, "IQ4_NL"},   {21, "IQ3_S"},    {22, "IQ2_S"},    {23, "IQ4_XS"},  {24, "I8"},
    {25, "I16"},      {26, "I32"},      {27, "I64"},      {28, "F64"},     {29, "IQ1_M"},
    {31, "Q4_0_4_4"}, {32, "Q4_0_4_8"}, {33, "Q4_0_8_8"}, {34, "TQ1_0"},   {35, "TQ2_0"},
    {39, "MXFP4"},    {40, "NVFP4"},    {41, "Q1_0"},
};

const TypeEntry& entry_of(GgmlType type) {
  for (const TypeEntry& entry : kGgmlTypes) {
    if (entry.type == type) return entry;
  }
  fail("Expected a tensor type of GGUF, but got number {}", static_cast<uint32_t>(type));
}

}  // namespace

std::optional<GgmlType> ggml_type(uint32_t number) {
  for (const TypeEntry& entry : kGgmlTypes) {
    if (static_cast<uint32_t>(entry.type) == number) return entry.type;
  }
  return std::nullopt;
}

std::optional<GgmlType> ggml_type(std::string_view name) {
  std::string upper(name);
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  for (const TypeEntry& entry : kGgmlTypes) {
    if (upper == entry.name) return entry.type;
  }
  return std::nullopt;
}

std::string ggml_type_name(uint32_t number) {
  for (const TypeEntry& entry : kGgmlTypes) {
    if (static_cast<uint32_t>(entry.type) == number) return entry.name;
  }
  for (const UnreadType& unread : kUnreadTypes) {
    if (unread.number == number) return unread.name;
  }
  return fmt::format("number {}", number);
}

std::string ggml_type_name(GgmlType type) {
  return entry_of(type).name;
}

GgmlTypeSize ggml_type_size(GgmlType type) {
  return entry_of(type).size;
}

std::string readable_ggml_types() {
  std::string names;
  for (const TypeEntry& entry : kGgmlTypes) {
    if (!names.empty()) names += ", ";
    names += entry.name;
  }
  return names;
}

int64_t ggml_row_bytes(GgmlType type, int64_t values) {
  const TypeEntry& entry = entry_of(type);
  check(values >= 0 && values % entry.size.block_values == 0,
        "Expected rows of a multiple of {} values for {}, but got {}; F32, F16 and BF16 take any "
        "number",
        entry.size.block_values, entry.name, values);
  return values / entry.size.block_values * entry.size.block_bytes;
}

}  // namespace megatron

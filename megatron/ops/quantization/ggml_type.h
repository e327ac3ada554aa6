// The tensor types of GGUF files: their names, numbers and sizes, as ggml defines them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace megatron {

// The types that this program reads; the values are ggml's numbers.
enum class GgmlType : uint32_t {
  F32 = 0,
  F16 = 1,
  Q4_0 = 2,
  Q4_1 = 3,
  Q5_0 = 6,
  Q5_1 = 7,
  Q8_0 = 8,
  Q4_K = 12,
  Q5_K = 13,
  Q6_K = 14,
  BF16 = 30,
};

// A row of a tensor is a sequence of blocks of `block_values` values in `block_bytes` bytes each.
struct GgmlTypeSize {
  int64_t block_values = 1;
  int64_t block_bytes = 0;
};

// None for a number that is not in GgmlType.
std::optional<GgmlType> ggml_type(uint32_t number);
// From "q8_0" or "Q8_0"; none for another name.
std::optional<GgmlType> ggml_type(std::string_view name);
// "Q4_K"; also of types that are not read, such as "IQ4_XS"; "number 99" for others.
std::string ggml_type_name(uint32_t number);
std::string ggml_type_name(GgmlType type);
GgmlTypeSize ggml_type_size(GgmlType type);
// "F32, F16, ...": all types that are read.
std::string readable_ggml_types();

// Bytes of a row of `values` values. Throws Error if it is not a multiple of the block.
int64_t ggml_row_bytes(GgmlType type, int64_t values);

}  // namespace megatron

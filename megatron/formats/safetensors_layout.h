// The header of a safetensors file whose tensors are written later, in any order and by any process:
// where each one's data begins.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <c10/core/ScalarType.h>

namespace megatron {

struct PlannedTensor {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;

  int64_t bytes() const;
};

struct SafetensorsLayout {
  std::string header;          // the first bytes of the file
  std::vector<int64_t> begin;  // offset in the file by tensor
  int64_t file_bytes = 0;
};

// The tensors lie in the order of the list, those of wide types first, so that all are aligned.
// Throws Error for duplicate names and unsupported types.
SafetensorsLayout plan_safetensors(const std::vector<PlannedTensor>& tensors,
                                   const std::map<std::string, std::string>& metadata = {});

}  // namespace megatron

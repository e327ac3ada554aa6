#include "megatron/parallel/object_collectives.h"

#include <algorithm>
#include <cstring>

#include <ATen/ATen.h>

namespace megatron {

std::vector<std::string> all_gather_strings(std::string_view text, const ProcessGroup& group) {
  if (group.size() == 1) return {std::string(text)};
  const auto own = at::full({1}, static_cast<int64_t>(text.size()), at::kLong);
  const auto lengths = group.all_gather(own.to(group.device())).to(at::kCPU);
  const int64_t longest = std::max<int64_t>(lengths.max().item<int64_t>(), 1);
  auto padded = at::zeros({longest}, at::kByte);
  std::memcpy(padded.data_ptr(), text.data(), text.size());
  const auto gathered = group.all_gather(padded.to(group.device())).to(at::kCPU);
  std::vector<std::string> texts;
  const char* next = static_cast<const char*>(gathered.const_data_ptr());
  for (int rank = 0; rank < group.size(); ++rank, next += longest) {
    texts.emplace_back(next, static_cast<size_t>(lengths[rank].item<int64_t>()));
  }
  return texts;
}

}  // namespace megatron

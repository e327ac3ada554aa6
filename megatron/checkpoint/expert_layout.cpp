#include "megatron/checkpoint/expert_layout.h"

#include <string_view>

#include <fmt/format.h>

#include "megatron/base/parameter.h"

namespace megatron {
namespace {

constexpr std::string_view kStack = ".experts.experts.";

bool is_stack(const ShardedTensor& tensor) {
  return tensor.parameter != nullptr && tensor.parameter->expert &&
         tensor.key.find(kStack) != std::string::npos;
}

std::string sequential_key(const std::string& key, int64_t expert) {
  return std::string(key).replace(key.find(kStack), kStack.size(),
                                  fmt::format(".experts.local_experts.{}.", expert));
}

void append_experts(const ShardedTensor& stack, ShardedStateDict& state) {
  for (int64_t i = 0; i < stack.data.size(0); ++i) {
    ShardedTensor expert = stack;
    expert.key = sequential_key(stack.key, stack.global_offset[0] + i);
    expert.data = stack.data.select(0, i);
    expert.global_shape.erase(expert.global_shape.begin());
    expert.global_offset.erase(expert.global_offset.begin());
    state.push_back(std::move(expert));
  }
}

}  // namespace

ShardedStateDict with_sequential_experts(const ShardedStateDict& state) {
  ShardedStateDict result;
  for (const ShardedTensor& tensor : state) {
    if (is_stack(tensor))
      append_experts(tensor, result);
    else
      result.push_back(tensor);
  }
  return result;
}

ShardedStateDict in_layout_of(const CheckpointReader& checkpoint, const ShardedStateDict& state) {
  ShardedStateDict result;
  for (const ShardedTensor& tensor : state) {
    const bool is_sequential = is_stack(tensor) && !checkpoint.contains(tensor.key) &&
                               checkpoint.contains(sequential_key(tensor.key, 0));
    if (is_sequential)
      append_experts(tensor, result);
    else
      result.push_back(tensor);
  }
  return result;
}

}  // namespace megatron

// Maps a shard of the global tensor to runs of consecutive elements, and draws those.
#include "megatron/ops/random/random_weights.h"

#include <cmath>
#include <numbers>

#include <ATen/ATen.h>

#include "megatron/base/integer_math.h"
#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/core/parallel_for.h"
#include "megatron/ops/random/philox.h"
#include "megatron/ops/random/random_weights_kernels.h"

namespace megatron {

namespace {

// A block of the global tensor as rows. Trailing dimensions that the block spans completely are
// merged into one, so that a full tensor is a single row.
struct Block {
  std::vector<int64_t> shape, offset, stride;  // stride of the global tensor
};

Block merge_block(at::IntArrayRef local, at::IntArrayRef global_shape,
                  at::IntArrayRef global_offset) {
  Block block{{1}, {0}, {1}};
  int64_t stride = 1;
  bool complete = true;  // the block spans all dimensions after the current one
  for (int64_t i = static_cast<int64_t>(local.size()) - 1; i >= 0; --i) {
    if (complete) {
      block.shape.back() *= local[i];
      block.offset.back() += global_offset[i] * stride;
    } else {
      block.shape.push_back(local[i]);
      block.offset.push_back(global_offset[i]);
      block.stride.push_back(stride);
    }
    complete = complete && local[i] == global_shape[i];
    stride *= global_shape[i];
  }
  return block;  // innermost first
}

void check_block(const at::Tensor& shard, double std, at::IntArrayRef global_shape,
                 at::IntArrayRef global_offset) {
  constexpr std::string_view operation = "fill_normal";
  check_floating(shard, operation, "the shard");
  check(std::isfinite(std) && std >= 0,
        "{}: Expected a standard deviation of at least 0, but got {}", operation, std);
  const auto rank = static_cast<size_t>(shard.dim());
  check(global_shape.size() == rank && global_offset.size() == rank,
        "{}: Expected a global shape and offset of {} dimensions as the shard, but got {} and {}",
        operation, rank, global_shape.size(), global_offset.size());
  for (size_t i = 0; i < rank; ++i) {
    check(global_offset[i] >= 0 && global_offset[i] + shard.size(i) <= global_shape[i],
          "{}: Expected a block inside the global shape [{}], but got offset [{}] and size [{}]",
          operation, fmt::join(global_shape, ", "), fmt::join(global_offset, ", "),
          fmt::join(shard.sizes(), ", "));
  }
}

template <typename T>
void fill_contiguous(T* out, const Block& block, uint64_t key, double std) {
  constexpr int64_t run = 8192;
  const int64_t length = block.shape[0];
  int64_t rows = 1;
  for (size_t i = 1; i < block.shape.size(); ++i) rows *= block.shape[i];
  if (length * rows == 0) return;
  const int64_t runs = ceil_div(length, run);
  const int64_t grain = length >= run ? 1 : run / length;
  parallel_for(0, rows * runs, grain, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t row = item / runs, start = item % runs * run;
      int64_t index = block.offset[0] + start, rest = row;
      for (size_t i = 1; i < block.shape.size(); ++i) {
        index += (block.offset[i] + rest % block.shape[i]) * block.stride[i];
        rest /= block.shape[i];
      }
      with_kernel_level([&](auto level) {
        kernels::normal_elements<level, T>(key, index, std::min(run, length - start), std,
                                           out + row * length + start);
      });
    }
  });
}

}  // namespace

namespace reference {

double normal_element(double std, uint64_t seed, std::string_view global_name,
                      int64_t global_index) {
  const uint64_t key = hash_name(seed, global_name);
  const auto element = static_cast<uint64_t>(global_index);
  const uint64_t counter = element / 32 * 16 + element % 16;
  const auto word =
      philox4x32_10({static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0},
                    {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)});
  const auto unit = [](uint32_t high, uint32_t low) {
    return std::ldexp(static_cast<double>((static_cast<uint64_t>(high) << 32 | low) >> 12), -52);
  };
  const double radius = std::sqrt(-2.0 * std::log(1.0 - unit(word[0], word[1])));
  const double angle = 2.0 * std::numbers::pi * unit(word[2], word[3]);
  return std * radius * (element % 32 < 16 ? std::cos(angle) : std::sin(angle));
}

}  // namespace reference

void fill_normal(at::Tensor& shard, double std, uint64_t seed, std::string_view global_name,
                 at::IntArrayRef global_shape, at::IntArrayRef global_offset) {
  check_block(shard, std, global_shape, global_offset);
  at::Tensor target = shard.detach();
  const bool direct = use_cpu_kernel_or_half(target) && target.is_contiguous();
  const auto dtype = direct ? target.scalar_type() : at::kDouble;
  at::Tensor drawn = direct ? target : at::empty(target.sizes(), at::TensorOptions(dtype));
  const Block block = merge_block(target.sizes(), global_shape, global_offset);
  const uint64_t key = hash_name(seed, global_name);
  dispatch_dtype_or_half(drawn.scalar_type(), [&](auto type) {
    using T = decltype(type);
    fill_contiguous<T>(drawn.mutable_data_ptr<T>(), block, key, std);
  });
  if (!direct) target.copy_(drawn);
}

}  // namespace megatron

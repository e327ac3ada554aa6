#include "megatron/ops/attention/attention_mask.h"

#include <algorithm>
#include <limits>

#include <ATen/ATen.h>

#include "megatron/ops/core/dispatch.h"

namespace megatron {

namespace {

constexpr int64_t kUnbounded = std::numeric_limits<int64_t>::max();

void validate_masked(const at::Tensor& masked, const at::Tensor& q, const at::Tensor& k,
                     std::string_view operation) {
  check_alike(masked, q, operation, "mask", /*dtype=*/false);
  check(masked.scalar_type() == at::kBool, "{}: Expected a mask of dtype bool, but got {}",
        operation, c10::toString(masked.scalar_type()));
  check(masked.dim() == 4 && (masked.size(0) == 1 || masked.size(0) == q.size(1)) &&
            masked.size(1) == 1 && masked.size(2) == q.size(0) && masked.size(3) == k.size(0),
        "{}: Expected a mask of shape [1 or {}, 1, {}, {}], but got [{}]", operation, q.size(1),
        q.size(0), k.size(0), fmt::join(masked.sizes(), ", "));
}

void validate_positions(const at::Tensor& positions, int64_t count, std::string_view operation,
                        std::string_view name) {
  check_ordinals(positions, count, operation, name);
  const int64_t* position = positions.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < count; ++i) {
    check(position[i] >= 0 && (i == 0 || position[i] > position[i - 1]),
          "{}: Expected {} of at least 0 that ascend, but got {} at index {}", operation, name,
          position[i], i);
  }
}

// `limit`: the number of tokens, or with positions one more than the last.
void validate_offsets(const at::Tensor& offsets, int64_t limit, bool positions,
                      std::string_view operation, std::string_view name) {
  check(offsets.dim() == 1 && offsets.size(0) >= 2 && offsets.is_cpu() &&
            (offsets.scalar_type() == at::kInt || offsets.scalar_type() == at::kLong),
        "{}: Expected {} of shape [sequences + 1], int32 or int64 on the CPU, but got [{}], {} on "
        "{}",
        operation, name, fmt::join(offsets.sizes(), ", "), c10::toString(offsets.scalar_type()),
        offsets.device().str());
  const std::vector<int64_t> list = sequence_offsets(offsets);
  check(list.front() == 0, "{}: Expected {} to start at 0, but got {}", operation, name,
        list.front());
  for (size_t i = 1; i < list.size(); ++i) {
    check(list[i] > list[i - 1],
          "{}: Expected {} to increase, but got {} after {} at index {}; leave empty sequences out",
          operation, name, list[i], list[i - 1], i);
  }
  if (positions) {
    check(limit <= list.back(), "{}: Expected positions below the end of {}, {}, but got {}",
          operation, name, list.back(), limit - 1);
  } else {
    check(list.back() == limit, "{}: Expected {} to end at the number of tokens, {}, but got {}",
          operation, name, limit, list.back());
  }
}

}  // namespace

std::vector<int64_t> sequence_offsets(const at::Tensor& cu_seqlens) {
  const at::Tensor numbers = cu_seqlens.to(at::kLong).contiguous();
  const int64_t* from = numbers.const_data_ptr<int64_t>();
  return {from, from + numbers.numel()};
}

void AttentionMask::validate(const at::Tensor& q, const at::Tensor& k,
                             std::string_view operation) const {
  const int64_t sq = q.size(0), sk = k.size(0), b = q.size(1);
  check(query_offset >= 0, "{}: Expected query_offset of at least 0, but got {}", operation,
        query_offset);
  if (masked.defined()) validate_masked(masked, q, k, operation);
  const bool positions = query_positions.defined() || key_positions.defined();
  if (positions) {
    validate_positions(query_positions, sq, operation, "query_positions");
    validate_positions(key_positions, sk, operation, "key_positions");
    check(query_offset == 0, "{}: Expected query_offset 0 with query_positions, but got {}",
          operation, query_offset);
  }
  if (!cu_seqlens_q.defined()) {
    check(!cu_seqlens_k.defined(),
          "{}: Expected cu_seqlens_q with cu_seqlens_k, but got cu_seqlens_k alone", operation);
    return;
  }
  check(b == 1, "{}: Expected packed sequences in a batch of 1, but got {}", operation, b);
  check(query_offset == 0,
        "{}: Expected query_offset 0 with packed sequences, but got {}; cached keys need one "
        "sequence per batch entry",
        operation, query_offset);
  if (positions) {
    check(!cu_seqlens_k.defined(),
          "{}: Expected cu_seqlens_q alone with query_positions, but got cu_seqlens_k too",
          operation);
    for (const at::Tensor& x : {query_positions, key_positions}) {
      const int64_t end = x.numel() == 0 ? 0 : x.const_data_ptr<int64_t>()[x.numel() - 1] + 1;
      validate_offsets(cu_seqlens_q, end, positions, operation, "cu_seqlens_q");
    }
    return;
  }
  validate_offsets(cu_seqlens_q, sq, positions, operation, "cu_seqlens_q");
  const at::Tensor& keys = cu_seqlens_k.defined() ? cu_seqlens_k : cu_seqlens_q;
  validate_offsets(keys, sk, positions, operation, "cu_seqlens_k");
  check(keys.numel() == cu_seqlens_q.numel(),
        "{}: Expected as many sequences in cu_seqlens_k as in cu_seqlens_q, {}, but got {}",
        operation, cu_seqlens_q.numel() - 1, keys.numel() - 1);
}

std::vector<KeyRange> AttentionMask::visible_keys(int64_t sq, int64_t sk) const {
  const auto offsets = [](const at::Tensor& x) {
    return x.defined() ? sequence_offsets(x) : std::vector<int64_t>{0, kUnbounded};
  };
  const std::vector<int64_t> queries = offsets(cu_seqlens_q),
                             keys = offsets(cu_seqlens_k.defined() ? cu_seqlens_k : cu_seqlens_q);
  const auto data = [](const at::Tensor& x) {
    return x.defined() ? x.const_data_ptr<int64_t>() : nullptr;
  };
  const int64_t *query_position = data(query_positions), *key_position = data(key_positions);
  // The number of keys before a place in the row of keys.
  const auto keys_before = [&](int64_t place) {
    if (key_position == nullptr) return std::clamp<int64_t>(place, 0, sk);
    return std::lower_bound(key_position, key_position + sk, place) - key_position;
  };
  const int64_t left = window ? window->left : -1;
  const int64_t right = causal ? 0 : window ? window->right : -1;

  std::vector<KeyRange> ranges;
  ranges.reserve(sq);
  size_t sequence = 0;
  for (int64_t i = 0; i < sq; ++i) {
    const int64_t position = query_position == nullptr ? i : query_position[i];
    while (position >= queries[sequence + 1]) ++sequence;
    const int64_t begin = keys[sequence], end = keys[sequence + 1];
    const int64_t place = begin + position - queries[sequence] + query_offset;
    const int64_t lowest = left < 0 ? begin : std::clamp(place - left, begin, end);
    const int64_t limit = right < 0 || right >= end - place ? end : place + right + 1;
    const int64_t first = keys_before(lowest);
    ranges.push_back({first, std::max(first, keys_before(limit))});
  }
  return ranges;
}

at::Tensor AttentionMask::materialize(int64_t sq, int64_t sk, const at::Device& device) const {
  const std::vector<KeyRange> ranges = visible_keys(sq, sk);
  // Pinned, so that the copy to a GPU does not stall the host.
  at::Tensor bounds =
      at::empty({2, sq, 1}, at::TensorOptions(at::kLong).pinned_memory(device.is_cuda()));
  int64_t* bound = bounds.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < sq; ++i) {
    bound[i] = ranges[i].first;
    bound[sq + i] = ranges[i].last;
  }
  bounds = bounds.to(device, /*non_blocking=*/true);
  const at::Tensor key = at::arange(sk, bounds.options().pinned_memory(false));
  const at::Tensor hidden = key.lt(bounds[0]).logical_or_(key.ge(bounds[1])).view({1, 1, sq, sk});
  return masked.defined() ? hidden.logical_or(masked) : hidden;
}

}  // namespace megatron

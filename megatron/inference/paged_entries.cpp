#include "megatron/inference/paged_entries.h"

#include <ATen/ATen.h>

#include "megatron/base/error.h"

namespace megatron {

int64_t bytes_per_token(const CacheEntries& entries) {
  int64_t bytes = 0;
  for (const auto& [key, entry] : entries)
    bytes += c10::multiply_integers(entry.sizes) *
             static_cast<int64_t>(entry.options.dtype().itemsize());
  return bytes;
}

PagedEntries::PagedEntries(const CacheEntries& entries, int64_t num_blocks, int64_t block_size)
    : block_size_(block_size) {
  for (const auto& [key, entry] : entries) {
    std::vector<int64_t> shape = {num_blocks * block_size};
    shape.insert(shape.end(), entry.sizes.begin(), entry.sizes.end());
    entries_.emplace(key, at::empty(shape, entry.options));
  }
}

at::Tensor PagedEntries::entry(int64_t layer_number, std::string_view name) const {
  const auto found = entries_.find({layer_number, std::string(name)});
  check(found != entries_.end(),
        "Expected layer {} to cache what it did in the first pass, but got {}", layer_number, name);
  return found->second;
}

void PagedEntries::copy_block(int64_t from, int64_t to) {
  for (auto& [key, entry] : entries_) {
    entry.narrow(0, to * block_size_, block_size_)
        .copy_(entry.narrow(0, from * block_size_, block_size_));
  }
}

DynamicInferenceContext::DynamicInferenceContext(PagedEntries& cache, const StepRow& row,
                                                 int64_t block_size, at::Device device)
    : cache_(cache), row_(row) {
  const int64_t tokens = row.position + std::ssize(row.tokens);
  slots_ = at::empty({tokens}, at::kLong);
  int64_t* slots = slots_.data_ptr<int64_t>();
  for (int64_t i = 0; i < tokens; ++i)
    slots[i] = row.blocks[i / block_size] * block_size + i % block_size;
  slots_ = slots_.to(device);
}

int64_t DynamicInferenceContext::rotary_sequence_length(int64_t tokens) const {
  return row_.sequence_length > 0 ? row_.sequence_length : row_.position + tokens;
}

at::Tensor DynamicInferenceContext::append(int64_t layer_number, std::string_view name,
                                           const at::Tensor& tokens) {
  at::Tensor entry = cache_.entry(layer_number, name);
  entry.index_copy_(0, slots_.narrow(0, row_.position, tokens.size(0)), tokens.select(1, 0));
  return entry.index_select(0, slots_).unsqueeze(1);
}

at::Tensor RecordingInferenceContext::append(int64_t layer_number, std::string_view name,
                                             const at::Tensor& tokens) {
  entries_[{layer_number, std::string(name)}] = {.sizes = tokens.sizes().slice(2).vec(),
                                                 .options = tokens.options()};
  return tokens;
}

}  // namespace megatron

#include "megatron/data/mock_dataset.h"

#include "megatron/base/error.h"
#include "megatron/data/numpy_random.h"

namespace megatron {

MockLowLevelDataset::MockLowLevelDataset(int64_t vocab_size, int64_t eod_id)
    : vocab_size_(vocab_size), eod_id_(eod_id) {
  check(vocab_size > 0 && eod_id >= 0 && eod_id < vocab_size,
        "Expected an end-of-document id below the vocabulary size, but got size {} and id {}; give "
        "--vocab-size",
        vocab_size, eod_id);
  NumpyGenerator random(/*seed=*/0);
  lengths_.resize(kDocuments);
  for (auto& length : lengths_) length = random.integer(1, kMaxLength);
}

void MockLowLevelDataset::append_tokens(int64_t sequence, int64_t offset, int64_t count,
                                        std::vector<int64_t>& tokens) const {
  check(sequence >= 0 && sequence < num_sequences(),
        "Expected a mock document below {}, but got {}", num_sequences(), sequence);
  const int64_t length = sequence_length(sequence);
  check(offset >= 0 && count >= 0 && offset <= length && count <= length - offset,
        "Expected a range within the {} tokens of mock document {}, but got {} tokens from {}",
        length, sequence, count, offset);
  for (int64_t i = offset; i < offset + count; ++i) {
    tokens.push_back(i == length - 1 ? eod_id_ : (i + 1) % vocab_size_);
  }
}

}  // namespace megatron

#include "megatron/data/indexed_dataset_builder.h"

#include <cstdio>
#include <limits>
#include <utility>

#include "megatron/base/error.h"

namespace megatron {
namespace {

template <typename T>
void write_tokens(OutputFile& file, std::span<const int64_t> ids, const std::string& prefix) {
  for (const int64_t id : ids) {
    check(id >= std::numeric_limits<T>::min() && id <= std::numeric_limits<T>::max(),
          "Expected token ids for {}.bin that fit {} bytes, but got {}", prefix, sizeof(T), id);
    file.write_value(static_cast<T>(id));
  }
}

}  // namespace

IndexedDatasetBuilder::IndexedDatasetBuilder(std::string prefix, TokenType type)
    : prefix_(std::move(prefix)),
      type_(type),
      tokens_(prefix_ + ".bin"),
      index_(prefix_ + ".idx"),
      lengths_(prefix_ + ".idx.lengths"),
      pointers_(prefix_ + ".idx.pointers"),
      boundaries_(prefix_ + ".idx.documents") {
  boundaries_.write_value(int64_t{0});
}

void IndexedDatasetBuilder::add_tokens(std::span<const int64_t> ids) {
  switch (type_) {
    case TokenType::uint8:
      write_tokens<uint8_t>(tokens_, ids, prefix_);
      break;
    case TokenType::int8:
      write_tokens<int8_t>(tokens_, ids, prefix_);
      break;
    case TokenType::int16:
      write_tokens<int16_t>(tokens_, ids, prefix_);
      break;
    case TokenType::uint16:
      write_tokens<uint16_t>(tokens_, ids, prefix_);
      break;
    case TokenType::int32:
      write_tokens<int32_t>(tokens_, ids, prefix_);
      break;
    case TokenType::int64:
      write_tokens<int64_t>(tokens_, ids, prefix_);
      break;
  }
  open_length_ += static_cast<int64_t>(ids.size());
}

void IndexedDatasetBuilder::end_sequence() {
  check(open_length_ <= std::numeric_limits<int32_t>::max(),
        "Expected sequences of at most {} tokens, but sequence {} of {} has {}; split the document",
        std::numeric_limits<int32_t>::max(), num_sequences_, prefix_, open_length_);
  lengths_.write_value(static_cast<int32_t>(open_length_));
  pointers_.write_value(num_tokens_ * size_of(type_));
  num_tokens_ += open_length_;
  open_length_ = 0;
  ++num_sequences_;
}

void IndexedDatasetBuilder::end_document() {
  check(open_length_ == 0, "Expected end_sequence() before end_document() of {}", prefix_);
  boundaries_.write_value(num_sequences_);
  last_boundary_ = num_sequences_;
  ++num_boundaries_;
}

void IndexedDatasetBuilder::finalize() {
  check(open_length_ == 0 && last_boundary_ == num_sequences_,
        "Expected end_document() before finalize() of {}", prefix_);
  index_.write(kIndexMagic.data(), kIndexMagic.size());
  index_.write_value(kIndexVersion);
  index_.write_value(static_cast<uint8_t>(type_));
  index_.write_value(static_cast<uint64_t>(num_sequences_));
  index_.write_value(static_cast<uint64_t>(num_boundaries_));
  lengths_.append_to(index_);
  pointers_.append_to(index_);
  boundaries_.append_to(index_);
  tokens_.close();
  index_.close();
  // An old .idx must never be paired with a new .bin.
  std::remove((prefix_ + ".idx").c_str());
  tokens_.commit();
  index_.commit();
}

}  // namespace megatron

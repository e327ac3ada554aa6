#include "megatron/data/indexed_dataset.h"

#include <cstring>
#include <filesystem>
#include <utility>

#include "megatron/base/error.h"

namespace megatron {
namespace {

template <typename T>
T read_at(const std::byte* base, int64_t index) {
  T value;
  std::memcpy(&value, base + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

template <typename T>
void append_as(const std::byte* from, int64_t count, std::vector<int64_t>& tokens) {
  for (int64_t i = 0; i < count; ++i) tokens.push_back(read_at<T>(from, i));
}

// The prefix of the files, from the prefix itself, the name of either file, or preprocess's
// --output-prefix.
std::string resolved_prefix(std::string prefix) {
  const std::filesystem::path path = prefix;
  const bool named = path.extension() == ".bin" || path.extension() == ".idx";
  const std::string stem = named ? prefix.substr(0, prefix.size() - 4) : prefix;
  for (const std::string& candidate : {prefix, stem, prefix + "_text_document"}) {
    if (std::filesystem::exists(candidate + ".idx")) return candidate;
  }
  fail(
      "Expected a dataset at {0} (--data-path), but found neither {1}.idx nor "
      "{0}_text_document.idx; megatron preprocess makes one",
      prefix, stem);
}

}  // namespace

IndexedDataset::IndexedDataset(std::string prefix, bool map_tokens)
    : prefix_(resolved_prefix(std::move(prefix))),
      index_(prefix_ + ".idx"),
      tokens_(prefix_ + ".bin", map_tokens) {
  check_header();
  check_contents();
}

void IndexedDataset::check_header() {
  const auto size = static_cast<int64_t>(index_.size());
  check(size >= kIndexHeaderSize,
        "Expected {}.idx to begin with a header of {} bytes, but the file has {}", prefix_,
        kIndexHeaderSize, size);
  const std::byte* data = index_.data();
  check(std::memcmp(data, kIndexMagic.data(), kIndexMagic.size()) == 0,
        "Expected {}.idx to begin with MMIDIDX, but it does not: it is not a dataset index",
        prefix_);
  const auto version = read_at<uint64_t>(data + 9, 0);
  check(version == kIndexVersion, "Expected {}.idx of version {}, but got version {}", prefix_,
        kIndexVersion, version);
  const auto code = read_at<uint8_t>(data + 17, 0);
  token_type_ = static_cast<TokenType>(code);
  check(size_of(token_type_) > 0,
        "Expected {}.idx to name an integer type (1 u8, 2 i8, 3 i16, 4 i32, 5 i64, 8 u16), but got "
        "code {}",
        prefix_, code);
  const auto sequences = read_at<uint64_t>(data + 18, 0);
  const auto boundaries = read_at<uint64_t>(data + 26, 0);
  // No count can exceed the size of the file, which rules out overflow below.
  const auto limit = static_cast<uint64_t>(size);
  const bool plausible = sequences <= limit && boundaries <= limit;
  const uint64_t needed = plausible ? kIndexHeaderSize + 12 * sequences + 8 * boundaries : 0;
  // Multimodal files have one more byte per sequence.
  check(plausible && (limit == needed || limit == needed + sequences),
        "Expected {}.idx to hold the {} sequences and {} document boundaries of its header, but it "
        "has {} bytes: it is truncated or damaged",
        prefix_, sequences, boundaries, size);
  num_sequences_ = static_cast<int64_t>(sequences);
  num_boundaries_ = static_cast<int64_t>(boundaries);
  lengths_ = data + kIndexHeaderSize;
  pointers_ = lengths_ + 4 * num_sequences_;
  boundaries_ = pointers_ + 8 * num_sequences_;
}

void IndexedDataset::check_contents() {
  const auto bin_size = static_cast<int64_t>(tokens_.size());
  const int64_t item = size_of(token_type_);
  int64_t end = 0;
  for (int64_t i = 0; i < num_sequences_; ++i) {
    const int64_t length = read_at<int32_t>(lengths_, i);
    const int64_t pointer = read_at<int64_t>(pointers_, i);
    check(length >= 0 && pointer >= 0,
          "Expected sequence {} of {}.idx to have a length and an offset of at least 0, but got {} "
          "tokens at byte {}",
          i, prefix_, length, pointer);
    check(pointer <= bin_size && length * item <= bin_size - pointer,
          "Expected {}.bin to hold sequence {} ({} tokens at byte {}), but it has {} bytes: it is "
          "truncated or belongs to another .idx",
          prefix_, i, length, pointer, bin_size);
    end = std::max(end, pointer + length * item);
    num_tokens_ += length;
  }
  check(
      end == bin_size,
      "Expected {}.bin to have the {} bytes that its .idx accounts for, but it has {}: the two do "
      "not belong together",
      prefix_, end, bin_size);
  check(num_boundaries_ >= 1 && document_boundary(0) == 0 &&
            document_boundary(num_boundaries_ - 1) == num_sequences_,
        "Expected the document boundaries of {}.idx to run from 0 to {}, but they do not", prefix_,
        num_sequences_);
  for (int64_t i = 1; i < num_boundaries_; ++i) {
    check(document_boundary(i - 1) <= document_boundary(i),
          "Expected the document boundaries of {}.idx to ascend, but boundary {} is {} after {}",
          prefix_, i, document_boundary(i), document_boundary(i - 1));
  }
}

void IndexedDataset::require_tokens() const {
  const std::string documents = num_documents() == 1
                                    ? "its one document is"
                                    : fmt::format("all of its {} documents are", num_documents());
  check(num_tokens_ > 0,
        "Expected {} to hold tokens, but {} empty; preprocess text that is not (see --json-keys)",
        prefix_, documents);
}

int32_t IndexedDataset::sequence_length(int64_t sequence) const {
  return read_at<int32_t>(lengths_, sequence);
}

int64_t IndexedDataset::sequence_pointer(int64_t sequence) const {
  return read_at<int64_t>(pointers_, sequence);
}

int64_t IndexedDataset::document_boundary(int64_t document) const {
  return read_at<int64_t>(boundaries_, document);
}

void IndexedDataset::append_tokens(int64_t sequence, int64_t offset, int64_t count,
                                   std::vector<int64_t>& tokens) const {
  check(sequence >= 0 && sequence < num_sequences_,
        "Expected a sequence of {} below {}, but got {}", prefix_, num_sequences_, sequence);
  const int64_t length = sequence_length(sequence);
  check(offset >= 0 && count >= 0 && offset <= length && count <= length - offset,
        "Expected a range within the {} tokens of sequence {} of {}, but got {} tokens from {}",
        length, sequence, prefix_, count, offset);
  const int64_t size = size_of(token_type_);
  std::vector<std::byte> buffer;
  const std::byte* from =
      tokens_.bytes(static_cast<size_t>(sequence_pointer(sequence) + offset * size),
                    static_cast<size_t>(count * size), buffer);
  switch (token_type_) {
    case TokenType::uint8:
      return append_as<uint8_t>(from, count, tokens);
    case TokenType::int8:
      return append_as<int8_t>(from, count, tokens);
    case TokenType::int16:
      return append_as<int16_t>(from, count, tokens);
    case TokenType::uint16:
      return append_as<uint16_t>(from, count, tokens);
    case TokenType::int32:
      return append_as<int32_t>(from, count, tokens);
    case TokenType::int64:
      return append_as<int64_t>(from, count, tokens);
  }
}

std::vector<int64_t> IndexedDataset::sequence(int64_t sequence) const {
  check(sequence >= 0 && sequence < num_sequences_,
        "Expected a sequence of {} below {}, but got {}", prefix_, num_sequences_, sequence);
  std::vector<int64_t> tokens;
  tokens.reserve(static_cast<size_t>(sequence_length(sequence)));
  append_tokens(sequence, 0, sequence_length(sequence), tokens);
  return tokens;
}

}  // namespace megatron

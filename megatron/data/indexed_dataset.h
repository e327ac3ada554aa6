// Reads Megatron's .bin/.idx files, by default through memory maps. indexed_dataset_format.h gives the layout
// of the .idx; indexed_dataset_builder.h writes the files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "megatron/base/mapped_file.h"
#include "megatron/data/indexed_dataset_format.h"
#include "megatron/data/low_level_dataset.h"
#include "megatron/data/token_file.h"

namespace megatron {

class IndexedDataset : public LowLevelDataset {
 public:
  // Opens `prefix`.idx and `prefix`.bin. `prefix` may also be the name of either file, or the
  // --output-prefix of preprocess, which adds _text_document. Checks magic, version, sizes, that
  // every sequence lies inside the .bin, and that the documents cover the sequences. With
  // `map_tokens` false, tokens are read when they are asked for. Throws Error.
  explicit IndexedDataset(std::string prefix, bool map_tokens = true);

  int64_t num_sequences() const override { return num_sequences_; }
  int32_t sequence_length(int64_t sequence) const override;
  void append_tokens(int64_t sequence, int64_t offset, int64_t count,
                     std::vector<int64_t>& tokens) const override;
  std::string path() const override { return prefix_; }

  // Document i consists of the sequences document_boundary(i) to document_boundary(i + 1) - 1.
  int64_t num_documents() const { return num_boundaries_ - 1; }
  int64_t document_boundary(int64_t document) const;

  int64_t num_tokens() const { return num_tokens_; }
  // Throws Error if all documents are empty: nothing can be trained on them.
  void require_tokens() const;
  TokenType token_type() const { return token_type_; }

  // All tokens of one sequence.
  std::vector<int64_t> sequence(int64_t sequence) const;

 private:
  int64_t sequence_pointer(int64_t sequence) const;
  void check_header();
  void check_contents();

  std::string prefix_;
  MappedFile index_;
  TokenType token_type_ = TokenType::int32;
  int64_t num_sequences_ = 0;
  int64_t num_boundaries_ = 0;
  int64_t num_tokens_ = 0;
  const std::byte* lengths_ = nullptr;     // i32, unaligned: read by memcpy
  const std::byte* pointers_ = nullptr;    // i64
  const std::byte* boundaries_ = nullptr;  // i64
  TokenFile tokens_;
};

}  // namespace megatron

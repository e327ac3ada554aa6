// Writes Megatron's .bin/.idx files as a stream: memory does not grow with the number of tokens,
// sequences or documents. Both files appear under their names only in finalize().
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "megatron/data/indexed_dataset_format.h"
#include "megatron/formats/output_file.h"

namespace megatron {

class IndexedDatasetBuilder {
 public:
  // Will write `prefix`.bin and `prefix`.idx. Throws Error, here and in all that follows.
  IndexedDatasetBuilder(std::string prefix, TokenType type);

  // Appends to the sequence that is open. The ids must fit the token type.
  void add_tokens(std::span<const int64_t> ids);
  // Ends the open sequence, which may be empty.
  void end_sequence();
  // Ends the document: the sequences since the last end.
  void end_document();

  // A document of one sequence.
  void add_document(std::span<const int64_t> ids) {
    add_tokens(ids);
    end_sequence();
    end_document();
  }

  // Closes the files and gives them their names: first the .bin, then the .idx. The last document
  // must have been ended.
  void finalize();

  int64_t num_sequences() const { return num_sequences_; }
  int64_t num_documents() const { return num_boundaries_ - 1; }
  int64_t num_tokens() const { return num_tokens_; }

 private:
  std::string prefix_;
  TokenType type_;
  OutputFile tokens_;
  OutputFile index_;
  OutputFile lengths_;     // i32 a sequence; becomes part of the .idx
  OutputFile pointers_;    // i64 a sequence; likewise
  OutputFile boundaries_;  // i64 a document; likewise
  int64_t open_length_ = 0;
  int64_t num_tokens_ = 0;
  int64_t num_sequences_ = 0;
  int64_t num_boundaries_ = 1;
  int64_t last_boundary_ = 0;
};

}  // namespace megatron

// Writes Megatron's .bin/.idx files as a stream: memory does not grow with the number of tokens,
// sequences or documents. Both files appear under their final names in finalize().
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "megatron/data/indexed_dataset_format.h"
#include "megatron/formats/output_file.h"

namespace megatron {

class IndexedDatasetBuilder {
 public:
  // Writes to `prefix`.bin and `prefix`.idx. All members throw Error if writing fails.
  IndexedDatasetBuilder(std::string prefix, TokenType type);

  // Appends to the open sequence. Throws Error for ids that do not fit the token type.
  void add_tokens(std::span<const int64_t> ids);
  // Ends the open sequence, which may be empty.
  void end_sequence();
  // Ends the document: the sequences since the end of the previous one.
  void end_document();

  // Adds a document of one sequence.
  void add_document(std::span<const int64_t> ids) {
    add_tokens(ids);
    end_sequence();
    end_document();
  }

  // Closes the files and renames them: first the .bin, then the .idx. Throws Error if a document is
  // still open.
  void finalize();

  int64_t num_sequences() const { return num_sequences_; }
  int64_t num_documents() const { return num_boundaries_ - 1; }
  int64_t num_tokens() const { return num_tokens_; }

 private:
  std::string prefix_;
  TokenType type_;
  OutputFile tokens_;
  OutputFile index_;
  OutputFile lengths_;     // one i32 per sequence; appended to the .idx
  OutputFile pointers_;    // one i64 per sequence; appended to the .idx
  OutputFile boundaries_;  // one i64 per document; appended to the .idx
  int64_t open_length_ = 0;
  int64_t num_tokens_ = 0;
  int64_t num_sequences_ = 0;
  int64_t num_boundaries_ = 1;
  int64_t last_boundary_ = 0;
};

}  // namespace megatron

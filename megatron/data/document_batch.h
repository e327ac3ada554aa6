// A stretch of input text that one worker encodes, and the reader that cuts files into such
// stretches.
#pragma once

#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "megatron/tokenizers/pattern.h"

namespace megatron {

struct DocumentBatch {
  std::string file;
  std::string text;
  bool json_lines = false;  // whole lines, a document each; otherwise plain text
  int64_t first_line = 1;   // of json_lines, for messages
  // Plain text: byte offsets at which a document ends. What follows the last one goes on in the
  // next batch.
  std::vector<size_t> document_ends;
};

// By its name: *.jsonl, *.ndjson, *.json.
bool holds_json_lines(const std::string& file);

// Reads files one after another, holding one stretch at a time.
//
// Files of JSON lines hold one JSON object a line. All others are plain text: one document,
// or several, if `document_start` is given: each line that matches it opens a document (white space
// before the first such line belongs to the first document). A long document is cut where no
// tokenizer's words reach across: after a single newline, or before a single space, between
// characters that are not white space; only 16 MiB without such a place are cut anywhere.
class DocumentBatchReader {
 public:
  // `document_start`: a regular expression for lines of at most 4096 bytes; empty: one document a
  // file.
  DocumentBatchReader(std::vector<std::string> files, const std::string& document_start);

  // The next stretch; none at the end. Throws Error where a file cannot be read.
  std::optional<DocumentBatch> next();

  // Of all files, where they are regular ones.
  int64_t bytes_total() const { return bytes_total_; }

 private:
  bool open_next_file();
  bool fill(
      size_t size);  // until `pending_` has so many bytes or the file ends; says whether it ended
  DocumentBatch take_lines();
  DocumentBatch take_text();
  void mark_documents(DocumentBatch& batch);

  std::vector<std::string> files_;
  size_t next_file_ = 0;
  int64_t bytes_total_ = 0;
  std::optional<Pattern> document_start_;
  std::unique_ptr<PatternMatcher> matcher_;

  std::ifstream stream_;
  std::string file_;
  std::string pending_;
  bool file_open_ = false;
  bool at_end_ = false;
  int64_t line_ = 1;
  bool at_line_start_ = true;
  bool document_has_text_ = false;  // other than white space
  bool document_has_bytes_ = false;
};

}  // namespace megatron

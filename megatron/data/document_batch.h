// Reads input files in chunks that workers encode independently.
#pragma once

#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "megatron/tokenizers/pattern.h"
#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

struct DocumentBatch {
  std::string file;
  std::string text;
  bool json_lines = false;  // complete lines, one document each; otherwise plain text
  int64_t first_line = 1;   // line number at which `text` begins
  // Plain text: byte offsets at which a document ends. The text after the last one continues in the
  // next batch.
  std::vector<size_t> document_ends;
  std::string note;  // a line for the user; empty if there is nothing to say
};

struct DocumentReaderOptions {
  std::vector<std::string> files;
  // Plain text: a regular expression for the lines that open a document. Empty: one document per
  // file.
  std::string document_start;
  size_t num_keys = 1;  // plain text has only one
};

// Whether the name says that a file holds JSON lines: *.jsonl, *.ndjson, *.json.
bool named_as_json_lines(const std::string& file);

// Reads files in order, holding one chunk in memory at a time.
//
// A file holds JSON lines (one object per line) if its name says so or its first line that is not
// blank is a JSON object, which a note then tells; otherwise it is plain text. A plain-text file is
// one document, or several with `document_start`: each matching line opens a document, and white
// space before the first such line belongs to the first document. A long document is split only at
// safe cuts of the tokenizer (Tokenizer::last_safe_cut); without any, it is read into memory in
// full. So is a line longer than a chunk that is matched against `document_start`.
class DocumentBatchReader {
 public:
  // Throws Error for missing files and folders. The tokenizer must outlive the reader.
  DocumentBatchReader(DocumentReaderOptions options, const Tokenizer& tokenizer);

  // The next chunk; nullopt at the end. Throws Error for a file that cannot be read, or whose kind
  // does not fit the options.
  std::optional<DocumentBatch> next();

  // Total size of the regular files among the inputs.
  int64_t bytes_total() const { return bytes_total_; }

 private:
  bool open_next_file();
  // Reads until `pending_` has `size` bytes or the file ends. Returns whether the file has ended.
  bool fill(size_t size);
  bool opens_with_json_object();
  void check_kind() const;
  DocumentBatch take_lines();
  DocumentBatch take_text();
  // Matches the lines that are complete in `pending_` against document_start.
  void scan_lines();
  bool opens_document(std::string_view line);
  // Where to end the next chunk of plain text: 0 if more text is needed.
  size_t choose_cut() const;

  DocumentReaderOptions options_;
  const Tokenizer& tokenizer_;
  size_t next_file_ = 0;
  int64_t bytes_total_ = 0;
  std::unique_ptr<PatternMatcher> document_start_;

  std::ifstream stream_;
  std::string file_;
  std::string pending_;  // read, but not yet handed out
  bool file_open_ = false;
  bool at_end_ = false;
  bool json_lines_ = false;
  std::string note_;
  int64_t line_ = 1;
  // With document_start:
  size_t scanned_ = 0;              // lines of pending_ before this offset have been matched
  std::vector<size_t> starts_;      // offsets in pending_ at which a further document opens
  bool document_has_text_ = false;  // other than white space, in the document at scanned_
};

}  // namespace megatron

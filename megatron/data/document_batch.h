// Reads input files in chunks that workers encode independently.
#pragma once

#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "megatron/tokenizers/text/pattern.h"
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
  // Plain text: a regular expression for the lines that start a document. Empty: one document per
  // file.
  std::string document_start;
  size_t num_keys = 1;  // plain text has only one
};

// Whether the name says that a file holds JSON lines: *.jsonl, *.ndjson, *.json.
bool named_as_json_lines(const std::string& file);

// Reads files in order, holding one chunk in memory at a time.
//
// A file holds JSON lines (one object per line) if its name says so, or if its first non-blank line
// is a JSON object; DocumentBatch::note reports the second case. Every other file is plain text:
// one document, or several with `document_start`. Each matching line starts a document; white space
// before the first one belongs to the first document. A long document is split only at safe cuts of
// the tokenizer (Tokenizer::last_safe_cut); without any, all of it is read into memory. Lines
// matched against `document_start` are read into memory completely.
class DocumentBatchReader {
 public:
  // Throws Error for missing files and folders. The tokenizer must outlive the reader.
  DocumentBatchReader(DocumentReaderOptions options, const Tokenizer& tokenizer);

  // The next chunk; nullopt at the end. Throws Error for a file that cannot be read, and for a kind
  // of file that the options do not allow.
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
  bool starts_document(std::string_view line);
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
  std::vector<size_t> starts_;      // offsets in pending_ at which another document starts
  bool document_has_text_ = false;  // non-blank text in the document that contains scanned_
};

}  // namespace megatron

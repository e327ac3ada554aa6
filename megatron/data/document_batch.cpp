#include "megatron/data/document_batch.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "megatron/base/error.h"
#include "megatron/tokenizers/utf8.h"

namespace megatron {
namespace {

constexpr size_t kBatchSize = size_t{256} << 10;
constexpr size_t kLongestWithoutCut = size_t{16} << 20;
constexpr size_t kLongestStartLine = 4096;
constexpr std::string_view kBlanks = " \t\r\n\v\f";

bool is_blank(char c) {
  return kBlanks.find(c) != std::string_view::npos;
}

// The last place at or before `limit` (and after 0) where text may be cut, or 0.
size_t last_safe_cut(const std::string& text, size_t limit) {
  size_t before_space = 0;
  for (size_t i = std::min(limit, text.size() - 1); i >= 2; --i) {
    const char here = text[i];
    if (text[i - 1] == '\n' && !is_blank(here) && !is_blank(text[i - 2])) return i;
    if (before_space == 0 && here == ' ' && i + 1 < text.size() && !is_blank(text[i - 1]) &&
        !is_blank(text[i + 1])) {
      before_space = i;
    }
    // A newline within a stretch's length is preferred; further back, a space will do.
    if (before_space > 0 && before_space - i > kBatchSize / 4) break;
  }
  return before_space;
}

size_t cut_anywhere(const std::string& text, size_t limit) {
  size_t cut = limit;
  while (cut > limit - 4 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) --cut;
  return cut;
}

}  // namespace

bool holds_json_lines(const std::string& file) {
  const std::string extension = std::filesystem::path(file).extension().string();
  return extension == ".jsonl" || extension == ".ndjson" || extension == ".json";
}

DocumentBatchReader::DocumentBatchReader(std::vector<std::string> files,
                                         const std::string& document_start)
    : files_(std::move(files)) {
  check(!files_.empty(), "Expected files to read, but got none; give --input");
  for (const auto& file : files_) {
    std::error_code error;
    const auto status = std::filesystem::status(file, error);
    check(std::filesystem::exists(status), "Expected a file {}, but there is none", file);
    check(!std::filesystem::is_directory(status),
          "Expected a file, but {} is a folder; name the files "
          "in it",
          file);
    if (std::filesystem::is_regular_file(status)) {
      bytes_total_ += static_cast<int64_t>(std::filesystem::file_size(file));
    }
  }
  if (!document_start.empty()) {
    document_start_.emplace(document_start);
    matcher_ = std::make_unique<PatternMatcher>(*document_start_);
  }
}

bool DocumentBatchReader::open_next_file() {
  if (next_file_ == files_.size()) return false;
  file_ = files_[next_file_++];
  stream_ = std::ifstream(file_, std::ios::binary);
  check(stream_.is_open(), "Expected to read {}, but got: {}", file_, std::strerror(errno));
  pending_.clear();
  file_open_ = true;
  at_end_ = false;
  line_ = 1;
  at_line_start_ = true;
  document_has_text_ = document_has_bytes_ = false;
  fill(4);
  const bool compressed =
      pending_.starts_with("\x1f\x8b") || pending_.starts_with("\x28\xb5\x2f\xfd");
  check(!compressed, "Expected text or JSON lines, but {} is compressed; unpack it first", file_);
  return true;
}

bool DocumentBatchReader::fill(size_t size) {
  if (pending_.size() < size && !at_end_) {
    const size_t before = pending_.size();
    pending_.resize(size);
    stream_.read(pending_.data() + before, static_cast<std::streamsize>(size - before));
    check(!stream_.bad(), "Expected to read on in {}, but got: {}", file_, std::strerror(errno));
    pending_.resize(before + static_cast<size_t>(stream_.gcount()));
    at_end_ = pending_.size() < size;
  }
  return at_end_;
}

std::optional<DocumentBatch> DocumentBatchReader::next() {
  while (true) {
    if (!file_open_ && !open_next_file()) return std::nullopt;
    const bool json_lines = holds_json_lines(file_);
    fill(kBatchSize);
    if (pending_.empty()) {
      file_open_ = false;
      continue;
    }
    DocumentBatch batch = json_lines ? take_lines() : take_text();
    batch.file = file_;
    batch.json_lines = json_lines;
    if (at_end_ && pending_.empty()) file_open_ = false;
    return batch;
  }
}

DocumentBatch DocumentBatchReader::take_lines() {
  size_t end = pending_.rfind('\n');
  while (end == std::string::npos && !fill(2 * pending_.size())) end = pending_.rfind('\n');
  end = pending_.rfind('\n');
  DocumentBatch batch;
  batch.first_line = line_;
  const size_t size = end == std::string::npos || at_end_ ? pending_.size() : end + 1;
  batch.text = pending_.substr(0, size);
  pending_.erase(0, size);
  line_ += std::count(batch.text.begin(), batch.text.end(), '\n');
  return batch;
}

DocumentBatch DocumentBatchReader::take_text() {
  DocumentBatch batch;
  size_t cut = pending_.size();
  if (!at_end_) {
    cut = last_safe_cut(pending_, pending_.size());
    while (cut == 0 && pending_.size() < kLongestWithoutCut && !fill(2 * pending_.size())) {
      cut = last_safe_cut(pending_, pending_.size());
    }
    if (cut == 0) cut = at_end_ ? pending_.size() : cut_anywhere(pending_, kLongestWithoutCut - 1);
  }
  batch.text = pending_.substr(0, cut);
  mark_documents(batch);
  pending_.erase(0, cut);
  if (at_end_ && pending_.empty() && document_has_bytes_) {
    batch.document_ends.push_back(batch.text.size());
    document_has_text_ = document_has_bytes_ = false;
  }
  return batch;
}

// Finds the lines in batch.text that open a document. A line may end beyond it, in pending_, which
// still begins with batch.text.
void DocumentBatchReader::mark_documents(DocumentBatch& batch) {
  const size_t size = batch.text.size();
  if (!document_start_) {
    document_has_bytes_ = document_has_bytes_ || size > 0;
    return;
  }
  size_t begin = 0;
  while (begin < size) {
    const size_t newline = pending_.find('\n', begin);
    const size_t line_end = std::min(newline, pending_.size());
    if (at_line_start_ && line_end - begin <= kLongestStartLine) {
      std::string_view line(pending_.data() + begin, line_end - begin);
      if (line.ends_with('\r')) line.remove_suffix(1);
      const bool opens = valid_utf8_prefix(line) == line.size() &&
                         matcher_->find(line, 0).first != std::string_view::npos;
      if (opens && document_has_text_) {
        batch.document_ends.push_back(begin);
        document_has_text_ = false;
      }
    }
    const size_t end = std::min(newline == std::string::npos ? size : newline + 1, size);
    const std::string_view part(pending_.data() + begin, end - begin);
    document_has_bytes_ = true;
    if (part.find_first_not_of(kBlanks) != std::string_view::npos) document_has_text_ = true;
    at_line_start_ = part.ends_with('\n');
    begin = end;
  }
}

}  // namespace megatron

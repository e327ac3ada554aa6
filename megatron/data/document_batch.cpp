#include "megatron/data/document_batch.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "megatron/base/error.h"
#include "megatron/data/json_line.h"
#include "megatron/tokenizers/text/utf8.h"

namespace megatron {
namespace {

constexpr size_t kBatchSize = size_t{256} << 10;
constexpr std::string_view kBlanks = " \t\r\n\v\f";
constexpr size_t kLongestSignature = 8;
constexpr std::pair<std::string_view, const char*> kBinaryFormats[] = {
    {"\x1f\x8b", "gzip-compressed"},
    {"\x28\xb5\x2f\xfd", "zstd-compressed"},
    {"\xfd"
     "7zXZ",
     "xz-compressed"},
    {"PK\x03\x04", "zip-compressed"},
    {"PAR1\x15", "Parquet"},
};
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

// Each run of bytes that are not UTF-8 becomes U+FFFD, so that expressions see valid text only.
std::string with_valid_utf8(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const size_t valid = valid_utf8_prefix(text);
    result += text.substr(0, valid);
    text.remove_prefix(valid);
    if (text.empty()) break;
    append_utf8(0xFFFD, result);
    while (!text.empty() && valid_utf8_prefix(text.substr(0, 4)) == 0) text.remove_prefix(1);
  }
  return result;
}

}  // namespace

bool named_as_json_lines(const std::string& file) {
  const std::string extension = std::filesystem::path(file).extension().string();
  return extension == ".jsonl" || extension == ".ndjson" || extension == ".json";
}

DocumentBatchReader::DocumentBatchReader(DocumentReaderOptions options, const Tokenizer& tokenizer)
    : options_(std::move(options)), tokenizer_(tokenizer) {
  check(!options_.files.empty(), "Expected files to read, but got none; give --input");
  for (const auto& file : options_.files) {
    std::error_code error;
    const auto status = std::filesystem::status(file, error);
    check(std::filesystem::exists(status), "Expected a file {}, but it does not exist", file);
    check(!std::filesystem::is_directory(status),
          "Expected a file, but {} is a folder; give the names of the files in it", file);
    if (std::filesystem::is_regular_file(status)) {
      bytes_total_ += static_cast<int64_t>(std::filesystem::file_size(file));
    }
  }
  if (!options_.document_start.empty()) {
    document_start_ = std::make_unique<PatternMatcher>(Pattern(options_.document_start));
  }
}

bool DocumentBatchReader::open_next_file() {
  if (next_file_ == options_.files.size()) return false;
  file_ = options_.files[next_file_++];
  stream_ = std::ifstream(file_, std::ios::binary);
  check(stream_.is_open(), "Expected to read {}, but got: {}", file_, std::strerror(errno));
  pending_.clear();
  file_open_ = true;
  at_end_ = false;
  note_.clear();
  line_ = 1;
  scanned_ = 0;
  starts_.clear();
  document_has_text_ = false;
  fill(kLongestSignature);
  for (const auto& [signature, format] : kBinaryFormats) {
    check(!pending_.starts_with(signature),
          "Expected text or JSON lines, but {} is {} data; convert it first", file_, format);
  }
  json_lines_ = named_as_json_lines(file_);
  if (!json_lines_ && opens_with_json_object()) {
    json_lines_ = true;
    note_ = fmt::format("{} is read as JSON lines, since its first line is a JSON object", file_);
  }
  check_kind();
  return true;
}

bool DocumentBatchReader::fill(size_t size) {
  if (pending_.size() < size && !at_end_) {
    const size_t before = pending_.size();
    pending_.resize(size);
    stream_.read(pending_.data() + before, static_cast<std::streamsize>(size - before));
    check(!stream_.bad(), "Expected to read {} to its end, but got: {}", file_,
          std::strerror(errno));
    pending_.resize(before + static_cast<size_t>(stream_.gcount()));
    at_end_ = pending_.size() < size;
  }
  return at_end_;
}

bool DocumentBatchReader::opens_with_json_object() {
  size_t size = kBatchSize;
  while (true) {
    const bool ended = fill(size);
    std::string_view text = pending_;
    if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    const size_t begin = text.find_first_not_of(kBlanks);
    if (begin != std::string_view::npos) {
      if (text[begin] != '{') return false;
      const size_t end = text.find('\n', begin);
      if (end != std::string_view::npos || ended) {
        return is_json_object(text.substr(begin, std::min(end, text.size()) - begin));
      }
    }
    if (ended) return false;
    size *= 2;
  }
}

void DocumentBatchReader::check_kind() const {
  check(
      !json_lines_ || document_start_ == nullptr,
      "Expected plain text for --document-start, but {} holds JSON lines, one document each; leave "
      "the option out",
      file_);
  check(json_lines_ || options_.num_keys == 1,
        "Expected JSON lines for several --json-keys, but {} is plain text", file_);
}

std::optional<DocumentBatch> DocumentBatchReader::next() {
  while (true) {
    if (!file_open_ && !open_next_file()) return std::nullopt;
    fill(kBatchSize);
    if (pending_.empty()) {
      file_open_ = false;
      continue;
    }
    const int64_t first_line = line_;
    DocumentBatch batch = json_lines_ ? take_lines() : take_text();
    batch.file = file_;
    batch.json_lines = json_lines_;
    batch.first_line = first_line;
    batch.note = std::exchange(note_, "");
    line_ += std::count(batch.text.begin(), batch.text.end(), '\n');
    if (at_end_ && pending_.empty()) file_open_ = false;
    return batch;
  }
}

DocumentBatch DocumentBatchReader::take_lines() {
  size_t end = pending_.rfind('\n');
  while (end == std::string::npos && !fill(2 * pending_.size())) end = pending_.rfind('\n');
  end = pending_.rfind('\n');
  DocumentBatch batch;
  const size_t size = end == std::string::npos || at_end_ ? pending_.size() : end + 1;
  batch.text = pending_.substr(0, size);
  pending_.erase(0, size);
  return batch;
}

DocumentBatch DocumentBatchReader::take_text() {
  size_t cut = 0;
  while (true) {
    scan_lines();
    cut = choose_cut();
    if (cut > 0) break;
    fill(2 * pending_.size());
  }
  DocumentBatch batch;
  batch.text = pending_.substr(0, cut);
  pending_.erase(0, cut);
  scanned_ -= std::min(scanned_, cut);
  std::vector<size_t> later;
  for (const size_t start : starts_) {
    if (start <= cut) {
      batch.document_ends.push_back(start);
    } else {
      later.push_back(start - cut);
    }
  }
  starts_ = std::move(later);
  if (at_end_ && pending_.empty()) batch.document_ends.push_back(batch.text.size());
  return batch;
}

size_t DocumentBatchReader::choose_cut() const {
  if (at_end_) return pending_.size();
  // Some text stays behind, so that the end of the file is met with text that ends the document.
  size_t limit = pending_.size() - 1;
  if (document_start_ != nullptr) limit = std::min(limit, scanned_);
  const size_t cut = tokenizer_.last_safe_cut(pending_, limit);
  return starts_.empty() ? cut : std::max(cut, starts_.back());
}

void DocumentBatchReader::scan_lines() {
  if (document_start_ == nullptr) return;
  while (scanned_ < pending_.size()) {
    const size_t newline = pending_.find('\n', scanned_);
    if (newline == std::string::npos && !at_end_) break;
    const size_t end = std::min(newline, pending_.size());
    const std::string_view line = std::string_view(pending_).substr(scanned_, end - scanned_);
    if (document_has_text_ && starts_document(line)) {
      starts_.push_back(scanned_);
      document_has_text_ = false;
    }
    document_has_text_ |= line.find_first_not_of(kBlanks) != std::string_view::npos;
    scanned_ = std::min(end + 1, pending_.size());
  }
}

bool DocumentBatchReader::starts_document(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  const bool valid = valid_utf8_prefix(line) == line.size();
  const std::string repaired = valid ? "" : with_valid_utf8(line);
  return document_start_->find(valid ? line : repaired, 0).first != std::string_view::npos;
}

}  // namespace megatron

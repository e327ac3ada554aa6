// Reads the fields of tensorflow.Event that TensorBoardWriter writes.
#include "megatron/reporting/event_file_cut.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string_view>
#include <sys/file.h>
#include <unistd.h>
#include <vector>

#include "megatron/base/error.h"
#include "megatron/reporting/log_file.h"

namespace megatron {
namespace {

namespace fs = std::filesystem;

constexpr size_t kRecordHeader = 12, kRecordFooter = 4;  // length and checksum; checksum

// The fields of a protobuf message, in order. Ends early at damage.
class MessageFields {
 public:
  explicit MessageFields(std::string_view message) : rest_(message) {}

  struct Field {
    uint64_t number = 0, varint = 0;
    std::string_view bytes;
  };
  std::optional<Field> next() {
    const auto key = varint();
    if (!key) return std::nullopt;
    Field field{.number = *key >> 3};
    switch (*key & 7) {
      case 0:
        if (const auto value = varint()) {
          field.varint = *value;
          return field;
        }
        return std::nullopt;
      case 1:
        return take(field, 8);
      case 2:
        if (const auto size = varint()) return take(field, *size);
        return std::nullopt;
      case 5:
        return take(field, 4);
      default:
        return std::nullopt;
    }
  }

 private:
  std::optional<uint64_t> varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= uint64_t(byte & 0x7F) << shift;
      if ((byte & 0x80) == 0) return value;
    }
    return std::nullopt;
  }
  std::optional<Field> take(Field field, uint64_t size) {
    if (size > rest_.size()) return std::nullopt;
    field.bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return field;
  }

  std::string_view rest_;
};

std::string_view bytes_field(std::string_view message, uint64_t number) {
  MessageFields fields(message);
  while (const auto field = fields.next()) {
    if (field->number == number) return field->bytes;
  }
  return {};
}

bool is_our_tag(std::string_view tag) {
  constexpr std::array<std::string_view, 13> kPrefixes = {"lm loss",
                                                          "learning-rate",
                                                          "batch-size",
                                                          "grad-norm",
                                                          "throughput",
                                                          "mem-max-allocated-bytes",
                                                          "iteration-time",
                                                          "mtp_",
                                                          "moe/",
                                                          "load_balancing_loss",
                                                          "seq_load_balancing_loss",
                                                          "global_load_balancing_loss",
                                                          "z_loss"};
  return std::ranges::any_of(kPrefixes,
                             [&](std::string_view prefix) { return tag.starts_with(prefix); });
}

// Event: 2 step, 5 summary; Summary: 1 value; Value: 1 tag.
bool is_superseded_event(std::string_view event, int64_t iteration, int64_t samples) {
  const std::string_view tag = bytes_field(bytes_field(bytes_field(event, 5), 1), 1);
  if (!is_our_tag(tag)) return false;
  int64_t step = 0;
  MessageFields fields(event);
  while (const auto field = fields.next()) {
    if (field->number == 2) step = static_cast<int64_t>(field->varint);
  }
  return step > (tag.ends_with(" vs samples") ? samples : iteration);
}

struct SplitRecords {
  std::string kept, superseded;
  int64_t superseded_count = 0;
};

SplitRecords split_records(std::string_view file, int64_t iteration, int64_t samples) {
  SplitRecords split;
  while (file.size() >= kRecordHeader + kRecordFooter) {
    uint64_t length = 0;
    std::memcpy(&length, file.data(), sizeof(length));
    if (length > file.size() - kRecordHeader - kRecordFooter) break;
    const std::string_view record = file.substr(0, kRecordHeader + length + kRecordFooter);
    if (is_superseded_event(record.substr(kRecordHeader, length), iteration, samples)) {
      split.superseded += record;
      ++split.superseded_count;
    } else {
      split.kept += record;
    }
    file.remove_prefix(record.size());
  }
  return split;  // without the incomplete last record of a killed run
}

// Locks a file that no process is writing.
class UnusedFile {
 public:
  explicit UnusedFile(const fs::path& path)
      : descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    locked_ = descriptor_ >= 0 && flock(descriptor_, LOCK_EX | LOCK_NB) == 0;
  }
  ~UnusedFile() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  UnusedFile(const UnusedFile&) = delete;
  UnusedFile& operator=(const UnusedFile&) = delete;

  bool locked() const { return locked_; }

 private:
  int descriptor_;
  bool locked_ = false;
};

// Returns whether both files were written completely. A crash in between leaves the file unchanged.
bool replace_file(const fs::path& path, const fs::path& superseded, const SplitRecords& split) {
  const fs::path temporary = superseded.string() + ".tmp";
  std::error_code error;
  fs::remove(temporary, error);
  {
    LogFile moved("--tensorboard-dir", superseded, LogFile::Mode::append);
    LogFile kept("--tensorboard-dir", temporary, LogFile::Mode::create_new);
    if (!moved.append(split.superseded) || !kept.append(split.kept)) {
      fs::remove(temporary, error);
      return false;
    }
  }
  fs::rename(temporary, path, error);
  return !error;
}

int64_t cut_event_file(const fs::path& path, int64_t iteration, int64_t samples) {
  const UnusedFile unused(path);
  if (!unused.locked()) return 0;
  std::ifstream stream(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  const SplitRecords split = split_records(text, iteration, samples);
  if (split.superseded_count == 0) return 0;
  std::string name = path.filename().string();
  name.replace(name.find("tfevents"), std::string_view("tfevents").size(), "superseded");
  check(
      replace_file(path, path.parent_path() / name, split),
      "Expected to remove the steps after iteration {} from {}, but could not; free some space or "
      "give another folder to --tensorboard-dir",
      iteration, path.string());
  return split.superseded_count;
}

}  // namespace

int64_t cut_event_files(const std::string& folder, int64_t first_iteration,
                        int64_t first_consumed_samples) {
  std::error_code ignored;
  int64_t count = 0;
  if (folder.empty() || !fs::is_directory(folder, ignored)) return 0;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_regular_file(ignored) &&
        entry.path().filename().string().find("tfevents") != std::string::npos)
      files.push_back(entry.path());
  }
  std::ranges::sort(files);
  for (const fs::path& file : files)
    count += cut_event_file(file, first_iteration, first_consumed_samples);
  return count;
}

}  // namespace megatron

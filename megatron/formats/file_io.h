// Files that survive a crash: checked writes, fsync of files and folders, atomic replacement, and
// mapped reading. Knows nothing of tensors.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace megatron {

// A new file (an old one of that name is emptied). Every failure, a full disk or a file-size limit
// among them, is an Error that names the file and the cause.
class FileWriter {
 public:
  explicit FileWriter(std::filesystem::path path);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(const void* data, size_t bytes);
  // Syncs to the disk and closes. Without it the destructor only closes.
  void finish();

 private:
  std::filesystem::path path_;
  int descriptor_;
};

// Makes the names inside `directory` durable (new, renamed and removed files).
void sync_directory(const std::filesystem::path& directory);

void write_file_durably(const std::filesystem::path& path, std::string_view text);

// As above, but a reader sees either the old text or the new one, whenever the machine stops.
void replace_file_durably(const std::filesystem::path& path, std::string_view text);

// rename(2), with an Error that names both.
void rename_path(const std::filesystem::path& from, const std::filesystem::path& to);

std::string read_text_file(const std::filesystem::path& path);

}  // namespace megatron

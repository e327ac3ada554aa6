// Durable file output: checked writes, fsync of files and directories, atomic replacement.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace megatron {

// Writes a file; truncates an existing one. Every failure, such as a full disk or a file-size
// limit, throws Error with the file and the reason.
class FileWriter {
 public:
  explicit FileWriter(std::filesystem::path path);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(const void* data, size_t bytes);
  // Syncs to disk and closes. Without it, the destructor closes the file without a sync.
  void finish();

 private:
  std::filesystem::path path_;
  int descriptor_;
};

// Syncs the entries of `directory` (created, renamed and removed files).
void sync_directory(const std::filesystem::path& directory);

void write_file_durably(const std::filesystem::path& path, std::string_view text);

// Like write_file_durably, but atomic: after a crash the file holds the old or the new text.
void replace_file_durably(const std::filesystem::path& path, std::string_view text);

// rename(2). Throws Error with both paths.
void rename_path(const std::filesystem::path& from, const std::filesystem::path& to);

std::string read_text_file(const std::filesystem::path& path);

}  // namespace megatron

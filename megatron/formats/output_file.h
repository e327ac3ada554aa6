// Atomic file output: writes to a temporary file in the same directory, syncs it and renames it. On
// failure the temporary file is removed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace megatron {

class OutputFile {
 public:
  // Opens `path`.tmp.<process id>. Creates missing directories. Throws Error.
  explicit OutputFile(std::string path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // Throws Error with the file and the reason (no space left, file too large, ...).
  void write(const void* data, size_t size);
  template <typename T>
  void write_value(const T& value) {
    write(&value, sizeof value);
  }

  // Appends the content to `target` and removes this file.
  void append_to(OutputFile& target);

  // Flushes and syncs; keeps the temporary name.
  void close();
  // close(), then renames the file to its final name.
  void commit();

  uint64_t bytes_written() const { return written_; }
  const std::string& path() const { return path_; }

 private:
  void flush();
  [[noreturn]] void fail_writing(int error) const;

  std::string path_;
  std::string temporary_;
  int descriptor_ = -1;
  uint64_t written_ = 0;
  std::vector<char> buffer_;
};

}  // namespace megatron

// A file that appears under its name only when it is complete: written beside it under a temporary
// name, synced, then renamed. If anything goes wrong before that, the temporary file is removed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace megatron {

class OutputFile {
 public:
  // Opens `path`.tmp.<process id>, in a folder that is made where it is missing. Throws Error.
  explicit OutputFile(std::string path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // Throws Error naming the file and the reason (no space left, file too large, ...).
  void write(const void* data, size_t size);
  template <typename T>
  void write_value(const T& value) {
    write(&value, sizeof value);
  }

  // Everything written so far appended to `target`, in pieces; then this file is removed.
  void append_to(OutputFile& target);

  // Flushes and syncs. The file still has its temporary name.
  void close();
  // close(), then the final name.
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

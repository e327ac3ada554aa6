// An append-only file of records. A record is written completely or not at all, even on a full
// disk.
#pragma once

#include <string>
#include <string_view>

namespace megatron {

class LogFile {
 public:
  enum class Mode { append, create_new };

  // Creates missing folders. `option` is the flag that named the file. Throws Error if the file
  // cannot be opened or written (full disk), and in mode create_new if it exists.
  LogFile(std::string option, std::string path, Mode mode);
  ~LogFile();
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;

  // Writes with one system call. On failure truncates the file to its previous length and returns
  // false; error() gives the reason, and the next call tries again.
  bool append(std::string_view record);

  const std::string& path() const { return path_; }
  const std::string& error() const { return error_; }
  bool regular() const { return regular_; }  // not a device or pipe

 private:
  void probe();

  std::string option_, path_, error_;
  int descriptor_ = -1;
  bool regular_ = false;
};

// Creates the folder and its parents. Throws Error that names `option`.
void make_log_folder(const std::string& option, const std::string& folder);

}  // namespace megatron

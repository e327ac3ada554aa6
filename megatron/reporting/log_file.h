// A file that records are appended to, each whole or not at all, whatever the disk does.
#pragma once

#include <string>
#include <string_view>

namespace megatron {

class LogFile {
 public:
  enum class Mode { append, create_new };

  // Makes missing folders. `option` is the flag that asked for the file. Throws Error where the
  // file cannot be opened or takes no bytes (a full disk); in mode create_new also where it exists.
  LogFile(std::string option, std::string path, Mode mode);
  ~LogFile();
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;

  // One write that reaches the system at once. Where it fails, the file is cut back to its length
  // before, error() says why, and the next call tries again.
  bool append(std::string_view record);

  const std::string& path() const { return path_; }
  const std::string& error() const { return error_; }
  bool regular() const { return regular_; }  // neither a device nor a pipe

 private:
  void probe();

  std::string option_, path_, error_;
  int descriptor_ = -1;
  bool regular_ = false;
};

// Creates the folder and those above it. Throws Error naming `option` where that fails.
void make_log_folder(const std::string& option, const std::string& folder);

}  // namespace megatron

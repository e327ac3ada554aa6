// Uses system calls directly: their error codes distinguish a full disk from a bad path.
#include "megatron/reporting/log_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "megatron/base/error.h"

namespace megatron {

void make_log_folder(const std::string& option, const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  // Older standard libraries report failure for a link to a folder: check again.
  check(
      std::filesystem::is_directory(folder),
      "Expected {} to name a folder that can be created, but got '{}' ({}); give a folder that you "
      "may write to",
      option, folder, error ? error.message() : "it is not a folder");
}

LogFile::LogFile(std::string option, std::string path, Mode mode)
    : option_(std::move(option)), path_(std::move(path)) {
  const auto folder = std::filesystem::path(path_).parent_path();
  if (!folder.empty()) make_log_folder(option_, folder.string());
  const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
  descriptor_ = open(path_.c_str(), mode == Mode::create_new ? flags | O_EXCL : flags, 0644);
  check(
      descriptor_ >= 0,
      "Expected {} to name a file that can be written, but got '{}' ({}); give a path that you may "
      "write to",
      option_, path_, std::strerror(errno));
  flock(descriptor_, LOCK_SH | LOCK_NB);  // tells cut_event_files that the file is in use
  try {
    probe();
  } catch (...) {
    close(descriptor_);
    throw;
  }
}

LogFile::~LogFile() {
  close(descriptor_);
}

// Opening succeeds on a full disk, so write a byte and remove it. Pipes and terminals are not
// probed: the byte would be visible.
void LogFile::probe() {
  struct stat before {};
  check(fstat(descriptor_, &before) == 0,
        "Expected {} to name a file, but got '{}' ({}); give another", option_, path_,
        std::strerror(errno));
  regular_ = S_ISREG(before.st_mode);
  if (!regular_ && !(S_ISCHR(before.st_mode) && isatty(descriptor_) == 0)) return;
  const bool takes_bytes = ::write(descriptor_, "\n", 1) == 1;
  const std::string reason = std::strerror(errno);
  if (regular_ && ftruncate(descriptor_, before.st_size) != 0) errno = 0;
  check(
      takes_bytes,
      "Expected space for the file of {}, but got '{}' for '{}'; free some space or give a path on "
      "another disk",
      option_, reason, path_);
}

bool LogFile::append(std::string_view record) {
  struct stat before {};
  if (regular_ && fstat(descriptor_, &before) != 0) {
    error_ = std::strerror(errno);
    return false;
  }
  for (size_t done = 0; done < record.size();) {
    const ssize_t count = ::write(descriptor_, record.data() + done, record.size() - done);
    if (count > 0) {
      done += static_cast<size_t>(count);
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    error_ = count < 0 ? std::strerror(errno) : "no byte was taken";
    // An incomplete record would corrupt the next one.
    if (regular_ && ftruncate(descriptor_, before.st_size) != 0) {
      error_ += ", and the incomplete record could not be removed";
    }
    return false;
  }
  return true;
}

}  // namespace megatron

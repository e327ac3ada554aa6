#include "megatron/formats/file_io.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "megatron/base/error.h"

namespace megatron {
namespace {

[[noreturn]] void fail_to_write(const std::filesystem::path& path, int error) {
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  fail("Expected to write {}, but got: {}{}", path.string(), std::strerror(error),
       full ? "; free space, raise the file-size limit or use another directory" : "");
}

// A write beyond the file-size limit raises SIGXFSZ, which would end the program before the error
// is reported. Blocks the signal during its lifetime, and discards a pending one at the end.
class FileSizeSignalBlock {
 public:
  FileSizeSignalBlock() {
    sigemptyset(&signal_);
    sigaddset(&signal_, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &signal_, &previous_);
  }
  ~FileSizeSignalBlock() {
    if (sigismember(&previous_, SIGXFSZ) == 1) return;
    const timespec no_wait{};
    while (sigtimedwait(&signal_, nullptr, &no_wait) == -1 && errno == EINTR) {
    }
    pthread_sigmask(SIG_SETMASK, &previous_, nullptr);
  }
  FileSizeSignalBlock(const FileSizeSignalBlock&) = delete;
  FileSizeSignalBlock& operator=(const FileSizeSignalBlock&) = delete;

 private:
  sigset_t signal_;
  sigset_t previous_;
};

int open_retrying(const std::filesystem::path& path, int flags) {
  int descriptor;
  do {
    descriptor = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
  } while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

}  // namespace

FileWriter::FileWriter(std::filesystem::path path)
    : path_(std::move(path)), descriptor_(open_retrying(path_, O_WRONLY | O_CREAT | O_TRUNC)) {
  if (descriptor_ < 0) fail_to_write(path_, errno);
}

FileWriter::~FileWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void FileWriter::write(const void* data, size_t bytes) {
  const FileSizeSignalBlock block;
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(descriptor_, next, std::min(bytes, size_t{1} << 30));
    if (written < 0) {
      if (errno == EINTR) continue;
      fail_to_write(path_, errno);
    }
    next += written;
    bytes -= static_cast<size_t>(written);
  }
}

void FileWriter::finish() {
  if (::fsync(descriptor_) != 0) fail_to_write(path_, errno);
  if (::close(std::exchange(descriptor_, -1)) != 0) fail_to_write(path_, errno);
}

void sync_directory(const std::filesystem::path& directory) {
  const int descriptor = open_retrying(directory, O_RDONLY | O_DIRECTORY);
  if (descriptor < 0) fail_to_write(directory, errno);
  const int error = ::fsync(descriptor) == 0 ? 0 : errno;
  ::close(descriptor);
  // Some network file systems do not support fsync of directories.
  if (error != 0 && error != EINVAL && error != ENOTSUP) fail_to_write(directory, error);
}

void write_file_durably(const std::filesystem::path& path, std::string_view text) {
  FileWriter writer(path);
  writer.write(text.data(), text.size());
  writer.finish();
}

void replace_file_durably(const std::filesystem::path& path, std::string_view text) {
  std::filesystem::path temporary = path;
  temporary += ".tmp";
  try {
    write_file_durably(temporary, text);
    rename_path(temporary, path);
  } catch (const Error&) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    throw;
  }
  sync_directory(path.parent_path().empty() ? "." : path.parent_path());
}

void rename_path(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) {
    fail("Expected to rename {} to {}, but got: {}", from.string(), to.string(),
         std::strerror(errno));
  }
}

std::string read_text_file(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  check(stream.is_open() && std::filesystem::is_regular_file(path),
        "Expected a readable file {}, but there is none", path.string());
  std::string text{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  check(!stream.bad(), "Expected to read {}, but reading failed", path.string());
  return text;
}

}  // namespace megatron

#include "megatron/formats/output_file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <signal.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "megatron/base/error.h"

namespace megatron {
namespace {

constexpr size_t kBufferSize = size_t{1} << 20;

// Blocks SIGXFSZ, so that a write beyond RLIMIT_FSIZE fails with EFBIG instead of ending the
// process.
class FileSizeSignalBlocked {
 public:
  FileSizeSignalBlocked() {
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &blocked, &before_);
  }
  ~FileSizeSignalBlocked() {
    if (sigismember(&before_, SIGXFSZ) == 1) return;
    // Discard a pending signal before unblocking it.
    sigset_t pending;
    sigset_t taken;
    sigemptyset(&taken);
    sigaddset(&taken, SIGXFSZ);
    const timespec at_once{};
    if (sigpending(&pending) == 0 && sigismember(&pending, SIGXFSZ) == 1) {
      sigtimedwait(&taken, nullptr, &at_once);
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t before_{};
};

}  // namespace

OutputFile::OutputFile(std::string path) : path_(std::move(path)) {
  const std::filesystem::path folder = std::filesystem::path(path_).parent_path();
  std::error_code error;
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  check(!error, "Expected to create the directory {}, but got: {}", folder.string(),
        error.message());
  temporary_ = fmt::format("{}.tmp.{}", path_, getpid());
  descriptor_ = open(temporary_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  check(descriptor_ >= 0, "Expected to write {}, but got: {}; use a writable directory", path_,
        std::strerror(errno));
  buffer_.reserve(kBufferSize);
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void OutputFile::fail_writing(int error) const {
  fail("Expected to write {} ({} bytes so far), but got: {}; free space, or use another directory",
       path_, written_, std::strerror(error));
}

void OutputFile::write(const void* data, size_t size) {
  if (buffer_.size() + size > kBufferSize) flush();
  const auto* bytes = static_cast<const char*>(data);
  buffer_.insert(buffer_.end(), bytes, bytes + size);
  written_ += size;
}

void OutputFile::flush() {
  const FileSizeSignalBlocked blocked;
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t count = ::write(descriptor_, buffer_.data() + done, buffer_.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail_writing(count < 0 ? errno : ENOSPC);
    done += static_cast<size_t>(count);
  }
  buffer_.clear();
}

void OutputFile::append_to(OutputFile& target) {
  flush();
  std::vector<char> piece(kBufferSize);
  off_t offset = 0;
  while (true) {
    const ssize_t count = pread(descriptor_, piece.data(), piece.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    check(count >= 0, "Expected to read back {}, but got: {}", temporary_, std::strerror(errno));
    if (count == 0) break;
    target.write(piece.data(), static_cast<size_t>(count));
    offset += count;
  }
  ::close(std::exchange(descriptor_, -1));
  ::unlink(temporary_.c_str());
  temporary_.clear();
}

void OutputFile::close() {
  if (descriptor_ < 0) return;
  flush();
  // Some file systems report a full disk only here.
  if (fsync(descriptor_) != 0 && errno != EINVAL) fail_writing(errno);
  if (::close(std::exchange(descriptor_, -1)) != 0) fail_writing(errno);
}

void OutputFile::commit() {
  close();
  check(std::rename(temporary_.c_str(), path_.c_str()) == 0,
        "Expected to rename {} to {}, but got: {}", temporary_, path_, std::strerror(errno));
  temporary_.clear();
}

}  // namespace megatron

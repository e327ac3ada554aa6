#include "megatron/data/token_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "megatron/base/error.h"

namespace megatron {

TokenFile::TokenFile(const std::filesystem::path& path, bool mapped) : path_(path) {
  if (mapped) {
    mapping_.emplace(path);
    size_ = mapping_->size();
    return;
  }
  do {
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  } while (descriptor_ < 0 && errno == EINTR);
  check(descriptor_ >= 0, "Expected a readable file {}, but got: {}", path.string(),
        std::strerror(errno));
  struct stat status {};
  const bool regular = ::fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode);
  if (!regular) ::close(descriptor_);
  check(regular, "Expected a regular file, but got {}", path.string());
  size_ = static_cast<size_t>(status.st_size);
}

TokenFile::~TokenFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

const std::byte* TokenFile::bytes(size_t offset, size_t count,
                                  std::vector<std::byte>& buffer) const {
  if (mapping_) return mapping_->data() + offset;
  buffer.resize(count);
  for (size_t done = 0; done < count;) {
    const ssize_t got =
        ::pread(descriptor_, buffer.data() + done, count - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    check(got > 0, "Expected to read {} bytes at {} of {}, but got: {}", count - done,
          offset + done, path_.string(), got < 0 ? std::strerror(errno) : "the end of the file");
    done += static_cast<size_t>(got);
  }
  return buffer.data();
}

}  // namespace megatron

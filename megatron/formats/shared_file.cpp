#include "megatron/formats/shared_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

#include <ATen/ATen.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

[[noreturn]] void fail_file(const std::filesystem::path& path, const char* action, int error) {
  fail("Expected to {} {}, but got: {}", action, path.string(), std::strerror(error));
}

}  // namespace

void SharedFile::create(const std::filesystem::path& path, int64_t bytes) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor < 0) fail_file(path, "create", errno);
  // Reserves the blocks where the file system can, so that a full disk is seen before any work.
  int error = posix_fallocate(descriptor, 0, bytes);
  if (error == EOPNOTSUPP || error == EINVAL || error == ENOSYS)
    error = ::ftruncate(descriptor, bytes) == 0 ? 0 : errno;
  ::close(descriptor);
  if (error != 0) fail_file(path, "reserve the space of", error);
}

SharedFile::SharedFile(std::filesystem::path path)
    : path_(std::move(path)), descriptor_(::open(path_.c_str(), O_WRONLY | O_CLOEXEC)) {
  if (descriptor_ < 0) fail_file(path_, "open", errno);
}

SharedFile::SharedFile(SharedFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

SharedFile::~SharedFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void SharedFile::write(int64_t offset, const void* data, size_t bytes) {
  const auto* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::pwrite(descriptor_, next, bytes, offset);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail_file(path_, "write", written < 0 ? errno : ENOSPC);
    next += written;
    offset += written;
    bytes -= static_cast<size_t>(written);
  }
}

void SharedFile::write_region(int64_t offset, const std::vector<int64_t>& shape,
                              const Rectangle& region, const at::Tensor& values) {
  if (values.numel() == 0) return;
  const at::Tensor memory = values.detach().to(at::kCPU).contiguous();
  const auto item = static_cast<int64_t>(memory.element_size());
  // The trailing dimensions that the region covers are one run of memory with the one before them.
  size_t outer = shape.size();
  int64_t run = 1;
  while (outer > 0) {
    --outer;
    run *= region.shape[outer];
    if (region.shape[outer] != shape[outer]) break;
  }
  std::vector<int64_t> stride(shape.size(), 1);
  for (size_t d = shape.size(); d-- > 1;) stride[d - 1] = stride[d] * shape[d];
  std::vector<int64_t> at(outer, 0);  // within the region
  const auto* next = static_cast<const char*>(memory.const_data_ptr());
  for (int64_t left = memory.numel() / run; left > 0; --left) {
    int64_t position = 0;
    for (size_t d = 0; d < shape.size(); ++d)
      position += (region.offset[d] + (d < outer ? at[d] : 0)) * stride[d];
    write(offset + position * item, next, static_cast<size_t>(run * item));
    next += run * item;
    for (size_t d = outer; d-- > 0;) {
      if (++at[d] < region.shape[d]) break;
      at[d] = 0;
    }
  }
}

void SharedFile::sync() {
  if (::fsync(descriptor_) != 0) fail_file(path_, "sync", errno);
}

}  // namespace megatron

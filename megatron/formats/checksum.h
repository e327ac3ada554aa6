// Checksum of checkpoints: XXH3-64 as 16 hexadecimal digits, as `xxhsum -H3` prints it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace megatron {

class Checksum {
 public:
  Checksum();
  void update(const void* data, size_t bytes);
  std::string hex() const;

 private:
  struct Release {
    void operator()(void* state) const;
  };
  std::unique_ptr<void, Release> state_;
};

std::string checksum_hex(const void* data, size_t bytes);

}  // namespace megatron

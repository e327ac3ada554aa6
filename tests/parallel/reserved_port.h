// A TCP port for a test that starts ranks by hand.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <random>
#include <stdexcept>
#include <string>
#include <sys/socket.h>
#include <unistd.h>

namespace megatron {

// Reserves a port that is free now and that no other ReservedPort, of any process, has. It lies
// below Linux's range for outgoing connections, so that no connection takes it either. The test's
// ranks may listen on it while this object lives.
class ReservedPort {
 public:
  ReservedPort() {
    std::random_device random;
    for (int attempt = 0; attempt < 1000; ++attempt) {
      number_ = 10'000 + static_cast<int>(random() % 22'000);
      // The UDP port of the same number is the lock. It goes when this process ends.
      lock_ = bind_to(SOCK_DGRAM);
      if (lock_ < 0) continue;
      if (const int probe = bind_to(SOCK_STREAM); probe >= 0) {
        close(probe);
        return;
      }
      close(lock_);
    }
    throw std::runtime_error("Expected a free port, but found none");
  }
  ~ReservedPort() { close(lock_); }
  ReservedPort(const ReservedPort&) = delete;
  ReservedPort& operator=(const ReservedPort&) = delete;

  int number() const { return number_; }
  std::string text() const { return std::to_string(number_); }

 private:
  // A socket that is bound to the port, or -1.
  int bind_to(int type) const {
    const int descriptor = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(number_));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0)
      return descriptor;
    close(descriptor);
    return -1;
  }

  int number_ = 0;
  int lock_ = -1;
};

}  // namespace megatron

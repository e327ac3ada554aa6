// Stores over TCP. Where all ranks are local, the listening socket is created here, so that it
// listens on the loopback interface only and a port in use is an error at once.
#include "megatron/parallel/rendezvous.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <exception>
#include <netinet/in.h>
#include <numeric>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "megatron/base/error.h"

namespace megatron {
namespace {

[[noreturn]] void fail_port_in_use(int port) {
  fail(
      "Expected port {} to be free for the store of this run, but another program uses it; pass "
      "another with --master-port (or MASTER_PORT), or with --nproc leave it out for a free one",
      port);
}

// A bound socket and its port.
std::pair<int, int> bind_local(const std::string& host, int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  const std::string number = host == "localhost" ? "127.0.0.1" : host;
  check(
      inet_pton(AF_INET, number.c_str(), &address.sin_addr) == 1,
      "Expected --master-addr to be an IPv4 address of this machine for local ranks, but got '{}'; "
      "127.0.0.1 works",
      host);
  const int socket_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  check(socket_fd >= 0, "Expected a socket, but the system refused: {}", std::strerror(errno));
  const int on = 1;
  setsockopt(socket_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  socklen_t length = sizeof(address);
  // With SO_REUSEADDR two sockets can bind one port, but only one can listen.
  if (bind(socket_fd, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      listen(socket_fd, SOMAXCONN) != 0 ||
      getsockname(socket_fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    const int reason = errno;
    close(socket_fd);
    if (reason == EADDRINUSE) fail_port_in_use(port);
    fail("Expected to listen at {}:{}, but the system refused: {}; another --master-port may work",
         host, port, std::strerror(reason));
  }
  return {socket_fd, ntohs(address.sin_port)};
}

std::string failure_key(int rank) {
  return fmt::format("megatron/failure/{}", rank);
}

std::string left_key(int rank) {
  return fmt::format("megatron/left/{}", rank);
}

}  // namespace

LocalStore host_local_store(const std::string& host, int port, std::chrono::milliseconds timeout) {
  const auto [socket_fd, bound] = bind_local(host, port);
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(bound);
  options.isServer = true;
  options.waitWorkers = false;
  options.timeout = timeout;
  options.masterListenFd = socket_fd;
  return {c10::make_intrusive<c10d::TCPStore>(host, options), bound};
}

c10::intrusive_ptr<c10d::Store> join_store(const RankIdentity& identity,
                                           std::chrono::milliseconds timeout) {
  c10::intrusive_ptr<c10d::Store> store;
  const bool loopback =
      identity.master_addr == "localhost" || identity.master_addr.starts_with("127.");
  if (identity.hosts_store && identity.all_local() && loopback) {
    store = host_local_store(identity.master_addr, identity.master_port, timeout).store;
  } else {
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(identity.master_port);
    options.isServer = identity.hosts_store;
    options.waitWorkers = false;
    options.timeout = timeout;
    try {
      store = c10::make_intrusive<c10d::TCPStore>(identity.master_addr, options);
    } catch (const std::exception& error) {
      const std::string text = error.what();
      if (identity.hosts_store && text.find("EADDRINUSE") != std::string::npos) {
        fail_port_in_use(identity.master_port);
      }
      fail(
          "Expected to reach the store of rank 0 at {}:{} within {:.4g} minutes, but could not "
          "({}); check MASTER_ADDR and MASTER_PORT, and that rank 0 runs",
          identity.master_addr, identity.master_port, timeout.count() / 60000.0,
          text.substr(0, text.find('\n')));
    }
  }
  if (identity.attempt.empty()) return store;
  return c10::make_intrusive<c10d::PrefixStore>("attempt/" + identity.attempt, store);
}

void report_failure(c10d::Store& store, int rank, const RankFailure& failure) {
  store.set(failure_key(rank), std::to_string(static_cast<int>(failure.kind)) + failure.text);
}

std::optional<RankFailure> reported_failure(c10d::Store& store, int rank) {
  if (!store.check({failure_key(rank)})) return std::nullopt;
  const std::string text = store.get_to_str(failure_key(rank));
  if (text.empty()) return std::nullopt;
  return RankFailure{static_cast<FailureKind>(text[0] - '0'), text.substr(1)};
}

void leave_world(c10d::Store& store, int rank) {
  store.set(left_key(rank), std::string("left"));
}

std::vector<int> ranks_still_running(c10d::Store& store, int world_size,
                                     std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  std::vector<int> ranks(static_cast<size_t>(world_size));
  std::iota(ranks.begin(), ranks.end(), 0);
  while (true) {
    std::erase_if(ranks, [&](int rank) { return store.check({left_key(rank)}); });
    if (ranks.empty() || std::chrono::steady_clock::now() >= end) return ranks;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace megatron
